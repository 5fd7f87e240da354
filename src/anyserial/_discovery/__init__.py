"""Which serial ports this machine has. One module per system, each exporting the same two functions."""
