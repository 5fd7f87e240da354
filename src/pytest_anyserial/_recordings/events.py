"""The format of a recording: JSON lines with the head, then the events in order, and last the number of events.

The bytes of an event are written as text if all of them are printable ASCII or line endings, so that a recording of a
text protocol can be reviewed. Otherwise they are hexadecimal.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from anyserial import FlowControl, RS485Config, SerialConfig

FORMAT: Final = 1

#: The most bytes of one event; longer data becomes several events.
MAX_EVENT_BYTES: Final = 65_536

_PRINTABLE: Final = re.compile(rb"[ -~\t\r\n]+")
#: Fields of a config that affect the wire.
_WIRE_FIELDS: Final = ("baudrate", "byte_size", "parity", "stop_bits", "flow_control", "rs485")

_FIELDS: Final[Mapping[str, Mapping[str, type | tuple[type, ...]]]] = {
    "opened": {"config": dict},
    "sent": {"data": bytes},
    "received": {"data": bytes},
    "configured": {"config": dict},
    "lines": {"rts": (bool, type(None)), "dtr": (bool, type(None))},
    "break": {"duration": (int, float)},
    "input dropped": {},
    "output dropped": {},
    "modem lines": {"cts": bool, "dsr": bool, "ri": bool, "cd": bool},
    "input waiting": {"count": int},
    "line errors": {"parity": int, "framing": int, "overrun": int, "breaks": int, "buffer_overrun": int},
    "failed": {"call": str, "error": str, "errno": (int, type(None))},
    "closed": {},
}


def config_fields(config: SerialConfig) -> dict[str, Any]:
    """Return the fields of a config as JSON values."""
    return dataclasses.asdict(config)


def config_from_fields(fields: Mapping[str, Any]) -> SerialConfig:
    """Return the config with these fields. Fields that this version does not know are ignored.

    Raises:
        ValueError: A value is invalid.
        TypeError: A value has the wrong type.
    """
    known = {field.name for field in dataclasses.fields(SerialConfig)}
    values = {name: value for name, value in fields.items() if name in known}
    for name, kind in (("flow_control", FlowControl), ("rs485", RS485Config)):
        if values.get(name) is not None:
            values[name] = kind(**values[name])
    return SerialConfig(**values)


def differences(recorded: Mapping[str, Any], now: SerialConfig) -> list[str]:
    """Return the fields that affect the wire and differ from the recording, such as `baudrate 9600, not 115200`."""
    fields = config_fields(now)
    return [
        f"{name} {recorded[name]}, not {fields[name]}"
        for name in _WIRE_FIELDS
        if name in recorded and recorded[name] != fields[name]
    ]


def to_line(facts: Mapping[str, Any]) -> str:
    """Return one object as a line of the file."""
    if "data" in facts:
        data: bytes = facts["data"]
        shown = {"text": data.decode("ascii")} if _PRINTABLE.fullmatch(data) else {"data": data.hex()}
        facts = {name: value for name, value in facts.items() if name != "data"} | shown
    return f"{json.dumps(facts)}\n"


def check_event(event: dict[str, Any]) -> dict[str, Any]:
    """Check an event and decode its bytes; returns the same object.

    Raises:
        ValueError: It is not a valid event; the text says why.
    """
    kind: Any = event.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"there is no event of kind {kind!r}")
    time = event.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        raise ValueError(f"time must be a number, not {time!r}")
    if "data" in _FIELDS[kind]:
        event["data"] = _parse_bytes(event)
    for name, types in _FIELDS[kind].items():
        if not isinstance(event.get(name, ...), types):
            # A ValueError even for a wrong type, because the error is in the text of the file.
            raise ValueError(f"{name} of {kind!r} must not be {event.get(name)!r}")  # noqa: TRY004
    if "config" in event:
        try:
            config_from_fields(event["config"])
        except (ValueError, TypeError) as exc:
            raise ValueError(f"config: {exc}") from exc
    return event


def parse_object(line: str) -> dict[str, Any]:
    """Parse a line as a JSON object.

    Raises:
        ValueError: The line is not a JSON object.
    """
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"this is no JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise ValueError("this is no JSON object")  # noqa: TRY004  the error is in the text
    return cast("dict[str, Any]", found)


def _parse_bytes(event: dict[str, Any]) -> bytes:
    readers: tuple[tuple[str, Callable[[str], bytes]], ...] = (
        ("text", lambda text: text.encode("ascii")),
        ("data", bytes.fromhex),
    )
    for name, read in readers:
        if isinstance(event.get(name), str):
            try:
                return read(event.pop(name))
            except ValueError as exc:
                raise ValueError(f"{name}: {exc}") from exc
    raise ValueError("it has neither text nor data")
