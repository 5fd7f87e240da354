"""Plays the far end of a recording on a pair in memory: it listens to the port under test, and speaks at end B.

No task and no thread listens: what the port does is heard in the tap, on the thread that does it. So it is the same on
every event loop and for a blocking port. Only what the far end does later needs a clock, which may be virtual.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import pytest

from anyserial import LineErrors, ModemLines, SerialConfig
from anyserial.testing import MockPair, OpenedPort, PortListener

from .._text import count
from .events import config_fields, differences
from .file import Recording
from .playback import Call, Mismatch, Playback, PlaybackByRequest, StrictPlayback, step_lines

#: Calls that the far end of a recording knows of; others only ask.
_REPLAYED: Final = frozenset(
    {"configure", "set_control_lines", "send_break", "reset_input_buffer", "reset_output_buffer"}
)


class SerialRecordingWarning(pytest.PytestWarning):
    """A recording may not show any more what the device does."""


class Handle(Protocol):
    """A call that has not been made yet."""

    def cancel(self) -> None:
        """Never make it."""
        ...


class Clock(Protocol):
    """The time of a test."""

    def now(self) -> float:
        """Seconds since some moment."""
        ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        """Call `callback` when `now()` has reached `when`."""
        ...


class RealClock:
    """The time of this machine."""

    def now(self) -> float:
        """As `time.monotonic`."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        """Call `callback` from a thread."""
        timer = threading.Timer(max(0.0, when - time.monotonic()), callback)
        timer.daemon = True
        timer.start()
        return timer


class Player:
    """Plays one recording for one test; also the verdict on it.

    Args:
        recording: What is played.
        pair: Its end B is the far end, and has no port.
        clock: When it does what.
        paced: Whether pauses are as long as they were; otherwise everything comes at once.
        by_request: Whether requests may come in any order.
        record_command: The command that makes the recording.
        on_failure: Called once, with what the test has to end with.
    """

    def __init__(
        self,
        recording: Recording,
        pair: MockPair,
        clock: Clock,
        *,
        paced: bool,
        by_request: bool,
        record_command: str,
        on_failure: Callable[[BaseException], object],
    ) -> None:
        self._recording = recording
        self._pair = pair
        self._clock = clock
        self._record_command = record_command
        self._on_failure = on_failure
        self._lock = threading.RLock()
        self._timer: Handle | None = None
        self._is_over = False
        self._failure: BaseException | None = None
        self._differences: list[str] = []
        self._is_unplugged = False
        play = PlaybackByRequest if by_request else StrictPlayback
        self._playback: Playback = play(recording, self, clock.now, paced=paced)

    def attach(self, opened: OpenedPort) -> None:
        """The port under test was opened."""
        if opened.path != self._pair.path_a:
            return
        with self._lock:
            if not self._differences:
                self._differences = differences(self._recording.head["config"], opened.config)
            opened.tap(_PlayerListener(self))
            self.called(Call("open", {}))

    def end(self) -> None:
        """Play no more."""
        with self._lock:
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()

    def warn_of_age(self, max_age: float | None) -> None:
        """Warn of a recording that is older than so many seconds."""
        age = self._recording.age
        if max_age is not None and age.total_seconds() > max_age:
            self._warn(f"a recording of {count(age.days, 'day')} ago")

    def warn_of_config(self) -> None:
        """Warn if the port was opened with another config than it was recorded with."""
        if self._differences:
            self._warn(f"recorded with another config: {', '.join(self._differences)}")

    def _warn(self, fact: str) -> None:
        text = f"{fact}: {self._recording.shown}. Record it again: {self._record_command}"
        warnings.warn(SerialRecordingWarning(text), stacklevel=3)

    def raise_failure(self) -> None:
        """Raise what did not match, if something did not."""
        __tracebackhide__ = True
        if self._failure is not None:
            raise self._failure from None

    def raise_verdict(self) -> None:
        """Raise what did not match or was left over, now that nothing more will come."""
        __tracebackhide__ = True
        self.raise_failure()
        with self._lock:
            left = self._playback.left_over()
        if left is not None:
            step, number = left
            lines = [
                f"serial replay: {count(number, 'recorded step')} left over, the first:",
                *step_lines(step, self._recording.shown),
                self._hint(),
            ]
            pytest.fail("\n".join(lines), pytrace=False)

    def evidence(self) -> list[tuple[str, str]]:
        """For the report of a test that failed by itself: where in the recording it was."""
        step = self._playback.next_step
        if self._failure is not None or step is None:
            return []
        return [("serial replay", "\n".join(["the next recorded step:", *step_lines(step, self._recording.shown)]))]

    # What the port does

    def send_ended(self) -> None:
        """A send is over."""
        self._process(self._playback.send_ended)

    def called(self, call: Call) -> None:
        """It has done something but sending."""

        def note() -> None:
            # First what it had sent before.
            self._receive(ignore_limit=True)
            self._playback.called(call)

        self._process(note)

    def failed(self, name: str) -> None:
        """One of its calls has failed."""
        self._process(lambda: self._playback.failed(name))

    def port_closed(self) -> None:
        """It is closed. A device that was unplugged is back for the next one."""
        with self._lock:
            if self._is_unplugged and self._failure is None:
                self._is_unplugged = False
                self._pair.replug()

    def advance(self) -> None:
        """Take what the port has sent, and do what is due or what there is room for now."""
        self._process(lambda: None)

    def _process(self, note: Callable[[], None]) -> None:
        with self._lock:
            if self._is_over or self._failure is not None:
                return
            try:
                note()
                due = self._exchange()
            except Mismatch as exc:
                self._fail(exc)
            else:
                self._schedule(due)

    def _exchange(self) -> float | None:
        due = self._playback.advance()
        while self._receive():
            due = self._playback.advance()
        return due

    def _receive(self, *, ignore_limit: bool = False) -> bool:
        """Take what has come, as long as it is not too much."""
        if self._playback.is_full and not ignore_limit:
            return False
        data = self._pair.receive_b()
        if data:
            self._playback.feed(data)
        return bool(data)

    def _schedule(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._clock.call_at(due, self.advance)

    def _fail(self, mismatch: Mismatch) -> None:
        self._failure = pytest.fail.Exception(f"serial replay: {mismatch}\n{self._hint()}", pytrace=False)
        # What waits for an answer goes on, whichever way it waits.
        self._pair.unplug()
        self._on_failure(self._failure)

    def _hint(self) -> str:
        names = ", ".join(self._differences)
        differs = f"  hint      recorded with another config: {names}\n" if names else ""
        return f"{differs}  hint      if the driver is right, record again: {self._record_command}"

    # What the far end does

    def send(self, data: memoryview, /) -> int:
        """Send; returns how many bytes there was room for."""
        return self._pair.send_b(data)

    def set_lines(self, values: Mapping[str, Any], /) -> None:
        """Let the port find these modem lines."""
        self._pair.modem_lines_a = ModemLines(**values)

    def set_errors(self, values: Mapping[str, Any], /) -> None:
        """Let the port count these errors."""
        self._pair.line_errors_a = LineErrors(**values)

    def unplug(self) -> None:
        """Be unplugged."""
        self._is_unplugged = True
        self._pair.unplug()

    def refuse(self, call: str, errno: int | None, /) -> None:
        """Let calls of this name fail from now on; None is the end of that."""
        if call == "configure":
            self._pair.faults_a.configure_errno = errno
        else:
            self._pair.faults_a.ioctl_errno = errno


class _PlayerListener(PortListener):
    """Hears what one port does."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def received(self, data: memoryview, /) -> None:
        del data
        self._player.advance()

    def sent(self, data: memoryview, /) -> None:
        del data
        self._player.advance()

    def send_begins(self) -> None:
        """Nothing has come yet."""

    def send_ends(self) -> None:
        self._player.send_ended()

    def called(self, call: str, arguments: Mapping[str, Any], result: Any, /) -> None:
        del result
        if call in _REPLAYED:
            shown = {name: _to_json(value) for name, value in arguments.items()}
            self._player.called(Call(call, shown))

    def failed(self, call: str, arguments: Mapping[str, Any], error: OSError, /) -> None:
        del arguments, error
        self._player.failed(call)

    def closed(self) -> None:
        self._player.port_closed()


def _to_json(value: object) -> Any:
    return config_fields(value) if isinstance(value, SerialConfig) else value
