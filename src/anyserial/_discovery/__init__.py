"""The serial ports of this machine. One module per system, each exporting the same two functions."""
