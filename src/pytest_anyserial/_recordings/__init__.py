"""Recordings of a device, and the far end that replays them."""
