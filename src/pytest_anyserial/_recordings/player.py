"""Play the far end of a recording on a mock pair: it follows the port under test and acts at end B.

There is no task or thread for this. The player gets each action of the port through its tap, on the thread of that
action, so it works in the same way on every event loop and for a blocking port. Only later actions of the far end need
a clock, which may be virtual.
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
from .._wire import Channel
from .altered import AlteredReplies
from .events import config_fields, differences
from .file import Recording
from .playback import Call, Mismatch, Playback, PlaybackByRequest, StrictPlayback, step_lines

#: Calls that are matched with the recording; other calls only query.
_REPLAYED: Final = frozenset(
    {"configure", "set_control_lines", "send_break", "reset_input_buffer", "reset_output_buffer"}
)


class SerialRecordingWarning(pytest.PytestWarning):
    """A recording may be out of date."""


class Handle(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""
        ...


class Clock(Protocol):
    """The clock of a test."""

    def now(self) -> float:
        """Return the seconds since an arbitrary fixed point."""
        ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        """Call `callback` when `now()` has reached `when`."""
        ...


class RealClock:
    """Real time."""

    def now(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        """Call `callback` in a thread at `when`."""
        timer = threading.Timer(max(0.0, when - time.monotonic()), callback)
        timer.daemon = True
        timer.start()
        return timer


class Player:
    """Plays one recording for one test, and gives the verdict.

    Args:
        recording: The recording.
        pair: The mock pair. Its end B is the far end, and has no port.
        clock: The clock for the actions of the far end.
        paced: Whether pauses are as long as recorded; otherwise there are none.
        by_request: Whether requests may come in any order.
        record_command: The command that makes the recording.
        on_failure: Called once with the exception that has to end the test.
        channel: What its bytes pass through, in a run of `--serial-mutate`.
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
        channel: Channel | None = None,
    ) -> None:
        self._recording = recording
        self._pair = pair
        self._clock = clock
        self._record_command = record_command
        self._on_failure = on_failure
        self._lock = threading.RLock()
        self._timer: Handle | None = None
        self._altered = None if channel is None else AlteredReplies(channel, pair.send_b, self._send_later)
        self._is_over = False
        self._failure: BaseException | None = None
        self._differences: list[str] = []
        self._is_unplugged = False
        play = PlaybackByRequest if by_request else StrictPlayback
        self._playback: Playback = play(recording, self, clock.now, paced=paced)

    def attach(self, opened: OpenedPort) -> None:
        """Follow the port under test, which was just opened."""
        if opened.path != self._pair.path_a:
            return
        with self._lock:
            if not self._differences:
                self._differences = differences(self._recording.head["config"], opened.config)
            opened.tap(_PlayerListener(self))
            self.called(Call("open", {}))

    def end(self) -> None:
        """Stop playing."""
        with self._lock:
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()

    def warn_of_age(self, max_age: float | None) -> None:
        """Warn if the recording is older than `max_age` seconds."""
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
        """Raise the mismatch, if there is one."""
        __tracebackhide__ = True
        if self._failure is not None:
            raise self._failure from None

    def raise_verdict(self) -> None:
        """Raise the mismatch or the missing steps, if there are any; the test has ended."""
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
        """Return a title and text for the report of a failed test: the next recorded step."""
        step = self._playback.next_step
        if self._failure is not None or step is None:
            return []
        return [("serial replay", "\n".join(["the next recorded step:", *step_lines(step, self._recording.shown)]))]

    # Actions of the port

    def send_ended(self) -> None:
        """Handle the end of a send."""
        if self._altered is not None:
            with self._lock:
                self._altered.send_ended()
        self._process(self._playback.send_ended)

    def called(self, call: Call) -> None:
        """Handle a call of the port other than a send."""

        def note() -> None:
            # Bytes sent before the call come first.
            self._receive(ignore_limit=True)
            self._playback.called(call)

        self._process(note)

    def failed(self, name: str) -> None:
        """Handle a failed call of the port."""
        self._process(lambda: self._playback.failed(name))

    def port_closed(self) -> None:
        """Handle the close of the port. If the recording unplugged the device, it is replugged for the next port."""
        with self._lock:
            if self._is_unplugged and self._failure is None:
                self._is_unplugged = False
                self._pair.replug()

    def advance(self) -> None:
        """Take the bytes that the port has sent, and perform the due steps."""
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
        """Take the received bytes, unless the buffer is full; return whether there were any."""
        if self._playback.is_full and not ignore_limit:
            return False
        data = self._pair.receive_b()
        heard = data if self._altered is None else self._altered.heard(data)
        if heard:
            self._playback.feed(heard)
        return bool(data)

    def _schedule(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._clock.call_at(due, self.advance)

    def _fail(self, mismatch: Mismatch) -> None:
        self._failure = pytest.fail.Exception(f"serial replay: {mismatch}\n{self._hint()}", pytrace=False)
        # Unplug, so that every call that waits for a reply ends.
        self._pair.unplug()
        self._on_failure(self._failure)

    def _hint(self) -> str:
        names = ", ".join(self._differences)
        differs = f"  hint      recorded with another config: {names}\n" if names else ""
        return f"{differs}  hint      if the driver is right, record again: {self._record_command}"

    # Actions of the far end

    def send(self, data: memoryview, /) -> int:
        """Send bytes; return how many there was room for."""
        return self._pair.send_b(data) if self._altered is None else self._altered.send(data)

    def _send_later(self, seconds: float, send: Callable[[], object]) -> None:
        def locked() -> None:
            with self._lock:
                if not self._is_over:
                    send()

        self._clock.call_at(self._clock.now() + seconds, locked)

    def set_lines(self, values: Mapping[str, Any], /) -> None:
        """Set the modem lines of the port."""
        self._pair.modem_lines_a = ModemLines(**values)

    def set_errors(self, values: Mapping[str, Any], /) -> None:
        """Set the error counts of the port."""
        self._pair.line_errors_a = LineErrors(**values)

    def unplug(self) -> None:
        """Unplug the device."""
        self._is_unplugged = True
        self._pair.unplug()

    def refuse(self, call: str, errno: int | None, /) -> None:
        """Make calls of this name fail with `errno` from now on; None ends this."""
        if call == "configure":
            self._pair.faults_a.configure_errno = errno
        else:
            self._pair.faults_a.ioctl_errno = errno


class _PlayerListener(PortListener):
    """Passes the actions of one port to the player."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def received(self, data: memoryview, /) -> None:
        del data
        self._player.advance()

    def sent(self, data: memoryview, /) -> None:
        del data
        self._player.advance()

    def send_begins(self) -> None:
        """Do nothing: there are no bytes yet."""

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
