"""Protocol views: what the bytes of a test mean."""
