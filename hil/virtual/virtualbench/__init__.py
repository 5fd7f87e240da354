"""Emulated serial adapters for real kernel drivers, and the machine that runs them; standard library only."""
