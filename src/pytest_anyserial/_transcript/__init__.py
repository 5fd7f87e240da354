"""What passed on the ports of a test."""
