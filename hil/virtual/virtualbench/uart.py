"""The UART inside an adapter: takes characters at line speed, drives and sees control lines; knows no USB.

Time is the scheduler's, in seconds: an asyncio loop, or a clock that a test moves. What is connected to what is the
cable's business.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Protocol

from .fifo import Fifo
from .sampling import FINE, Error, Format, received

# A step of transmission, and how far a late step may catch up. Bursts longer than this would overrun a receiver that
# keeps up with the line.
_STEP: Final = 0.004
_CATCH_UP: Final = 0.004
# A receiver with automatic flow control asks for silence when so many characters wait.
_HIGH_WATER: Final = 512


class Modem(enum.IntFlag):
    """Modem lines, as the upper half of a 16550's modem status register."""

    CTS = 0x10
    DSR = 0x20
    RI = 0x40
    CD = 0x80


class Handle(Protocol):
    """A call that has been scheduled."""

    def cancel(self) -> None:
        """Forget it."""
        ...


class Scheduler(Protocol):
    """The part of an event loop that an adapter needs."""

    def time(self) -> float:
        """Now."""
        ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Handle:
        """Call back at `when`, or as soon as possible after."""
        ...


class Line(Protocol):
    """What a UART needs of the cable it is plugged into."""

    def level(self, end: Uart, line: str) -> bool:
        """Of an input of `end`: `"cts"`, `"dsr"`, `"ri"`, `"cd"`."""
        ...

    def receivers(self, end: Uart) -> list[Uart]:
        """Who hears what `end` transmits."""
        ...

    def changed(self, end: Uart) -> None:
        """An output of `end` has changed."""
        ...


class _Unplugged:
    def level(self, end: Uart, line: str) -> bool:
        del end, line
        return False

    def receivers(self, end: Uart) -> list[Uart]:
        del end
        return []

    def changed(self, end: Uart) -> None:
        del end


class Uart:
    """One UART.

    Attributes:
        format: Of both directions.
        cts_flow: Transmit only while CTS is on.
        auto_rts: Take RTS back while the receive FIFO is nearly full.
        obeyed: XON and XOFF, when the far end may hold the transmitter with them; they are not received then.
        auto_xoff: XON and XOFF, when they are to be sent as the receive FIFO gets nearly full.
        powered: Without power it drives nothing and hears nothing.
        fifo: What has been received.
        cable: What it is plugged into.
        notify: Called when something has changed that the adapter may have to report: input, lines, room for output.
    """

    def __init__(self, name: str, scheduler: Scheduler, *, transmit_size: int = 128) -> None:
        self.name = name
        self.scheduler = scheduler
        self.cable: Line = _Unplugged()
        self.notify: Callable[[], None] = lambda: None
        self.fifo = Fifo()
        self._transmit_size = transmit_size
        self._output = bytearray()
        # Of XON and XOFF, the one to send before anything else.
        self._urgent = b""
        self._on_line = b""
        self._step: Handle | None = None
        self._free_at = 0.0
        self.format = Format()
        self.cts_flow = False
        self.auto_rts = False
        self.obeyed: bytes | None = None
        self.auto_xoff: bytes | None = None
        self._held = False
        self._asked_for_silence: bool = False
        self.powered = False
        self._rts = False
        self._dtr = False
        self._breaking = False
        self._break_due = False
        self._rts_seen: bool = False

    def power(self, on: bool) -> None:
        """Plug in or pull out; either way it starts from scratch."""
        if self._step is not None:
            self._step.cancel()
            self._step = None
        self._output.clear()
        self._urgent = self._on_line = b""
        self.fifo.clear()
        self.format = Format()
        self.obeyed = self.auto_xoff = None
        self.cts_flow = self.auto_rts = self._rts = self._dtr = self._breaking = self._break_due = False
        self._held = self._asked_for_silence = False
        self.powered = on
        self.cable.changed(self)

    @property
    def rts(self) -> bool:
        """The line as it is driven."""
        return self.powered and self._rts and not (self.auto_rts and self._is_full)

    @property
    def dtr(self) -> bool:
        """The line as it is driven."""
        return self.powered and self._dtr

    @property
    def breaking(self) -> bool:
        """Whether a break is being sent."""
        return self.powered and self._breaking

    @property
    def modem(self) -> Modem:
        """The lines as they are seen."""
        lines = Modem(0)
        for line, flag in (("cts", Modem.CTS), ("dsr", Modem.DSR), ("ri", Modem.RI), ("cd", Modem.CD)):
            if self.cable.level(self, line):
                lines |= flag
        return lines

    @property
    def room(self) -> int:
        """How many characters `transmit` takes now."""
        return self._transmit_size - len(self._output)

    @property
    def output_waiting(self) -> int:
        """Characters that have not passed the line yet."""
        return len(self._output) + len(self._on_line)

    @property
    def idle(self) -> bool:
        """Whether the last character has left completely."""
        return not self._output and self._step is None

    def transmit(self, data: bytes) -> int:
        """Send what there is room for; returns how much that is."""
        taken = data[: self.room]
        self._output += taken
        self.run()
        return len(taken)

    def discard_output(self) -> None:
        """Drop what is not on the line yet."""
        self._output.clear()

    def discard_input(self) -> None:
        """Drop what has been received."""
        self.fifo.clear()
        self.input_taken()

    def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive control lines."""
        if rts is not None:
            self._rts = rts
        if dtr is not None:
            self._dtr = dtr
        self._rts_seen = self.rts
        self.cable.changed(self)

    def set_flow(self, *, rts_cts: bool = False, obeyed: bytes | None = None, auto_xoff: bytes | None = None) -> None:
        """Flow control in hardware; what held the transmitter so far does so no longer."""
        self.cts_flow = self.auto_rts = rts_cts
        self.obeyed, self.auto_xoff = obeyed, auto_xoff
        self._held = self._asked_for_silence = False
        self.input_taken()
        self.run()

    def set_break(self, on: bool) -> None:
        """Hold the line low, once the characters that are on it have passed; nothing else is sent meanwhile."""
        if on and not self._breaking:
            self._break_due = True
        self._breaking = on
        self.run()

    def receive(self, data: bytes, error: Error = FINE) -> None:
        """Characters arrive."""
        if self.powered and data:
            if self.obeyed is not None and not error:
                data = self._obey(data, self.obeyed)
            self.fifo.put(data, error)
            self.input_taken()
            self.notify()

    def input_taken(self) -> None:
        """The FIFO has changed; with automatic flow control the far end may have to know."""
        if self.rts != self._rts_seen:
            self._rts_seen = self.rts
            self.cable.changed(self)
        if self.auto_xoff is not None and self._is_full != self._asked_for_silence:
            self._asked_for_silence = self._is_full
            self._urgent = self.auto_xoff[1:] if self._is_full else self.auto_xoff[:1]
            self.run()

    def run(self, *, since: float | None = None) -> None:
        """Go on with what the line lets pass now, or would have since then."""
        if self._step is not None or not self.powered:
            return
        if self._break_due:
            self._break_due = False
            for receiver in self.cable.receivers(self):
                receiver.receive(b"\0", Error.BREAK)
        if self._breaking or not (self._output or self._urgent):
            return
        if not self._urgent and (self._held or (self.cts_flow and not self.cable.level(self, "cts"))):
            return
        start = self.scheduler.time() if since is None else since
        character = self.format.seconds
        if self._urgent:
            self._on_line, self._urgent = self._urgent, b""
        else:
            count = max(1, int(_STEP / character))
            self._on_line = bytes(self._output[:count])
            del self._output[:count]
        self._free_at = start + len(self._on_line) * character
        self._step = self.scheduler.call_at(self._free_at, self._sent)

    @property
    def _is_full(self) -> bool:
        return len(self.fifo) >= _HIGH_WATER

    def _obey(self, data: bytes, characters: bytes) -> bytes:
        """Let XON and XOFF in `data` act; returns the rest of it."""
        last = max(data.rfind(character) for character in characters)
        if last < 0:
            return data
        self._held = data[last] == characters[1]
        self.run()
        return data.translate(None, characters)

    def _sent(self) -> None:
        self._step = None
        data, self._on_line = self._on_line, b""
        for receiver in self.cable.receivers(self):
            for run, error in received(data, self.format, receiver.format):
                receiver.receive(run, error)
        # A step that comes late does not make the line slower.
        self.run(since=max(self._free_at, self.scheduler.time() - _CATCH_UP))
        self.notify()
