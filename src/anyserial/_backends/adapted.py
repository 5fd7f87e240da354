"""Wrappers for backends that other projects wrote for the first version of the `Backend` protocol.

In that version control calls were plain methods, a close finished before it returned, and the port counted transfers.
This is the only module that tests which methods a backend has.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from .._types import ControlLines, LineErrors, ModemLines, PortInfo
from ..capabilities import SerialCapabilities
from ..config import SerialConfig
from .base import RELEASED, Backend, HasDescriptor, Release, WaitsOnThread
from .meter import Meter
from .on_thread import DescriptorOnThread
from .readiness import LARGEST_TRANSFER

#: Classes known to satisfy the protocol. The check takes as long as a system call, so it is made once per class.
_known_classes: Final[weakref.WeakSet[type]] = weakref.WeakSet()


def adapted(backend: object) -> Backend:
    """Return `backend` itself, or a wrapper if it is of the first version.

    Raises:
        TypeError: `backend` satisfies neither version.
    """
    if type(backend) in _known_classes:
        return backend  # type: ignore[return-value]
    if isinstance(backend, Backend):
        _known_classes.add(type(backend))
        return backend
    if isinstance(backend, FirstBackend):
        return _Adapted(backend, backend if isinstance(backend, FirstReadinessBackend) else None)
    raise TypeError(f"backend must satisfy the Backend protocol, not {type(backend).__name__}")


@runtime_checkable
class FirstBackend(Protocol):
    """The first version of a backend. Its transfers are those of `Backend`."""

    @property
    def path(self) -> str: ...
    @property
    def capabilities(self) -> SerialCapabilities: ...
    async def read_some(self, view: memoryview, /) -> int: ...
    async def write_some(self, view: memoryview, /) -> int: ...
    async def drain_hardware(self) -> None: ...
    def close(self) -> None: ...
    def configure(self, config: SerialConfig, /) -> None: ...
    def input_waiting(self) -> int: ...
    def output_waiting(self) -> int: ...
    def discard_input(self) -> None: ...
    def discard_output(self) -> None: ...
    def set_break(self, on: bool, /) -> None: ...
    def modem_lines(self) -> ModemLines: ...
    def control_lines(self) -> ControlLines: ...
    def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None: ...
    def line_errors(self) -> LineErrors: ...


@runtime_checkable
class FirstReadinessBackend(FirstBackend, Protocol):
    """A first-version backend with a descriptor, and with transfers that raise `BlockingIOError` instead of waiting."""

    def fileno(self) -> int: ...
    def read_nowait(self, view: memoryview, /) -> int: ...
    def write_nowait(self, view: memoryview, /) -> int: ...
    async def wait_readable(self) -> None: ...


class _Adapted:
    def __init__(self, backend: FirstBackend, descriptor: FirstReadinessBackend | None) -> None:
        self.path = backend.path
        self.capabilities = backend.capabilities
        self.port_info: PortInfo | None = None
        self.meter = Meter()
        self._backend = backend
        self._readiness = descriptor
        self.drain_hardware = backend.drain_hardware
        self.input_waiting = backend.input_waiting
        self.output_waiting = backend.output_waiting
        self.discard_input = backend.discard_input
        self.discard_output = backend.discard_output
        self.set_break = backend.set_break

    @property
    def descriptor(self) -> HasDescriptor | None:
        return self._readiness

    def on_thread(self) -> WaitsOnThread | None:
        own = self._readiness
        if own is None:
            return None
        read, write = _tried(own.read_nowait, self._count_read), _tried(own.write_nowait, self._count_write)
        return DescriptorOnThread.over(own.fileno(), read, read, write)

    async def read_some(self, view: memoryview, /) -> int:
        return self._count_read(await self._backend.read_some(view))

    async def read_bytes(self, limit: int, /) -> bytes:
        view = memoryview(bytearray(min(limit, LARGEST_TRANSFER)))
        return bytes(view[: await self.read_some(view)])

    read_queued = read_some

    async def write_some(self, view: memoryview, /) -> int:
        return self._count_write(await self._backend.write_some(view))

    async def wait_input(self) -> None:
        # Without a descriptor, only a read can wait, so return early.
        if self._readiness is not None:
            await self._readiness.wait_readable()

    def hold(self, data: memoryview | bytes, /) -> None:
        """Do nothing: a first-version backend cannot keep bytes."""

    def drop_held(self) -> None:
        """Do nothing: the backend drops what it keeps when it is closed."""

    async def configure(self, config: SerialConfig, /) -> None:
        self._backend.configure(config)

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        self._backend.set_control_lines(rts=rts, dtr=dtr)

    async def modem_lines(self) -> ModemLines:
        return self._backend.modem_lines()

    async def control_lines(self) -> ControlLines:
        return self._backend.control_lines()

    async def line_errors(self) -> LineErrors:
        return self._backend.line_errors()

    def close(self, *, discard: bool) -> Release:
        if discard:
            # A vanished device refuses the call.
            with contextlib.suppress(OSError):
                self._backend.discard_output()
        with contextlib.suppress(OSError):
            self._backend.close()
        return RELEASED

    def _count_read(self, count: int) -> int:
        self.meter.read_calls += 1
        self.meter.bytes_received += count
        return count

    def _count_write(self, count: int) -> int:
        self.meter.write_calls += 1
        self.meter.bytes_sent += count
        return count


def _tried(transfer: Callable[[memoryview], int], counted: Callable[[int], int]) -> Callable[[memoryview], int | None]:
    """Return a function that makes and counts `transfer`, with None instead of `BlockingIOError`."""

    def attempt(view: memoryview) -> int | None:
        try:
            return counted(transfer(view))
        except BlockingIOError:
            return None

    return attempt
