"""The blocking port's own parts: transfers on the calling thread, and the event loop behind everything else."""
