"""One end of an in-memory null-modem cable: the bytes that have arrived, the bytes in transit, and the faults.

Bytes are kept in memory, and all times come from the clock. The descriptor carries no data: it only shows whether a
read or a write would return or raise, so that every waiter is woken, in whichever thread it waits.
"""

from __future__ import annotations

import dataclasses
import errno
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Final

from ..._fork import forgotten_in_child
from ..._types import LineErrors, ModemLines
from ...config import SerialConfig, seconds_per_byte
from ...exceptions import ConfigurationError
from .clock import Clock, ThreadClock, Timer
from .fault_events import COUNTED, SHORTENING, Direction, FaultAction, FaultEvent
from .fault_plan import FaultPlan, os_error
from .fault_schedule import Progress, progress_of_all
from .signal import Signal
from .wire import QUEUE_SIZE, Wire

#: Unread bytes that an end accepts from a peer that is not paced.
_INBOX_SIZE: Final = 262_144
#: Unread bytes that an end accepts from a paced peer. Such a peer never waits, so bytes beyond these are lost.
_OVERRUN_SIZE: Final = 1_048_576
# A writer that found no room is woken when there is room for this many bytes.
_WAKE_ROOM: Final = 512
# Seconds that output may take after close, the same as the default of the kernel's drivers.
_CLOSING_WAIT: Final = 30.0
_DEFAULT_CONFIG: Final = SerialConfig()


class End:
    """One end of the cable. Its public methods are thread-safe.

    Attributes:
        config: The config, whose rate and frame pace the output.
        plan: The faults; replace them with `adopt`.
        errors: The counts that `line_errors` returns.
        rts: The RTS line as this end drives it.
        dtr: The DTR line as this end drives it.
        inputs: The modem lines of this end, if they do not follow the lines that the peer drives.
    """

    peer: End

    def __init__(self, lock: threading.RLock, clock: Clock, *, paced: bool, at_rest: bool) -> None:
        self.config = _DEFAULT_CONFIG
        self.errors = LineErrors()
        self.rts = False
        self.dtr = False
        self.inputs: ModemLines | None = None
        self.plan = FaultPlan()
        # One lock for both ends, because each reads the other's state.
        self._lock = lock
        self._clock = clock
        self._paced = paced
        self._opened = clock.now()
        self._timer = Timer(clock, self._on_timer)
        # None while the end is not open.
        self._signal: Signal | None = None if at_rest else Signal()
        self._wire = Wire()
        self._inbox = bytearray()
        self._directions = progress_of_all()
        # Until this time, bytes that have arrived cannot be read.
        self._held_until: float | None = None
        # Set by close: until this time, output may still leave.
        self._closed_until: float | None = None
        # The end is closed, and everything it sent has arrived.
        self._has_hung_up = False
        forgotten_in_child(self)

    @classmethod
    def pair(cls, *, paced: bool, clock: Clock | None, at_rest: bool = False) -> tuple[End, End]:
        """Return two ends of one cable; with `at_rest`, as after `rest`."""
        lock = threading.RLock()
        time = ThreadClock() if clock is None else clock
        a, b = (cls(lock, time, paced=paced, at_rest=at_rest) for _ in range(2))
        a.peer, b.peer = b, a
        a.adopt(a.plan)
        b.adopt(b.plan)
        return a, b

    @property
    def lock(self) -> threading.RLock:
        """The lock of the cable, held during every operation on either end."""
        return self._lock

    @property
    def signal(self) -> Signal:
        """The descriptor that shows whether a read or a write would make progress. The opener of the end closes it."""
        assert self._signal is not None
        return self._signal

    def drop_signal(self) -> None:
        """Stop using the descriptor."""
        with self._lock:
            self._signal = None

    def _forget(self) -> None:
        """In a forked child: drop the descriptor and the timers. Bytes that have arrived stay readable here."""
        # Take a fresh lock, because a thread that the child does not have may hold the old one.
        self._lock = threading.RLock()
        peer: End | None = getattr(self, "peer", None)
        if peer is not None:
            peer._lock = self._lock
        self.forget_signal()
        self._timer._forget()

    def forget_signal(self, _: int = -1) -> None:
        """In a forked child: close its copies of the two sockets."""
        signal, self._signal = self._signal, None
        if signal is not None:
            signal.close()

    def rest(self) -> None:
        """Release the descriptor, but keep the end: bytes in transit arrive, and the peer sees no hang-up."""
        with self._lock:
            self._update()
            if self.plan.short_write_max == 0:
                self._wire.clear()
            self._close_signal()

    def wake(self) -> None:
        """Undo `rest`: fresh counters, progress and descriptor for the next opener."""
        with self._lock:
            self.errors = LineErrors()
            self._held_until = None
            self._directions = progress_of_all()
            self._signal = Signal()
            now = self._clock.now()
            self.plan.schedule.restart(now - self._opened)
            self._opened = now
            self._update()

    def fileno(self) -> int:
        """A descriptor that is readable if a read would return or raise, and writable if a write would."""
        return -1 if self._signal is None else self._signal.fileno()

    def is_readable(self) -> bool:
        """Whether a read would return or raise."""
        with self._lock:
            return self._signal is not None and self._signal.readable

    def is_writable(self) -> bool:
        """Whether a write would return or raise."""
        with self._lock:
            return self._signal is not None and self._signal.writable

    def adopt(self, plan: FaultPlan) -> None:
        """Use the faults of `plan` from now on."""
        if not isinstance(plan, FaultPlan):
            raise ConfigurationError(f"faults must be a FaultPlan, not {plan!r}")
        if plan is not self.plan and plan.schedule.watcher is not None:
            raise ConfigurationError("faults: this plan is in use on another mock port; each port needs its own")
        # A weak reference, because tests keep plans to inspect them after the port is collected.
        reference = weakref.WeakMethod(self.look_again)

        def changed() -> None:
            look_again = reference()
            if look_again is not None:
                look_again()

        with self._lock:
            self.plan.schedule.watcher = None
            self.plan = plan
            if not self._is_closed():
                plan.schedule.watcher = changed
            self._update()

    def look_again(self) -> None:
        """Apply a change of the plan, the config or the time."""
        with self._lock:
            self._update()

    # The two system calls

    def read(self, view: memoryview) -> int:
        """Read like the system call: 0 is an end of file, `BlockingIOError` means that there is nothing to read."""
        with self._lock:
            progress = self._directions["read"]
            progress.op += 1
            try:
                return self._read(progress, view)
            finally:
                self._update()

    def write(self, view: memoryview) -> int:
        """Write like the system call: `BlockingIOError` means that there is no room."""
        with self._lock:
            progress = self._directions["write"]
            progress.op += 1
            try:
                return self._write(progress, view)
            finally:
                self._update()

    def _read(self, progress: Progress, view: memoryview) -> int:
        plan = self.plan
        limit = self._fire(progress, lambda: not plan.disconnected and self._held_until is None and bool(self._inbox))
        if limit == 0 or plan._before_read(self.count_error):
            return 0
        limit = min(limit, len(view))
        ready = progress.ready
        if not ready:
            if not self._inbox and self.peer._has_hung_up:
                return 0
            if self._held_until is None:
                count = plan.schedule.uniform_count(progress, min(limit, len(self._inbox)))
                ready += plan.schedule.alter(progress, bytes(self._inbox[:count]))
                del self._inbox[:count]
        count = min(limit, len(ready))
        if count == 0:
            raise os_error(errno.EAGAIN)
        view[:count] = ready[:count]
        del ready[:count]
        return count

    def _write(self, progress: Progress, view: memoryview) -> int:
        schedule = self.plan.schedule
        limit = min(self._fire(progress, self._accepts_bytes), self.plan._before_write(len(view)))
        if self.peer._is_closed():
            raise os_error(errno.EPIPE)
        limit = min(limit, self._room())
        if limit <= 0:
            raise os_error(errno.EAGAIN)
        data = bytes(view[: schedule.uniform_count(progress, limit)])
        data = data[: schedule.until_match(data)]
        schedule.note_sent(data)
        self._wire.put(schedule.alter(progress, data), self._clock.now())
        return len(data)

    # Control calls

    def check_call(self, direction: Direction, code: int | None) -> None:
        """Fail a control call if the device is gone or a fault is due; every control call goes through here."""
        with self._lock:
            progress = self._directions[direction]
            progress.op += 1
            try:
                self._fire(progress, lambda: False)
                if self.plan.disconnected and direction != "open":
                    raise os_error(errno.EIO)
                if code:
                    raise os_error(code)
            finally:
                self._update()

    def open(self) -> None:
        """Start counting seconds since open."""
        with self._lock:
            self._opened = self._clock.now()
            self._update()

    def count_error(self, kind: str, count: int = 1) -> None:
        """Add to a field of `errors`."""
        with self._lock:
            self.errors = dataclasses.replace(self.errors, **{kind: (getattr(self.errors, kind) + count) % 2**32})

    # On a bus

    def last_sent(self) -> tuple[float, float]:
        """Return the time at which the last byte had left, and the seconds that one byte took."""
        return self._wire.start, self._wire.frame

    def sending_since(self) -> float | None:
        """Return the start time of the byte that is being sent; None if there is none."""
        return self._wire.start if self._wire and self._wire.start <= self._clock.now() else None

    def receive_from_line(self, data: bytes, *, garbled: bool) -> None:
        """Receive what is on the line; an end that is not open receives nothing."""
        with self._lock:
            if self._signal is not None and not self.plan.disconnected:
                self._deliver(data, lossy=True)
                if garbled:
                    self.count_error("framing", len(data))
                self._update_signal()

    def input_waiting(self) -> int:
        """The number of bytes that can be read now."""
        with self._lock:
            self.peer._update()
            ready = len(self._directions["read"].ready)
            return ready if self._held_until is not None else ready + len(self._inbox)

    def output_waiting(self) -> int:
        """The number of bytes that have not left."""
        with self._lock:
            self._update()
            return len(self._wire)

    def discard_input(self) -> None:
        """Drop the bytes that have arrived."""
        with self._lock:
            self._directions["read"].ready.clear()
            self._inbox.clear()
            self._update()

    def discard_output(self) -> None:
        """Drop the bytes that have not left."""
        with self._lock:
            self._update()
            self._wire.clear()
            self._update()

    def close(self) -> None:
        """Release the descriptor. Accepted bytes still leave unless the line is stalled, then the peer sees the end."""
        with self._lock:
            if self._is_closed():
                return
            self._update()
            if self.plan.short_write_max == 0:
                self._wire.clear()
            self._closed_until = self._clock.now() + _CLOSING_WAIT
            self.plan.schedule.watcher = None
            self._close_signal()
            self._update()

    # With the lock held

    def _is_closed(self) -> bool:
        return self._closed_until is not None

    def _close_signal(self) -> None:
        self.rts = self.dtr = False
        self._inbox.clear()
        if self._signal is not None:
            self._signal.close()
            self._signal = None

    def _fire(self, progress: Progress, has_byte: Callable[[], bool]) -> int:
        """Carry out the faults of this attempt; return how many bytes it may move, 0 at an end of file."""
        limit = sys.maxsize
        since_open = self._since_open(self._clock.now())
        for event in self.plan.schedule.fire(progress, since_open, has_byte):
            if event.action is FaultAction.EOF:
                return 0
            if event.action in SHORTENING:
                limit = min(limit, event.count)
            self._apply_fault(event)
        return limit

    def _apply_fault(self, event: FaultEvent) -> None:
        match event.action:
            case FaultAction.EIO:
                raise os_error(event.errno or errno.EIO)
            case FaultAction.EINTR:
                raise os_error(errno.EINTR)
            case FaultAction.EAGAIN:
                raise os_error(errno.EAGAIN)
            case FaultAction.DISCONNECT | FaultAction.REPLUG:
                self.plan._set_connected(event.action is FaultAction.REPLUG)
            case FaultAction.DELAY if event.direction == "read":
                self._held_until = self._clock.now() + event.seconds
                raise os_error(errno.EAGAIN)
            case FaultAction.DELAY:
                self._wire.pause(event.seconds)
            case action if action in COUNTED:
                receiver = self if event.direction == "read" else self.peer
                receiver.count_error(COUNTED[action], event.count)
            case _:
                # The schedule itself carries out faults that alter bytes.
                return

    def _since_open(self, now: float) -> float:
        return round(now - self._opened, 9)

    def _accepts_bytes(self) -> bool:
        plan = self.plan
        stopped = plan.disconnected or plan.short_write_max == 0 or self.peer._is_closed()
        return not stopped and self._room() > 0

    def _room(self) -> int:
        return QUEUE_SIZE - len(self._wire) if self._wire.slow else _INBOX_SIZE - len(self.peer._inbox)

    def _on_timer(self) -> None:
        with self._lock:
            self._timer.set(None)
            self._update()

    def _update(self) -> None:
        """Bring everything up to date: carry out due faults, deliver bytes that have left, wake waiters."""
        if self._has_hung_up:
            return
        if self._is_calm():
            self._update_signal()
            self.peer._update_signal()
            return
        now = self._clock.now()
        is_closed = self._closed_until is not None
        if self._held_until is not None and self._held_until <= now:
            self._held_until = None
        # Move first, because a fault at this moment does not affect bytes that have left by now.
        self._move(now)
        if not is_closed:
            self._fire_device(now)
        self._update_signal()
        self.peer._update_signal()
        if is_closed and not self._wire:
            self._hang_up()
        else:
            self._timer.set(self._next_time(), keep=is_closed)

    def _is_calm(self) -> bool:
        """Whether nothing depends on the time: no byte is on its way, and no fault is planned. Mostly so."""
        plan = self.plan
        if plan.schedule.entries or plan.short_write_max == 0 or (self._paced if plan.paced is None else plan.paced):
            return False
        is_timed = self._closed_until is not None or self._held_until is not None or self._timer.when is not None
        return not is_timed and self._wire.is_at_rest

    def _fire_device(self, now: float) -> None:
        schedule = self.plan.schedule
        schedule.mark_due(lambda after: self._opened + after <= now, only_postponed=self._signal is None)
        for event in schedule.fire_device(self._directions, self._since_open(now)):
            self._apply_fault(event)
        if self.plan.disconnected:
            self._wire.clear()

    def _move(self, now: float) -> None:
        """Deliver bytes that have left; they are dropped if the peer is closed."""
        plan = self.plan
        paced = self._paced if plan.paced is None else plan.paced
        frame = seconds_per_byte(self.config, None if paced is True else paced) if paced else 0.0
        left = self._wire.advance(now, frame=frame, halted=plan.short_write_max == 0)
        if left and not self.peer._is_closed():
            self.peer._deliver(left, lossy=frame > 0)
        if self._closed_until is not None and (self._closed_until <= now or self.peer._is_closed()):
            self._wire.clear()

    def _deliver(self, data: bytes, *, lossy: bool) -> None:
        """Receive bytes from the peer. A receiver that is full loses bytes, and counts them, like a kernel."""
        room = max(0, _OVERRUN_SIZE - len(self._inbox)) if lossy else len(data)
        self._inbox += data[:room]
        if len(data) > room:
            self.count_error("buffer_overrun", len(data) - room)

    def _update_signal(self) -> None:
        signal = self._signal
        if signal is None:
            return
        plan, peer, directions = self.plan, self.peer, self._directions
        schedule = plan.schedule
        arrived = bool(self._inbox) or peer._has_hung_up
        enough = 1 if signal.writable else _WAKE_ROOM
        signal.set_ready(
            readable=bool(directions["read"].ready)
            or (arrived and self._held_until is None)
            or plan._ends_reads()
            or schedule.expects(directions["read"]),
            writable=plan.disconnected
            or peer._closed_until is not None
            or (plan.short_write_max != 0 and self._room() >= enough)
            or schedule.expects(directions["write"]),
        )

    def _next_time(self) -> float | None:
        times = [self._wire.due(), self._held_until, self._closed_until]
        after = None if self._is_closed() else self.plan.schedule.next_time(only_postponed=self._signal is None)
        if after is not None:
            times.append(self._opened + after)
        return min((time for time in times if time is not None), default=None)

    def _hang_up(self) -> None:
        self._has_hung_up = True
        self._timer.set(None)
        peer = self.peer
        peer._update_signal()
        if peer._has_hung_up:
            if isinstance(self._clock, ThreadClock):
                self._clock.stop()
            # The ends refer to each other, so break the cycle.
            del self.peer, peer.peer
