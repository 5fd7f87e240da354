"""The scripted device at the far end."""
