"""Open a path. Paths published by this process (mock pairs) win over the system's; every port is announced."""

from __future__ import annotations

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
from .._dataclass import dataclass
from .._platform import open_backend
from .._types import PortInfo
from ..capabilities import SerialCapabilities
from ..config import SerialConfig
from ..exceptions import ConfigurationError, PortNotFoundError, errno_to_exception
from .calls import PortState
from .schemes import is_address, open_address

if TYPE_CHECKING:
    import ssl

#: Frames that are kept of the stack that opened a port, those of this package included.
_FRAMES: Final = 22
#: Where the modules of this package are.
_OWN_FOLDER: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep

#: The openers of the paths that only this process has.
_published: Final[dict[str, Callable[[SerialConfig], Backend]]] = {}

#: The list that each running `opened_ports` has collected.
_collections: Final[list[list[OpenedPort]]] = []


#: The function that each running `watch_ports` calls.
_watchers: Final[list[Callable[[OpenedPort], object]]] = []


class _Port(Protocol):
    @property
    def config(self) -> SerialConfig: ...
    @property
    def capabilities(self) -> SerialCapabilities: ...
    @property
    def port_info(self) -> PortInfo | None: ...
    def _abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class OpenedPort:
    """A port that was opened. It holds no reference to the port.

    Attributes:
        path: The path as given at open.
        config: The config it was opened with.
        capabilities: The capabilities of the port.
        port_info: The entry that discovery had for the device, or `None`.
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
        """The frames that led to the open, innermost first, without the frames of the library."""
        return [
            traceback.FrameSummary(code.co_filename, _line_at(code, offset), code.co_name, lookup_line=False)
            for code, offset in self._calls
            if not code.co_filename.startswith(_OWN_FOLDER)
        ]

    @property
    def left_open(self) -> bool:
        """Whether it was never closed. It may have been garbage-collected, which has released its device."""
        return not self._state.closed or self._state.collected

    def close(self) -> None:
        """Release the device if it is open, discarding output; from any thread, without waiting."""
        port = self._port()
        if port is not None:
            port._abort()

    def tap(self, listener: PortListener) -> Callable[[], None]:
        """Report each transfer and control call of the port to `listener` from now on.

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
        # Compare by identity, because empty lists are equal.
        del _collections[next(number for number, one in enumerate(_collections) if one is found)]


@contextmanager
def watch_ports(on_open: Callable[[OpenedPort], object]) -> Generator[None]:
    """Call `on_open` for every port, async or blocking, that is created in this process within the block.

    It is called on the thread that creates the port, before a byte moves, whether the port was opened by its path or
    made from a backend. `on_open` may attach listeners by `OpenedPort.tap`, which outlive the block. It must not raise.
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
        ValueError: `path` is published already.
    """
    if path in _published:
        raise ValueError(f"{path} is a mock port of this process already: choose another path")
    _published[path] = opener
    try:
        yield
    finally:
        del _published[path]


async def open_device(path: str, config: SerialConfig, tls: ssl.SSLContext | None = None) -> Backend:
    """Open the device at `path`, which may be an address, and apply `config`."""
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
    """Return a path of any type as text.

    Raises:
        TypeError: `path` is not a path.
    """
    return os.fsdecode(path)


def note_opened(port: _Port, state: PortState, *, is_blocking: bool = False) -> None:
    """Add `port`, which the caller has opened by path, to the list of each running `opened_ports`."""
    if _collections:
        opened = _opened(port, state, is_blocking)
        for found in _collections:
            found.append(opened)


def note_made(port: _Port, state: PortState, *, is_blocking: bool = False) -> None:
    """Announce a new port, on which no byte has moved yet, to each running `watch_ports`."""
    if _watchers:
        opened = _opened(port, state, is_blocking)
        for on_open in tuple(_watchers):
            on_open(opened)


def _opened(port: _Port, state: PortState, is_blocking: bool) -> OpenedPort:
    if state.opened_by is None:
        state.opened_by = _calls(sys._getframe(2))
    return OpenedPort(
        state.path,
        port.config,
        port.capabilities,
        port.port_info,
        is_blocking,
        state.opened_by,
        state,
        weakref.ref(port),
    )


def _calls(frame: FrameType | None) -> tuple[tuple[CodeType, int], ...]:
    # Every port of a test comes here, and few are ever asked for: the rest is done when one is.
    found: list[tuple[CodeType, int]] = []
    for _ in range(_FRAMES):
        if frame is None:
            break
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def _line_at(code: CodeType, offset: int) -> int:
    """Return the line of the instruction at an offset."""
    lines = [line for start, end, line in code.co_lines() if start <= offset < end and line is not None]
    return lines[0] if lines else code.co_firstlineno
