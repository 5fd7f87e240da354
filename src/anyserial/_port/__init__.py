"""What the async and the blocking port share."""
