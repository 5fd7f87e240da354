"""Test kit for drivers of serial devices."""
