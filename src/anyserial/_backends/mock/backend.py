"""The mock: an ordinary backend in memory, which behaves like a device and fails as its fault plan says.

It is not a second implementation of a port: the shipped read and write loops run on top of it. It replaces only the two
callables that make system calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from typing import Final, Literal

import anyio

from ..._types import ControlLines, LineErrors, ModemLines, PortInfo
from ...capabilities import Capability, SerialCapabilities
from ...config import SerialConfig, seconds_per_byte
from ..base import RELEASED, Release
from ..fd import FdBackend
from ..watch import Watch
from .cable import End
from .clock import Clock
from .fault_plan import FaultPlan
from .waiting import SignalWatch

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


class MockBackend(FdBackend):
    """One end of an in-memory null-modem cable; an ordinary backend, made in pairs by `MockBackend.pair`.

    Attributes:
        last_config: The very config object last given to `open` or `configure`.
        is_open: True between `open` and `close`. Data passes even before `open`.
        break_asserted: Whether this end holds the line in a break.
    """

    is_played_here = True

    def __init__(self, end: End, path: str) -> None:
        super().__init__(end.fileno(), path, read=end.read, write=end.write, close_copy=end.forget_signal)
        self.capabilities = _CAPABILITIES
        self.port_info: PortInfo | None = None
        self.last_config: SerialConfig | None = None
        self.is_open = False
        self.break_asserted = False
        self._end = end
        self._signal = end.signal
        self._has_released = False

    @classmethod
    def pair(
        cls,
        *,
        path_a: str = "/dev/mockA",
        path_b: str = "/dev/mockB",
        paced: bool = False,
        clock: Clock | None = None,
    ) -> tuple[MockBackend, MockBackend]:
        """Two connected ends, ready to carry data; needs no event loop.

        Args:
            path_a: The name of the first end.
            path_b: The name of the second end.
            paced: Whether bytes take as long as on a wire, by the rate and frame of each end's last config.
            clock: The source of all times: `now()`, and `call_at(when, callback)` whose result has a `cancel()`.
                Without a clock, a thread makes the timed calls. It starts with the first one, and ends when both ends
                are closed.
        """
        end_a, end_b = End.pair(paced=paced, clock=clock)
        return cls(end_a, path_a), cls(end_b, path_b)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            try:
                warnings.warn(f"unclosed mock {self.path}", ResourceWarning, source=self, stacklevel=2)
            finally:
                self.close()

    @property
    def faults(self) -> FaultPlan:
        """The faults; change their fields, append to the schedule or assign a new plan at any time."""
        return self._end.plan

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._end.adopt(plan)

    def open(self, path: str, config: SerialConfig) -> None:
        """Record the open, as seen by the device.

        Raises:
            RuntimeError: The mock was opened before.
        """
        if self.last_config is not None:
            raise RuntimeError(f"mock {self.path} was opened before")
        self._end.check_call("open", self.faults.open_errno)
        self.path = path or self.path
        self.is_open = True
        self._use_config(config)
        self._end.open()

    def close(self, *, discard: bool = False) -> Release:
        """Release this end; the peer sees an end of file once it has received all that was sent."""
        if discard and self._fd >= 0:
            # A device that has vanished refuses the call.
            with contextlib.suppress(OSError):
                self.discard_output()
        # Each step may run twice, because a signal handler may have ended the first close between them. The cable stops
        # using the descriptor before that is closed.
        self._end.drop_signal()
        self.detach(self._signal.close_as)
        self.is_open = False
        self.break_asserted = False
        if not self._has_released:
            self._release()
            self._has_released = True
        return RELEASED

    def _release(self) -> None:
        self._end.close()

    def _forget(self) -> None:
        """In a forked child: mark the mock closed."""
        super()._forget()
        self.is_open = False

    def _new_watch(self) -> Watch:
        if self._signal.is_exact:
            return super()._new_watch()
        self._require_open()
        if self._watch is not None:
            self._watch.forget()
        self._watch = SignalWatch(self._signal)
        return self._watch

    def read_reported(self, view: memoryview) -> int | None:
        """Read, unless the loop's report is out of date.

        Fault schedules count attempts. Loops report late in different ways, so a stale report must not count.
        """
        return super().read_reported(view) if self._end.is_readable() else None

    def write_reported(self, view: memoryview) -> int | None:
        """Write, unless the loop's report is out of date."""
        return super().write_reported(view) if self._end.is_writable() else None

    async def wait_input(self) -> None:
        """Wait until a read will return or raise."""
        await super().wait_input()
        while not (self.held() or self._end.is_readable()):
            await super().wait_input()

    async def drain_hardware(self) -> None:
        """Wait until the output queue is empty; a mock has no FIFO after it."""
        while pending := self.output_waiting():
            await anyio.sleep(min(max(pending * seconds_per_byte(self._end.config), 0.001), 0.05))

    async def configure(self, config: SerialConfig) -> None:
        """Accept any valid config."""
        self._check_call("configure")
        self._use_config(config)

    def input_waiting(self) -> int:
        """The exact number of bytes that a read would find."""
        self._check_call("ioctl")
        return self.held() + self._end.input_waiting()

    def output_waiting(self) -> int:
        """The number of bytes accepted that have not left; without pacing they leave at once."""
        self._check_call("ioctl")
        return self._end.output_waiting()

    def discard_input(self) -> None:
        """Drop unread input."""
        self._check_call("ioctl")
        self.drop_held()
        self._end.discard_input()

    def discard_output(self) -> None:
        """Drop the bytes that have not left."""
        self._check_call("ioctl")
        self._end.discard_output()

    def set_break(self, on: bool) -> None:
        """Assert or end the break condition. The peer counts each break that begins."""
        self._check_call("ioctl")
        if on and not self.break_asserted:
            self._end.peer.count_error("breaks")
        self.break_asserted = on

    async def modem_lines(self) -> ModemLines:
        """CTS is the peer's RTS; DSR and CD are its DTR."""
        self._check_call("ioctl")
        if self._end.inputs is not None:
            return self._end.inputs
        return ModemLines(cts=self._end.peer.rts, dsr=self._end.peer.dtr, ri=False, cd=self._end.peer.dtr)

    async def control_lines(self) -> ControlLines:
        """This end's RTS and DTR; both start low."""
        self._check_call("ioctl")
        return ControlLines(rts=self._end.rts, dtr=self._end.dtr)

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive this end's RTS and DTR."""
        self._check_call("ioctl")
        if rts is not None:
            self._end.rts = rts
        if dtr is not None:
            self._end.dtr = dtr

    async def line_errors(self) -> LineErrors:
        """The injected line errors, and the breaks that the peer has sent."""
        self._check_call("ioctl")
        return dataclasses.replace(self._end.errors)

    def _use_config(self, config: SerialConfig) -> None:
        self.last_config = config
        self._end.config = config
        self._end.look_again()

    def _check_call(self, direction: Literal["configure", "ioctl"]) -> None:
        """Raise the error of a closed, vanished or failing device. Every control call goes through here."""
        self._require_open()
        faults = self.faults
        self._end.check_call(direction, faults.configure_errno if direction == "configure" else faults.ioctl_errno)


def faults_of_backend(backend: object) -> FaultPlan | None:
    """Return the fault plan of a mock; None if `backend` is not a mock."""
    return backend.faults if isinstance(backend, MockBackend) else None
