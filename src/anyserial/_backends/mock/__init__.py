"""Two ports in memory that are joined by a cable, and what can go wrong on it."""
