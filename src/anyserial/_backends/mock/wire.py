"""The output queue of one end: which bytes have left by which time. It reads no clock: the time is an argument."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: Bytes that a paced or halted queue holds.
QUEUE_SIZE: Final = 4096

# Seconds. Adapters deliver bytes in packets of about this length.
_PACKET: Final = 0.001
# The fraction of a byte by which rounding may make a time fall short of the moment it was computed for.
_ROUNDING: Final = 0.001


class Wire:
    """The bytes that were accepted and have not left."""

    def __init__(self) -> None:
        self._queue = bytearray()
        self._frame = 0.0
        self._halted = False
        # The time at which the next byte starts or has started.
        self._start = 0.0
        self._sent = 0
        # The pauses of the line: the position in the stream and the seconds, in order.
        self._pauses: deque[tuple[int, float]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_at_rest(self) -> bool:
        """Whether no byte is on its way, and none would take time."""
        return not (self.slow or self._halted)

    @property
    def slow(self) -> bool:
        """Whether bytes stay in the queue for some time."""
        return bool(self._frame or self._queue or self._pauses)

    @property
    def start(self) -> float:
        """The time at which the next byte starts or has started, when all earlier bytes have left."""
        return self._start

    @property
    def frame(self) -> float:
        """The seconds that one byte takes."""
        return self._frame

    def pause(self, seconds: float) -> None:
        """Pause the line for `seconds` before the bytes that are put from now on."""
        self._pauses.append((self._sent + len(self._queue), seconds))

    def put(self, data: bytes, now: float) -> None:
        """Accept `data`, whether or not there is room."""
        if not self._queue:
            self._start = now
        self._queue += data

    def clear(self) -> None:
        """Drop the bytes that have not left."""
        self._queue.clear()
        self._pauses.clear()

    def advance(self, now: float, *, frame: float, halted: bool) -> bytes:
        """Return the bytes that have left by `now`. Later ones take `frame` seconds each, or stay while `halted`."""
        left = self._transmit(now)
        if (frame, halted) != (self._frame, self._halted):
            self._frame, self._halted = frame, halted
            self._start = max(self._start, now)
            left += self._transmit(now)
        return left

    def due(self) -> float | None:
        """Return the time at which more bytes will have left; `None` if none will."""
        if self._halted or not self._queue:
            return None
        return self._start + min(self._until_pause(), self._packet_size()) * self._frame

    def _transmit(self, now: float) -> bytes:
        left = bytearray()
        while self._queue and not self._halted:
            while self._pauses and self._pauses[0][0] <= self._sent:
                self._start += self._pauses.popleft()[1]
            if self._start > now:
                break
            count = run = self._until_pause()
            if self._frame:
                packet = self._packet_size()
                done = int((now - self._start) / self._frame + _ROUNDING)
                count = run if done >= run else done // packet * packet
            if count <= 0:
                break
            left += self._queue[:count]
            del self._queue[:count]
            self._sent += count
            self._start += count * self._frame
        return bytes(left)

    def _packet_size(self) -> int:
        """The number of bytes that leave together."""
        return max(1, math.ceil(_PACKET / self._frame)) if self._frame else 0

    def _until_pause(self) -> int:
        """The number of bytes until the next pause of the line, or the end of the queue."""
        return min(len(self._queue), self._pauses[0][0] - self._sent) if self._pauses else len(self._queue)
