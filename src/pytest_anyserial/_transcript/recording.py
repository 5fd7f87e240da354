"""Write the transcript with a listener on each port that is opened while the link of a test exists.

Ports count however they are opened: by a fixture, by path, as a blocking port, or as a mock pair.
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
        name: The name in the transcript, such as that of the fixture; empty for a port that is not recorded.
        title: A title that reports show instead of the path, or None.
        log: The log of the port, once it is open.
    """

    def __init__(self, name: str, title: str | None = None) -> None:
        self.name = name
        self.title = title
        self.log: PortLog | None = None

    @contextmanager
    def applied(self) -> Generator[Opening]:
        """Apply this to the ports that the calling task opens within the block."""
        token = _OPENING.set(self)
        try:
            yield self
        finally:
            _OPENING.reset(token)


_OPENING: ContextVar[Opening | None] = ContextVar("_OPENING", default=None)


def unrecorded() -> Opening:
    """Return an `Opening` for a port that does not belong to the test."""
    return Opening("")


def belongs_to_test() -> bool:
    """Whether a port that the calling task opens now belongs to the test."""
    opening = _OPENING.get()
    return opening is None or bool(opening.name)


class Recording:
    """Writes the events of all ports to a transcript."""

    def __init__(self, transcript: SerialTranscript) -> None:
        self._transcript = transcript
        self._by_path: dict[str, PortLog] = {}
        self._detach: list[Callable[[], None]] = []

    @contextmanager
    def active(self) -> Generator[None]:
        """Record the ports that are opened within the block, until the block ends."""
        try:
            with watch_ports(self._begin):
                yield
        finally:
            for detach in self._detach:
                detach()

    def log_at(self, path: str) -> PortLog | None:
        """Return the log of the port that was last opened at this path."""
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
    """Records the events of one port."""

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
    """Return the `bytes` object behind a view of all of it, which saves a copy; otherwise the view itself."""
    whole = data.obj
    return whole if type(whole) is bytes and len(whole) == len(data) else data


def levels_text(**lines: bool | None) -> str:
    """Return a text such as `RTS on, DTR off`. None is a line that was not set."""
    return ", ".join(f"{name.upper()} {'on' if on else 'off'}" for name, on in lines.items() if on is not None)


def config_text(config: SerialConfig) -> str:
    """Return a text such as `115200 8N1, RTS/CTS`: rate and frame, then the options that are on."""
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


#: The recorded calls: the kind of the event, and a function from the arguments to its detail.
_CALLS: Final[dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]]] = {
    "configure": ("configured", lambda arguments: config_text(arguments["config"])),
    "set_control_lines": ("lines", lambda arguments: levels_text(**arguments)),
    "send_break": ("break", lambda arguments: f"{arguments['duration']:g} s"),
    "reset_input_buffer": ("input dropped", lambda _: ""),
    "reset_output_buffer": ("output dropped", lambda _: ""),
}
