"""Write a small driver project that runs, for newcomers to copy from."""
