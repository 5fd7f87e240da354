"""Recordings of what a device said, and the far end that plays them."""
