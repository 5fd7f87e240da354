"""Terminals of POSIX systems. Each system is a table of facts that exports the same names as its sisters."""
