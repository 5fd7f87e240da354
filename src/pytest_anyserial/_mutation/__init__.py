"""`--serial-mutate`: run each passing test again with one thing wrong on its wire, and see whether it notices."""
