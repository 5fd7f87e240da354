"""The silence that ends a message, as in protocols without a length field or terminator."""

from __future__ import annotations

import re
from typing import Final

#: The shortest gap in seconds. At slow rates the gap is `_CHARACTERS` characters, as in Modbus RTU.
MIN_GAP: Final = 0.002
_CHARACTERS: Final = 3.5
_BITS: Final = 11


def message_gap(config: str) -> float:
    """Return the seconds of silence that end a message on a line with a config such as `9600 8N1`."""
    rate = re.match(r"(\d+) \d", config)
    return MIN_GAP if rate is None else max(MIN_GAP, _CHARACTERS * _BITS / int(rate[1]))
