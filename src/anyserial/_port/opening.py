"""From a path to an open port: devices that only this process has come first, and watchers hear of each port."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final, Protocol

from .._backends.base import Backend
from .._backends.meter import PortListener
from .._backends.readiness import checkpoint
from .._platform import open_backend
from .._types import PortInfo
from ..capabilities import SerialCapabilities
from ..config import SerialConfig
from ..exceptions import ConfigurationError, PortNotFoundError, errno_to_exception
from .calls import PortState
from .schemes import is_address, open_address

if TYPE_CHECKING:
    import ssl

#: Frames that are kept of who opened a port.
_FRAMES: Final = 16

#: How paths open that only this process has.
_published: Final[dict[str, Callable[[SerialConfig], Backend]]] = {}

#: What each `opened_ports` has collected.
_collections: Final[list[list[OpenedPort]]] = []


#: What each `watch_ports` calls.
_watchers: Final[list[Callable[[OpenedPort], object]]] = []


class _Port(Protocol):
    @property
    def config(self) -> SerialConfig: ...
    @property
    def capabilities(self) -> SerialCapabilities: ...
    @property
    def port_info(self) -> PortInfo | None: ...
    def _abort(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class OpenedPort:
    """A port that was opened. It holds no reference to the port.

    Attributes:
        path: As given at open.
        config: The config it was opened with.
        capabilities: Those of the port.
        port_info: What discovery knew about the device, or `None`.
        is_blocking: Whether it is a port of `anyserial.sync`.
    """

    path: str
    config: SerialConfig
    capabilities: SerialCapabilities
    port_info: PortInfo | None
    is_blocking: bool
    _calls: tuple[tuple[CodeType, int], ...]
    _state: PortState
    _port: weakref.ref[_Port]

    @property
    def callers(self) -> list[traceback.FrameSummary]:
        """The frames that led to the open, the innermost first; those of the library are left out."""
        return [
            traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False)
            for code, line in self._calls
        ]

    @property
    def left_open(self) -> bool:
        """Whether nobody closed it, though it may have been collected and its device released."""
        return not self._state.closed or self._state.collected

    def close(self) -> None:
        """Release the device if it is open, discarding output; from anywhere, without waiting."""
        port = self._port()
        if port is not None:
            port._abort()

    def tap(self, listener: PortListener) -> Callable[[], None]:
        """Let `listener` hear of each transfer and control call of the port from now on.

        A port can have several listeners. Returns a function that detaches this one.
        """
        return self._state.meter.attach(listener)


@contextmanager
def opened_ports() -> Generator[list[OpenedPort]]:
    """Collect every port, async or blocking, that this process opens by path within the block."""
    found: list[OpenedPort] = []
    _collections.append(found)
    try:
        yield found
    finally:
        # By identity: empty lists are equal.
        del _collections[next(number for number, one in enumerate(_collections) if one is found)]


@contextmanager
def watch_ports(on_open: Callable[[OpenedPort], object]) -> Generator[None]:
    """Call `on_open` for every port, async or blocking, that comes into being in this process within the block.

    It is called before a byte moves on the port, on the thread that opens it, for a port that was opened by its path as
    well as for one that was made from a backend. `on_open` may attach listeners by `OpenedPort.tap`, which outlive the
    block. It must not raise.
    """
    _watchers.append(on_open)
    try:
        yield
    finally:
        del _watchers[next(number for number, one in enumerate(_watchers) if one is on_open)]


@contextmanager
def published(path: str, opener: Callable[[SerialConfig], Backend]) -> Generator[None]:
    """Let `path` be opened by `opener` in this process, for the length of a `with` block.

    Raises:
        ValueError: It is published already.
    """
    if path in _published:
        raise ValueError(f"{path} is a mock port of this process already: choose another path")
    _published[path] = opener
    try:
        yield
    finally:
        del _published[path]


async def open_device(path: str, config: SerialConfig, tls: ssl.SSLContext | None = None) -> Backend:
    """Open the device at `path`, or behind that address, and apply `config`."""
    opener = _published.get(path)
    if opener is None and is_address(path):
        try:
            opened = await open_address(path, config, tls)
        except OSError as exc:
            raise errno_to_exception(exc, context="open", path=path) from exc
        if not isinstance(opened, str):
            return opened
        path = opened
        opener = _published.get(path)
    if tls is not None:
        raise ConfigurationError(f"tls is for remote ports (rfc2217://host:port), and {path} is none")
    if opener is None:
        if "\0" in path:
            raise PortNotFoundError(errno.ENOENT, "no path has a NUL character in it", path)
        return await open_backend(path, config)
    await checkpoint()
    try:
        return opener(config)
    except OSError as exc:
        raise errno_to_exception(exc, context="open", path=path) from exc


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as text, whichever way it was given.

    Raises:
        TypeError: It is no path.
    """
    return os.fsdecode(path)


def note_opened(port: _Port, state: PortState, *, is_blocking: bool = False) -> None:
    """Tell those who watch that the caller has opened `port`."""
    if _collections:
        opened = _opened(port, state, is_blocking)
        for found in _collections:
            found.append(opened)


def note_made(port: _Port, state: PortState, *, is_blocking: bool = False) -> None:
    """Tell the watchers of a port that no byte has passed yet."""
    if _watchers:
        opened = _opened(port, state, is_blocking)
        for on_open in tuple(_watchers):
            on_open(opened)


def _opened(port: _Port, state: PortState, is_blocking: bool) -> OpenedPort:
    return OpenedPort(
        state.path,
        port.config,
        port.capabilities,
        port.port_info,
        is_blocking,
        _calls(sys._getframe(2)),
        state,
        weakref.ref(port),
    )


def _calls(frame: FrameType | None) -> tuple[tuple[CodeType, int], ...]:
    found: list[tuple[CodeType, int]] = []
    while frame is not None and len(found) < _FRAMES:
        module: str = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] != __name__.partition(".")[0]:
            found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)
