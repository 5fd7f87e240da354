"""Which instances of a test there are: one per link that has what the test requires, and per event loop."""
