"""Addresses of remote ports: `rfc2217://host:port` and `socket://host:port`, with `?timeout=3`."""

from __future__ import annotations

import dataclasses
import math
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ...exceptions import ConfigurationError

#: Seconds to connect, and to wait for each answer of the server.
DEFAULT_TIMEOUT: Final = 3.0

# Options of pyserial's URLs that are not needed here: missing answers are detected, and servers report line changes.
_WITHOUT_EFFECT: Final = frozenset({"ign_set_control", "poll_modem", "logging"})


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteAddress:
    """The address of a remote port.

    Attributes:
        scheme: `rfc2217` or `socket`.
        host: A host name or IP address, without brackets.
        port: The TCP port.
        timeout: Seconds to connect, and to wait for each answer of the server.
    """

    scheme: str
    host: str
    port: int
    timeout: float = DEFAULT_TIMEOUT


def parse(url: str) -> RemoteAddress:
    """Parse an address.

    Raises:
        ConfigurationError: A part is missing or wrong.
    """
    scheme, _, _ = url.partition("://")
    scheme = scheme.lower()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigurationError(f"{url!r} is not an address: {exc}") from None
    if not parts.hostname or not port:
        raise ConfigurationError(f"{url!r} needs a host and a TCP port: {scheme}://host:port")
    if parts.username is not None or parts.path not in ("", "/") or parts.fragment:
        raise ConfigurationError(f"{url!r} has more than a host and a TCP port: {scheme}://host:port?timeout=3")
    timeout = DEFAULT_TIMEOUT
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "timeout":
            timeout = _seconds(value, url)
        elif name not in _WITHOUT_EFFECT:
            raise ConfigurationError(f"unknown option {name!r} in {url!r}. Known: timeout")
    return RemoteAddress(scheme, parts.hostname, port, timeout)


def _seconds(value: str, url: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(f"timeout={value} in {url!r} must be a positive number of seconds")
    return seconds
