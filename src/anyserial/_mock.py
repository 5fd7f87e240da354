"""An in-memory device: a socket pair under the shipped read and write loops, with faults at the two system calls.

Nothing here is a second implementation of a port. The mock answers what a driver would answer, and misbehaves when its
`FaultPlan` says so.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Final

import anyio

from ._fd import FdBackend
from ._values import ControlLines, LineErrors, ModemLines
from .capabilities import Capability, SerialCapabilities
from .config import SerialConfig
from .exceptions import ConfigurationError

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED
_U: Final = Capability.UNKNOWN

_CAPABILITIES: Final = SerialCapabilities(
    platform="mock",
    backend="mock",
    custom_baudrate=_S,
    mark_space_parity=_S,
    one_point_five_stop_bits=_S,
    xon_xoff=_U,
    rts_cts=_U,
    dtr_dsr=_U,
    modem_lines=_S,
    break_signal=_S,
    exclusive_access=_N,
    low_latency=_N,
    rs485=_N,
    input_waiting=_S,
    output_waiting=_S,
    port_discovery=_N,
)

#: A stalled line is looked at this often, in case its plan was changed from another thread.
_STALL_POLL: Final = 0.02


class FaultPlan:
    """What goes wrong on one mock port. Fields may be changed at any time; a change wakes parked calls.

    Attributes:
        eagain_reads: Reads that find nothing, though data may be queued. Counts down.
        eagain_writes: Writes that find no room. Counts down.
        eintr_reads: Reads interrupted by a signal. Counts down.
        eintr_writes: Writes interrupted by a signal. Counts down.
        short_write_max: Bytes one write takes at most; 0 is a stalled line, `None` no limit.
        disconnected: The device is unplugged while true, and back when cleared.
        raise_eio_on_read: The next read fails with EIO, once.
        parity_errors: Reads that fail with EIO and count as parity errors. Counts down.
        open_errno: `MockBackend.open` fails with this errno while set.
        configure_errno: Likewise for `configure`.
        ioctl_errno: Likewise for lines, queues, counters and break.

    Raises:
        ConfigurationError: A count is negative or a value has the wrong type; the message names the field.
    """

    __slots__ = (
        "_changed",
        "configure_errno",
        "disconnected",
        "eagain_reads",
        "eagain_writes",
        "eintr_reads",
        "eintr_writes",
        "ioctl_errno",
        "open_errno",
        "parity_errors",
        "raise_eio_on_read",
        "short_write_max",
    )

    _changed: Callable[[], None] | None

    _COUNTS: Final = frozenset({"eagain_reads", "eagain_writes", "eintr_reads", "eintr_writes", "parity_errors"})
    _FLAGS: Final = frozenset({"disconnected", "raise_eio_on_read"})

    def __init__(
        self,
        eagain_reads: int = 0,
        eagain_writes: int = 0,
        eintr_reads: int = 0,
        eintr_writes: int = 0,
        short_write_max: int | None = None,
        disconnected: bool = False,
        raise_eio_on_read: bool = False,
        parity_errors: int = 0,
        open_errno: int | None = None,
        configure_errno: int | None = None,
        ioctl_errno: int | None = None,
    ) -> None:
        object.__setattr__(self, "_changed", None)
        self.eagain_reads = eagain_reads
        self.eagain_writes = eagain_writes
        self.eintr_reads = eintr_reads
        self.eintr_writes = eintr_writes
        self.short_write_max = short_write_max
        self.disconnected = disconnected
        self.raise_eio_on_read = raise_eio_on_read
        self.parity_errors = parity_errors
        self.open_errno = open_errno
        self.configure_errno = configure_errno
        self.ioctl_errno = ioctl_errno

    def __setattr__(self, name: str, value: object) -> None:
        self._check(name, value)
        object.__setattr__(self, name, value)
        if self._changed is not None:
            self._changed()

    def __repr__(self) -> str:
        fields = (name for name in self.__slots__ if name != "_changed" and getattr(self, name))
        return f"FaultPlan({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"

    def _check(self, name: str, value: object) -> None:
        if name in self._FLAGS:
            if not isinstance(value, bool):
                raise ConfigurationError(f"{name} must be True or False, not {value!r}")
        elif value is None and name not in self._COUNTS:
            return
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigurationError(f"{name} must be a non-negative integer, not {value!r}")

    def _notify(self, changed: Callable[[], None] | None) -> None:
        object.__setattr__(self, "_changed", changed)

    def _use_up(self, name: str) -> bool:
        """Count `name` down, without waking anybody; whether there was one left."""
        left = int(getattr(self, name))
        if left:
            object.__setattr__(self, name, type(getattr(self, name))(left - 1))
        return left > 0

    def _before_read(self, end: _End) -> bool:
        """Misbehave as planned; True is an end of file."""
        if self._use_up("raise_eio_on_read"):
            raise _os_error(errno.EIO)
        if self._use_up("parity_errors"):
            end.count_error("parity")
            raise OSError(errno.EIO, "injected parity error")
        if self.disconnected:
            return True
        if self._use_up("eintr_reads"):
            raise _os_error(errno.EINTR)
        if self._use_up("eagain_reads"):
            raise _os_error(errno.EAGAIN)
        return False

    def _before_write(self, view: memoryview) -> memoryview:
        """Misbehave as planned; returns as much of `view` as the line takes."""
        if self.disconnected:
            raise _os_error(errno.EPIPE)
        if self._use_up("eintr_writes"):
            raise _os_error(errno.EINTR)
        if self._use_up("eagain_writes"):
            raise _os_error(errno.EAGAIN)
        if self.short_write_max == 0:
            raise _os_error(errno.EAGAIN)
        return view[: self.short_write_max]


def _os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class _End:
    """One end of the wire, as both backends see it. It refers to neither, so a dropped port goes at once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.plan = FaultPlan()
        self.rts = False
        self.dtr = False
        self.unread = 0
        self.errors = LineErrors()
        self.lock = threading.Lock()

    def count_error(self, kind: str) -> None:
        self.errors = dataclasses.replace(self.errors, **{kind: (getattr(self.errors, kind) + 1) % 2**32})

    def read(self, view: memoryview) -> int:
        if self.plan._before_read(self):
            return 0
        with self.lock:
            count = self.sock.recv_into(view)
            self.unread -= count
        return count

    def write_to(self, peer: _End, view: memoryview) -> int:
        view = self.plan._before_write(view)
        # Sent and counted in one step: the peer never sees bytes that its queue depth does not know.
        with peer.lock:
            count = self.sock.send(view)
            peer.unread += count
        return count

    def discard_input(self) -> None:
        sink = memoryview(bytearray(65_536))
        with self.lock:
            try:
                while count := self.sock.recv_into(sink):
                    self.unread -= count
            except (BlockingIOError, ConnectionError):
                return


class MockBackend(FdBackend):
    """One end of an in-memory null-modem cable; an ordinary backend, made in pairs by `MockBackend.pair`.

    Attributes:
        faults: What goes wrong; change its fields or assign a new `FaultPlan` at any time.
        last_config: The very config object last given to `open` or `configure`.
        is_open: Between `open` and `close`. Data flows from birth on.
        break_asserted: Whether this end holds the line in a break.
    """

    def __init__(self, end: _End, peer: _End, path: str) -> None:
        super().__init__(end.sock.fileno(), path, read=end.read, write=lambda view: end.write_to(peer, view))
        self.capabilities = _CAPABILITIES
        self.last_config: SerialConfig | None = None
        self.is_open = False
        self.break_asserted = False
        self._end = end
        self._peer = peer
        self._stall_over: anyio.Event | None = None
        self.faults = end.plan

    @classmethod
    def pair(cls, *, path_a: str = "/dev/mockA", path_b: str = "/dev/mockB") -> tuple[MockBackend, MockBackend]:
        """Two connected ends, ready to carry data; needs no event loop."""
        sock_a, sock_b = socket.socketpair()
        sock_a.setblocking(False)
        sock_b.setblocking(False)
        end_a, end_b = _End(sock_a), _End(sock_b)
        return cls(end_a, end_b, path_a), cls(end_b, end_a, path_b)

    @property
    def faults(self) -> FaultPlan:
        return self._end.plan

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._end.plan._notify(None)
        self._end.plan = plan
        # Weak: the plan outlives the port in tests that look at it afterwards.
        reference = weakref.ref(self)

        def changed() -> None:
            backend = reference()
            if backend is not None:
                backend.wake()

        plan._notify(changed)
        self.wake()

    def open(self, path: str, config: SerialConfig) -> None:
        """Record the open, as the device would see it.

        Raises:
            RuntimeError: It was opened before.
        """
        if self.last_config is not None:
            raise RuntimeError(f"mock {self.path} was opened before")
        self._fail_with(self.faults.open_errno)
        self.path = path or self.path
        self.last_config = config
        self.is_open = True

    def close(self) -> None:
        """Release this end; the peer sees an end of file."""
        if self.detach() < 0:
            return
        self.is_open = False
        self.break_asserted = False
        # A stream socket closed with unread input resets the connection instead of ending it.
        self._end.discard_input()
        self._end.sock.close()
        self._end.rts = self._end.dtr = False

    def wake(self) -> None:
        """Make parked calls look again."""
        if self._stall_over is not None:
            self._stall_over.set()
        super().wake()

    async def wait_writable(self) -> None:
        """A stalled line is one whose plan takes no bytes: the socket could, so it is not asked."""
        if self.faults.short_write_max != 0:
            await super().wait_writable()
            return
        self._require_open()
        self._stall_over = anyio.Event()
        try:
            with anyio.move_on_after(_STALL_POLL):
                await self._stall_over.wait()
        finally:
            self._stall_over = None

    async def drain_hardware(self) -> None:
        """The peer has every byte already."""

    def configure(self, config: SerialConfig) -> None:
        """Accept any valid config."""
        self._answer(self.faults.configure_errno)
        self.last_config = config

    def input_waiting(self) -> int:
        """Bytes sent by the peer and not yet received; exact."""
        self._answer(self.faults.ioctl_errno)
        return self.held() + self._end.unread

    def output_waiting(self) -> int:
        """Nothing stays behind: output goes straight to the peer."""
        self._answer(self.faults.ioctl_errno)
        return 0

    def discard_input(self) -> None:
        """Drop unread input."""
        self._answer(self.faults.ioctl_errno)
        self.drop_held()
        self._end.discard_input()

    def discard_output(self) -> None:
        """Nothing is ever left to drop."""
        self._answer(self.faults.ioctl_errno)

    def set_break(self, on: bool) -> None:
        """The peer counts each break that begins."""
        self._answer(self.faults.ioctl_errno)
        if on and not self.break_asserted:
            self._peer.count_error("breaks")
        self.break_asserted = on

    def modem_lines(self) -> ModemLines:
        """CTS is the peer's RTS; DSR and CD are its DTR."""
        self._answer(self.faults.ioctl_errno)
        return ModemLines(cts=self._peer.rts, dsr=self._peer.dtr, ri=False, cd=self._peer.dtr)

    def control_lines(self) -> ControlLines:
        """The own lines, low at first."""
        self._answer(self.faults.ioctl_errno)
        return ControlLines(rts=self._end.rts, dtr=self._end.dtr)

    def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive the own lines."""
        self._answer(self.faults.ioctl_errno)
        if rts is not None:
            self._end.rts = rts
        if dtr is not None:
            self._end.dtr = dtr

    def line_errors(self) -> LineErrors:
        """Events injected or caused by the peer's breaks."""
        self._answer(self.faults.ioctl_errno)
        return self._end.errors

    def _answer(self, planned: int | None) -> None:
        """What every control call goes through: a closed, vanished or failing device."""
        self._require_open()
        if self.faults.disconnected:
            raise _os_error(errno.EIO)
        self._fail_with(planned)

    @staticmethod
    def _fail_with(code: int | None) -> None:
        if code:
            raise _os_error(code)
