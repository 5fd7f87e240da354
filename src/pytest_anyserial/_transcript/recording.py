"""Who writes the transcript: a listener on each port that comes into being while the link of a test is there.

It does not matter how a port is opened: by a fixture, by its path, as a blocking port, or as a pair in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from anyserial import SerialConfig
from anyserial.testing import OpenedPort, PortListener, watch_ports

from .transcript import MAX_EVENT_BYTES, PortLog, SerialTranscript


class Opening:
    """How a port that the plugin opens is recorded.

    Attributes:
        name: What opens it, such as a fixture; empty for a port that is not recorded.
        title: What reports call it in place of its path.
        log: Its record, once it is open.
    """

    def __init__(self, name: str, title: str | None = None) -> None:
        self.name = name
        self.title = title
        self.log: PortLog | None = None

    @contextmanager
    def applied(self) -> Generator[Opening]:
        """Let it count for what the calling task opens within the block."""
        token = _OPENING.set(self)
        try:
            yield self
        finally:
            _OPENING.reset(token)


_OPENING: ContextVar[Opening | None] = ContextVar("_OPENING", default=None)


def unrecorded() -> Opening:
    """How a port is opened that is none of the test's."""
    return Opening("")


def belongs_to_test() -> bool:
    """Whether a port that is opened here is one of the test's."""
    opening = _OPENING.get()
    return opening is None or bool(opening.name)


class Recording:
    """Writes to a transcript what passes on all ports."""

    def __init__(self, transcript: SerialTranscript) -> None:
        self._transcript = transcript
        self._by_path: dict[str, PortLog] = {}
        self._detach: list[Callable[[], None]] = []

    @contextmanager
    def active(self) -> Generator[None]:
        """Record the ports that are opened within the block, until its end."""
        try:
            with watch_ports(self._begin):
                yield
        finally:
            for detach in self._detach:
                detach()

    def log_at(self, path: str) -> PortLog | None:
        """The record of the port that was opened last at this path."""
        return self._by_path.get(path)

    def _begin(self, opened: OpenedPort) -> None:
        opening = _OPENING.get() or Opening("sync_port" if opened.is_blocking else "port")
        if not opening.name:
            return
        log = opening.log = self._transcript.log(opening.name, opened, opening.title)
        self._by_path[opened.path] = log
        log.add("opened", config_text(opened.config))
        self._detach.append(opened.tap(_Recorder(log)))


class _Recorder(PortListener):
    """Writes down what one port does."""

    def __init__(self, log: PortLog) -> None:
        self._log = log
        self._began = 0.0, 0
        self._sent: list[bytes] = []
        self._size = self._more = 0

    def received(self, data: memoryview, /) -> None:
        self._log.add("received", _uncopied(data))

    def send_begins(self) -> None:
        self._began = self._log.stamp()
        self._sent = []
        self._size = self._more = 0

    def sent(self, data: memoryview, /) -> None:
        kept = data[: MAX_EVENT_BYTES - self._size]
        self._sent.append(bytes(_uncopied(kept)))
        self._size += len(kept)
        self._more += len(data) - len(kept)

    def send_ends(self) -> None:
        if self._sent:
            self._log.add("sent", b"".join(self._sent), self._began, more=self._more)
            self._sent = []

    def called(self, call: str, arguments: Mapping[str, Any], result: Any, /) -> None:
        del result
        if call in _CALLS:
            kind, words = _CALLS[call]
            self._log.add(kind, words(arguments))

    def failed(self, call: str, arguments: Mapping[str, Any], error: OSError, /) -> None:
        if call in ("receive", "send", "configure"):
            what = f"{call} {config_text(arguments['config'])}" if call == "configure" else call
            self._log.add("failed", f"{what}: {type(error).__name__}: {error}")

    def closed(self) -> None:
        self._log.add("closed")


def _uncopied(data: memoryview) -> bytes | memoryview:
    """The object that a view is of, if that is `bytes` and all of it is seen; it need not be copied then."""
    whole = data.obj
    return whole if type(whole) is bytes and len(whole) == len(data) else data


def levels_text(**lines: bool | None) -> str:
    """`RTS on, DTR off`; None is a line that was left alone."""
    return ", ".join(f"{name.upper()} {'on' if on else 'off'}" for name, on in lines.items() if on is not None)


def config_text(config: SerialConfig) -> str:
    """`115200 8N1`, and what else is not as usual."""
    extras = [
        name
        for name, present in (
            ("XON/XOFF", config.flow_control.xon_xoff),
            ("RTS/CTS", config.flow_control.rts_cts),
            ("DTR/DSR", config.flow_control.dtr_dsr),
            ("RS-485", config.rs485 is not None),
            ("exclusive", config.exclusive),
            ("low latency", config.low_latency),
        )
        if present
    ]
    frame = f"{config.baudrate} {config.byte_size}{config.parity[0].upper()}{config.stop_bits}"
    return ", ".join([frame, *extras])


#: Calls that are recorded: the kind of their events, and the detail from their arguments.
_CALLS: Final[dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]]] = {
    "configure": ("configured", lambda arguments: config_text(arguments["config"])),
    "set_control_lines": ("lines", lambda arguments: levels_text(**arguments)),
    "send_break": ("break", lambda arguments: f"{arguments['duration']:g} s"),
    "reset_input_buffer": ("input dropped", lambda _: ""),
    "reset_output_buffer": ("output dropped", lambda _: ""),
}
