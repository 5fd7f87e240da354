"""The text of a lock file: a line about the holder, written by the holder.

Every user of the host can write to the file, so the text is read with limits, escaped, and never trusted.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from .._text import plain

#: Bytes of a file that are read at most.
LONGEST_TEXT: Final = 4096
#: A line with all fields at their limits stays below `LONGEST_TEXT`, even if JSON escapes every character.
_LIMITS: Final = {"device": 200, "host": 100, "user": 100, "test": 1000}
#: A JSON string; outside of strings the text must be one flat object.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LAST_PID: Final = 2**31 - 1
#: The year 3000: the last one that all systems convert to local time.
_LATEST_TIME: Final = 32_503_680_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The current or last holder of a device, as it wrote itself into the lock file.

    Attributes:
        device: The key of the device.
        pid: The process.
        host: The machine that it runs on.
        user: The user that it runs as.
        test: The purpose: the id of a test, or a command.
        since: Unix time at which the process got the device.
        ended: Unix time at which it gave the device back; None if it has not done so, or was killed before.
    """

    device: str
    pid: int
    host: str
    user: str
    test: str
    since: float
    ended: float | None = None

    def __str__(self) -> str:
        return f"pid {self.pid} of {self.user} on {self.host} (since {_clock(self.since)}, for {self.test})"


def this_process(device: str, test: str) -> Holder:
    """Return this process as the holder of a device, starting now."""
    return Holder(device=device, pid=os.getpid(), host=socket.gethostname(), user=_user(), test=test, since=time.time())


def encoded(holder: Holder) -> bytes:
    """Return the line for a lock file; long names are cut to fit."""
    facts = dataclasses.asdict(holder)
    return json.dumps(facts | {name: _cut(facts[name], limit) for name, limit in _LIMITS.items()}).encode() + b"\n"


def decoded(data: bytes) -> Holder | None:
    """Read the line of a lock file; return None if it is invalid or half written."""
    line = data.partition(b"\n")[0]
    # The JSON parser recurses with the data, and the stack of a thread can be as small as 128 KiB.
    structure = _STRING.sub(b"", line)
    if b"[" in structure or structure.count(b"{") != 1:
        return None
    try:
        facts: Any = json.loads(line)
        texts = {name: _text(facts[name], limit) for name, limit in _LIMITS.items()}
        ended = facts["ended"]
        return Holder(
            **texts,
            pid=_number(facts["pid"], 1, _LAST_PID),
            since=_moment(facts["since"]),
            ended=None if ended is None else _moment(ended),
        )
    except (ValueError, TypeError, LookupError):
        return None


def _text(value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return _cut(value, limit)


def _cut(text: str, limit: int) -> str:
    text = plain(text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _number(value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(value)
    return int(value)


def _moment(value: object) -> float:
    # The comparison is also false for NaN.
    if not isinstance(value, int | float) or not 0 <= value < _LATEST_TIME:
        raise ValueError(value)
    return float(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        number: Callable[[], int] | None = getattr(os, "getuid", None)
        return "a user without a name" if number is None else f"user {number()}"


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
