"""Addresses that open a port, by scheme: the remote ports of this library, and the schemes that projects register."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from .._backends.adapted import FirstBackend, adapted
from .._backends.base import Backend
from .._backends.features import warn_caller
from ..config import SerialConfig
from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    import ssl

#: Opens an address with a config, and with TLS if it is given. Returns a device, or the path to open in its place.
SchemeOpener: TypeAlias = (
    "Callable[[str, SerialConfig, ssl.SSLContext | None], Awaitable[Backend | FirstBackend | str]]"
)

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
#: An address may lead to another one. A chain longer than this is treated as a circle.
_LONGEST_WAY: Final = 8


async def _remote(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> Backend:
    # Imported late, because it needs sockets and TLS, which take long to import.
    from .._backends.remote.rfc2217_port import open_remote

    return await open_remote(url, config, warn_caller, tls)


_openers: Final[dict[str, SchemeOpener]] = {"rfc2217": _remote, "socket": _remote}


def register_scheme(scheme: str, opener: SchemeOpener, /) -> Callable[[], None]:
    """Let addresses that begin with `scheme://` open a port, in this process, async and blocking.

    Args:
        scheme: Lower-case letters and digits, such as `"lab"`.
        opener: `await opener(url, config, tls)` returns an open device with `config` in force, or the path or address
            to open in its place. `tls` is the caller's, or None. Its exceptions reach the caller unchanged.

    Returns:
        A function that removes the scheme again.

    Raises:
        ValueError: `scheme` is not a valid scheme, or it has an opener already.
    """
    if not _SCHEME.fullmatch(scheme):
        raise ValueError(f"{scheme!r} is no scheme: use lower-case letters and digits, such as 'lab'")
    if scheme in _openers:
        raise ValueError(f"{scheme}:// has an opener already: choose another scheme")
    _openers[scheme] = opener

    def remove() -> None:
        if _openers.get(scheme) is opener:
            del _openers[scheme]

    return remove


def is_address(path: str) -> bool:
    """Whether a path is an address, that is, begins with `scheme://`. No device has such a name."""
    return _ADDRESS.match(path) is not None


async def open_address(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> Backend | str:
    """Open the device at an address, or return the path to open in its place.

    Raises:
        ConfigurationError: The scheme is unknown, or the address leads in a circle.
        OSError: The opener raised it.
    """
    place = url
    for _ in range(_LONGEST_WAY):
        found = _ADDRESS.match(place)
        if found is None:
            return place
        opened = await _opener_of(found[1].lower(), place)(place, config, tls)
        if not isinstance(opened, str):
            return adapted(opened)
        place = opened
    raise ConfigurationError(f"{url!r} leads from address to address in a circle: the last one is {place!r}")


def _opener_of(scheme: str, url: str) -> SchemeOpener:
    opener = _openers.get(scheme)
    if opener is not None:
        return opener
    # Imported late, because only a mistake needs it.
    import difflib

    close = difflib.get_close_matches(scheme, _openers, n=1)
    hint = f": did you mean {close[0]}://?" if close else "."
    known = ", ".join(f"{name}://" for name in _openers)
    raise ConfigurationError(f"unknown scheme {scheme}:// in {url!r}{hint} Known: {known}")
