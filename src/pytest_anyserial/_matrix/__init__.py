"""Generate the instances of a test: one for each link that meets its requirements and each event loop."""
