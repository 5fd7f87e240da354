"""The bench file, the devices that it names, and the exclusive use of them."""
