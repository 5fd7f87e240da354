"""Examine a bench, and propose a bench file for what is plugged in."""
