"""Ports behind a TCP connection: RFC 2217 (`rfc2217://`) and bytes alone (`socket://`)."""
