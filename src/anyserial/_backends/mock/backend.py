"""The mock: an ordinary backend in memory, which answers what a device would and misbehaves as its plan says.

Nothing here is a second implementation of a port: the shipped read and write loops run on top, over two callables that
do what system calls would.
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
        is_open: Between `open` and `close`. Data flows from birth on.
        break_asserted: Whether this end holds the line in a break.
    """

    def __init__(self, end: End, path: str) -> None:
        super().__init__(end.fileno(), path, read=end.read, write=end.write, close_copy=end.forget_signal)
        self.capabilities = _CAPABILITIES
        self.port_info: PortInfo | None = None
        self.last_config: SerialConfig | None = None
        self.is_open = False
        self.break_asserted = False
        self._end = end
        self._signal = end.signal
        self._left = False

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
            path_a: What the first end is called.
            path_b: What the second end is called.
            paced: Whether bytes take as long as on a wire, by the rate and frame of each end's last config.
            clock: Where all times come from: `now()`, and `call_at(when, callback)` whose result has a `cancel()`.
                Without one, a thread keeps the times, from the first one needed until both ends are closed.
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
        """What goes wrong; change its fields, append to its schedule or assign a new plan at any time."""
        return self._end.plan

    @faults.setter
    def faults(self, plan: FaultPlan) -> None:
        self._end.adopt(plan)

    def open(self, path: str, config: SerialConfig) -> None:
        """Record the open, as the device would see it.

        Raises:
            RuntimeError: It was opened before.
        """
        if self.last_config is not None:
            raise RuntimeError(f"mock {self.path} was opened before")
        self._end.answer("open", self.faults.open_errno)
        self.path = path or self.path
        self.is_open = True
        self._adopt_config(config)
        self._end.open()

    def close(self, *, discard: bool = False) -> Release:
        """Release this end; the peer sees an end of file when it has what was sent."""
        if discard and self._fd >= 0:
            # A device that vanished refuses.
            with contextlib.suppress(OSError):
                self.discard_output()
        # Each step may be done twice: a signal handler may have ended the first close between them. The cable does not
        # show anything on the descriptor any more, before that goes.
        self._end.drop_signal()
        self.detach(self._signal.close_as)
        self.is_open = False
        self.break_asserted = False
        if not self._left:
            self._release()
            self._left = True
        return RELEASED

    def _release(self) -> None:
        self._end.close()

    def _forget(self) -> None:
        """In a forked child: closed."""
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
        """Not an attempt if the loop is late with its report: attempts are counted, and loops are late differently."""
        return super().read_reported(view) if self._end.is_readable() else None

    def write_reported(self, view: memoryview) -> int | None:
        """Likewise."""
        return super().write_reported(view) if self._end.is_writable() else None

    async def wait_input(self) -> None:
        """Return when a read will do something."""
        await super().wait_input()
        while not (self.held() or self._end.is_readable()):
            await super().wait_input()

    async def drain_hardware(self) -> None:
        """Wait until the output queue is empty; there is nothing behind it."""
        while pending := self.output_waiting():
            await anyio.sleep(min(max(pending * seconds_per_byte(self._end.config), 0.001), 0.05))

    async def configure(self, config: SerialConfig) -> None:
        """Accept any valid config."""
        self._answer("configure")
        self._adopt_config(config)

    def input_waiting(self) -> int:
        """Bytes that a read would find; exact."""
        self._answer("ioctl")
        return self.held() + self._end.input_waiting()

    def output_waiting(self) -> int:
        """Bytes accepted that have not left; without pacing they leave at once."""
        self._answer("ioctl")
        return self._end.output_waiting()

    def discard_input(self) -> None:
        """Drop unread input."""
        self._answer("ioctl")
        self.drop_held()
        self._end.discard_input()

    def discard_output(self) -> None:
        """Drop what has not left."""
        self._answer("ioctl")
        self._end.discard_output()

    def set_break(self, on: bool) -> None:
        """The peer counts each break that begins."""
        self._answer("ioctl")
        if on and not self.break_asserted:
            self._end.peer.count_error("breaks")
        self.break_asserted = on

    async def modem_lines(self) -> ModemLines:
        """CTS is the peer's RTS; DSR and CD are its DTR."""
        self._answer("ioctl")
        if self._end.inputs is not None:
            return self._end.inputs
        return ModemLines(cts=self._end.peer.rts, dsr=self._end.peer.dtr, ri=False, cd=self._end.peer.dtr)

    async def control_lines(self) -> ControlLines:
        """The own lines, low at first."""
        self._answer("ioctl")
        return ControlLines(rts=self._end.rts, dtr=self._end.dtr)

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive the own lines."""
        self._answer("ioctl")
        if rts is not None:
            self._end.rts = rts
        if dtr is not None:
            self._end.dtr = dtr

    async def line_errors(self) -> LineErrors:
        """Events that were injected, and the breaks of the peer."""
        self._answer("ioctl")
        return dataclasses.replace(self._end.errors)

    def _adopt_config(self, config: SerialConfig) -> None:
        self.last_config = config
        self._end.config = config
        self._end.look_again()

    def _answer(self, direction: Literal["configure", "ioctl"]) -> None:
        """What every control call goes through: a closed, vanished or failing device."""
        self._require_open()
        faults = self.faults
        self._end.answer(direction, faults.configure_errno if direction == "configure" else faults.ioctl_errno)


def faults_behind(backend: object) -> FaultPlan | None:
    """The plan of a mock; None if it is something else."""
    return backend.faults if isinstance(backend, MockBackend) else None
