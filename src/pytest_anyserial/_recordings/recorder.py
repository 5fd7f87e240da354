"""Record end A of a link, below the port, for one test. The recording of a failed test is discarded.

To disturb the test as little as possible, an event only stores a reference to its bytes, and events are written to a
temporary file in batches. They are converted to JSON once the test has passed.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, Any, Final, Protocol, cast

from anyserial import PortInfo, SerialClosedError, SerialConfig, __version__
from anyserial.testing import OpenedPort, PortListener, watch_ports

from .._bench.driver_name import driver_name
from .._text import encodable
from .._transcript.recording import belongs_to_test
from .events import FORMAT, MAX_EVENT_BYTES, config_fields, to_line

#: Adjacent bytes of one direction become one event if they are less than this many seconds apart.
_GAP: Final = 0.002
#: The most bytes kept in memory. Each event counts as `_EVENT_OVERHEAD` bytes more than its data. The transcript keeps
#: most of the same bytes anyway.
_MAX_IN_MEMORY: Final = 2**22
_EVENT_OVERHEAD: Final = 2**10
#: Events written to the file in one step.
_BATCH: Final = 64
#: The buffer of the file in bytes, because small writes cost more per byte.
_BUFFER: Final = 2**18
_SENT, _RECEIVED, _OTHER = range(3)
_POLLED: Final = frozenset({"modem_lines", "input_waiting"})
_KINDS: Final = {_SENT: "sent", _RECEIVED: "received"}

#: A function that may replace each event before it is written.
Filter = Callable[[dict[str, Any]], dict[str, Any]]


class _Link(Protocol):
    def is_end_a(self, path: str, /) -> bool: ...
    def adapter_at(self, path: str, /) -> str | None: ...


class Recorder(PortListener):
    """The recorder of one test, for all ports that it opens at end A of its link.

    Attributes:
        file: The name of the file with the recording, once it is written.
    """

    def __init__(self, about: Mapping[str, Any], now: Callable[[], float]) -> None:
        self.file = ""
        self._about = about
        self._now = now
        self._start = now()
        self._began = datetime.now(UTC)
        self._lock = threading.RLock()
        # The latest events: kind, time, bytes. Appending to a deque needs no lock in any thread or signal handler.
        self._events: deque[tuple[int, float, bytes | memoryview]] = deque()
        self._size = 0
        # The earlier events; `_spooling` is held to move events there.
        self._spool: IO[bytes] | None = None
        self._spooling = threading.Lock()
        self._is_over = False
        self._problem: OSError | None = None
        self._config: SerialConfig | None = None
        self._info: PortInfo | None = None
        self._adapter: str | None = None
        self._detach: list[Callable[[], None]] = []
        # The last results of calls that a driver may poll, and the latest event that repeated such a result.
        self._results: dict[str, object] = {}
        self._repeated: dict[str, tuple[float, dict[str, Any]]] = {}

    @contextmanager
    def recording(self, link: _Link) -> Generator[None]:
        """Record the ports that are opened at end A within the block, until the block ends."""

        def begin(opened: OpenedPort) -> None:
            if not (belongs_to_test() and link.is_end_a(opened.path)):
                return
            if self._config is None:
                self._config, self._info = opened.config, opened.port_info
                self._adapter = link.adapter_at(opened.path)
            self._results.clear()
            self._add_event({"kind": "opened", "config": config_fields(opened.config)})
            self._detach.append(opened.tap(self))

        try:
            with watch_ports(begin):
                yield
        finally:
            for detach in self._detach:
                detach()

    def received(self, data: memoryview, /) -> None:
        self._add_bytes(_RECEIVED, data)

    def sent(self, data: memoryview, /) -> None:
        self._add_bytes(_SENT, data)

    def called(self, call: str, arguments: Mapping[str, Any], result: Any, /) -> None:
        if call not in _CALLS:
            return
        event = _CALLS[call](arguments, result)
        if call not in _POLLED:
            self._add_event(event)
            return
        with self._lock:
            if self._results.get(call) == result:
                self._repeated[call] = self._now(), event
                return
            # Record how long the result stayed the same. How often the driver polled does not matter.
            for at, same in sorted(self._repeated.values(), key=lambda repeated: repeated[0]):
                self._add_event(same, at)
            self._results[call] = result
            self._add_event(event)

    def failed(self, call: str, arguments: Mapping[str, Any], error: OSError, /) -> None:
        del arguments
        # A timeout or a close is a decision of the caller, not a failure of the device.
        if not isinstance(error, TimeoutError | SerialClosedError):
            self._add_event({"kind": "failed", "call": call, "error": type(error).__name__, "errno": error.errno})

    def closed(self) -> None:
        self._add_event({"kind": "closed"})

    def lines(self, event_filter: Filter) -> Iterator[str]:
        """Yield the lines of the recording; `event_filter` may replace each object.

        Raises:
            OSError: The temporary file could not be written while the test ran.
            TypeError: `event_filter` returned something that is not an event.
        """
        if self._problem is not None:
            raise self._problem
        config = SerialConfig() if self._config is None else self._config
        head = {
            "format": FORMAT,
            **{name: encodable(value) if isinstance(value, str) else value for name, value in self._about.items()},
            "recorded": self._began.isoformat(timespec="seconds"),
            "library": __version__,
            "adapter": self._adapter,
            "driver": None if self._info is None else driver_name(self._info.device),
            "config": config_fields(config),
        }
        yield to_line(_check_event(event_filter(head)))
        number, time = 0, 0.0
        for number, event in enumerate(_merge_adjacent(self._decoded()), 1):  # noqa: B007  the last one is the total
            # Two threads may append their events in another order than they took the times.
            time = max(time, round(event.pop("time") - self._start, 6))
            yield to_line(_check_event(event_filter({"time": time, **event})))
        yield to_line({"kind": "end", "events": number})

    def discard(self) -> None:
        """Discard the recording."""
        with self._spooling:
            self._is_over = True
            self._events.clear()
            if self._spool is not None:
                # If the disk is full, closing fails to flush the buffer.
                with suppress(OSError):
                    self._spool.close()

    def _add_bytes(self, kind: int, data: memoryview) -> None:
        whole = data.obj
        is_small = type(whole) is bytes and len(whole) <= MAX_EVENT_BYTES
        self._events.append((kind, self._now(), data if is_small else bytes(data)))
        # Two threads may miscount, which only makes the file larger or smaller.
        self._size = size = self._size + len(data) + _EVENT_OVERHEAD
        if size > _MAX_IN_MEMORY:
            self._spill()
        if self._results:
            with self._lock:
                self._repeated = {}
                # After a transfer, even an equal count is new information.
                self._results.pop("input_waiting", None)

    def _add_event(self, event: Mapping[str, Any], at: float | None = None) -> None:
        self._events.append((_OTHER, self._now() if at is None else at, to_line(event).encode("ascii")))
        self._size += _EVENT_OVERHEAD
        if self._size > _MAX_IN_MEMORY:
            self._spill()
        with self._lock:
            self._repeated = {}

    def _spill(self) -> None:
        """Move the events to the temporary file, unless another thread does so already."""
        if not self._spooling.acquire(blocking=False):
            return
        try:
            self._size = 0
            self._move_events()
        except OSError as exc:
            # The disk may be full. Keep the error for `lines`, because a listener must not raise.
            self._problem, self._is_over = exc, True
        finally:
            self._spooling.release()

    def _move_events(self) -> None:
        # Python 3.12 and 3.13 leave the end of a loop out of a `try` around it, so it has its own function.
        left = len(self._events)
        while left:
            batch = [self._events.popleft() for _ in range(min(left, _BATCH))]
            left -= len(batch)
            if not self._is_over:
                if self._spool is None:
                    self._spool = tempfile.TemporaryFile(buffering=_BUFFER)  # noqa: SIM115  closed by `discard`
                marshal.dump(batch, self._spool)

    def _decoded(self) -> Iterator[dict[str, Any]]:
        for kind, at, data in self._stored():
            if kind == _OTHER:
                yield {"time": at, **json.loads(bytes(data))}
                continue
            for start in range(0, len(data), MAX_EVENT_BYTES):
                yield {"time": at, "kind": _KINDS[kind], "data": bytes(data[start : start + MAX_EVENT_BYTES])}

    def _stored(self) -> Iterator[tuple[int, float, bytes | memoryview]]:
        if self._spool is not None:
            self._spool.seek(0)
            with suppress(EOFError):
                while True:
                    yield from marshal.load(self._spool)  # noqa: S302  written above
        yield from self._events


def _merge_adjacent(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Merge events with adjacent bytes of one direction that are close in time."""
    last: dict[str, Any] | None = None
    parts: list[bytes] = []
    size, last_time = 0, 0.0
    for event in events:
        data = event.get("data", b"")
        if (
            last is not None
            and data
            and event["kind"] == last["kind"]
            and event["time"] - last_time < _GAP
            and size + len(data) <= MAX_EVENT_BYTES
        ):
            parts.append(data)
            size, last_time = size + len(data), event["time"]
            continue
        if last is not None:
            yield last | {"data": b"".join(parts)} if parts else last
        last, size, last_time = event, len(data), event["time"]
        parts = [data] if data else []
    if last is not None:
        yield last | {"data": b"".join(parts)} if parts else last


def _check_event(event: object) -> dict[str, Any]:
    if isinstance(event, dict):
        fields = cast("dict[str, Any]", event)
        if isinstance(fields.get("data", b""), bytes):
            return fields
    raise TypeError(f"pytest_anyserial_recording_event must return an event whose data are bytes, not {event!r:.200}")


#: The recorded calls: a function from the arguments and the result to the event.
_CALLS: Final[dict[str, Callable[[Mapping[str, Any], Any], dict[str, Any]]]] = {
    "configure": lambda arguments, _: {"kind": "configured", "config": config_fields(arguments["config"])},
    "set_control_lines": lambda arguments, _: {"kind": "lines", "rts": arguments["rts"], "dtr": arguments["dtr"]},
    "send_break": lambda arguments, _: {"kind": "break", "duration": arguments["duration"]},
    "reset_input_buffer": lambda _, __: {"kind": "input dropped"},
    "reset_output_buffer": lambda _, __: {"kind": "output dropped"},
    "modem_lines": lambda _, result: {"kind": "modem lines", **dataclasses.asdict(result)},
    "input_waiting": lambda _, result: {"kind": "input waiting", "count": result},
    "line_errors": lambda _, result: {"kind": "line errors", **dataclasses.asdict(result)},
}
