"""The code that the async and the blocking port share."""
