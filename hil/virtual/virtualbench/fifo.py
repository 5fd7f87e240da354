"""Received characters that wait for the host: bytes in runs, each run with what is wrong with it."""

from __future__ import annotations

from collections import deque

from .sampling import FINE, Error


class Fifo:
    """At most `capacity` characters; what does not fit is lost and marks the next character that does.

    Far more than silicon has: a host that is emulated on a busy machine may look away for seconds.
    """

    def __init__(self, capacity: int = 65_536) -> None:
        self.capacity = capacity
        self._runs: deque[tuple[bytearray, Error]] = deque()
        self._size = 0
        self._lost = False

    def __len__(self) -> int:
        return self._size

    @property
    def has_errors(self) -> bool:
        """Whether a character in it is not as it was sent."""
        return any(error for _, error in self._runs)

    def put(self, data: bytes, error: Error = FINE) -> None:
        """Add characters; each one is `error`."""
        fits = data[: self.capacity - self._size]
        if fits and self._lost:
            self._append(fits[:1], error | Error.OVERRUN)
            self._append(fits[1:], error)
        else:
            self._append(fits, error)
        self._lost = (self._lost and not fits) or len(fits) < len(data)

    def take(self, limit: int) -> tuple[bytes, Error]:
        """Up to `limit` characters from the front; one that has an error comes alone."""
        if not self._runs:
            return b"", FINE
        data, error = self._runs[0]
        taken = bytes(data[: 1 if error else limit])
        del data[: len(taken)]
        if not data:
            self._runs.popleft()
        self._size -= len(taken)
        return taken, error

    def clear(self) -> None:
        """Drop all of it."""
        self._runs.clear()
        self._size = 0
        self._lost = False

    def _append(self, data: bytes, error: Error) -> None:
        if not data:
            return
        if not error and self._runs and not self._runs[-1][1]:
            self._runs[-1][0].extend(data)
        else:
            self._runs.append((bytearray(data), error))
        self._size += len(data)
