"""What a COM port has received and not handed out, and the read that is in flight."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

assert sys.platform == "win32" or not TYPE_CHECKING

from ..meter import Meter
from .overlapped import Operation


class Input:
    """What has arrived and was not handed out, and the read that is in flight. It does not know the port."""

    __slots__ = ("held", "is_unwanted", "meter", "reading")

    def __init__(self, meter: Meter) -> None:
        self.held = bytearray()
        self.meter = meter
        self.reading: Operation | None = None
        # What the read in flight brings arrived before it was to be dropped.
        self.is_unwanted = False

    def arrived(self, operation: Operation) -> None:
        """A read has ended; keep what it brought, also if it was cancelled or failed."""
        if self.reading is not operation:
            return
        data = operation.received
        count = len(data)
        # From here on there is no call, so no signal handler comes in between.
        unwanted, self.is_unwanted = self.is_unwanted, False
        self.reading = None
        self.meter.read_eagain += operation.has_waited
        if not unwanted:
            self.held += data
            self.meter.bytes_received += count

    def take(self, limit: int) -> bytes:
        """Hand out what was kept, at most `limit` bytes."""
        data = bytes(self.held[:limit])
        del self.held[: len(data)]
        return data
