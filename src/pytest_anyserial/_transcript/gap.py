"""Where a message ends: silence on the line, as protocols without length or end mark have it."""

from __future__ import annotations

import re
from typing import Final

#: Seconds of silence, and at slow rates so many characters, as in Modbus RTU.
MIN_GAP: Final = 0.002
_CHARACTERS: Final = 3.5
_BITS: Final = 11


def message_gap(config: str) -> float:
    """Seconds of silence that end a message, on a line with this config: `9600 8N1`."""
    rate = re.match(r"(\d+) \d", config)
    return MIN_GAP if rate is None else max(MIN_GAP, _CHARACTERS * _BITS / int(rate[1]))
