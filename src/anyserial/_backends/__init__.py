"""The backends behind a port: open devices, each with the same few methods (`base.Backend`)."""
