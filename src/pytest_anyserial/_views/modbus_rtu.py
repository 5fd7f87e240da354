"""Modbus RTU: requests, replies and refusals, each with its checksum.

Frames carry no length and no direction. A length is taken if the checksum agrees with it, so what is shown is certain.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .._text import count
from .view import SerialBurst, SerialFrame

_NAMES: Final = {
    0x01: "Read Coils",
    0x02: "Read Discrete Inputs",
    0x03: "Read Holding Registers",
    0x04: "Read Input Registers",
    0x05: "Write Single Coil",
    0x06: "Write Single Register",
    0x0F: "Write Multiple Coils",
    0x10: "Write Multiple Registers",
}
_REFUSALS: Final = {
    0x01: "Illegal Function",
    0x02: "Illegal Data Address",
    0x03: "Illegal Data Value",
    0x04: "Server Device Failure",
    0x05: "Acknowledge",
    0x06: "Server Device Busy",
    0x08: "Memory Parity Error",
    0x0A: "Gateway Path Unavailable",
    0x0B: "Gateway Target Device Failed to Respond",
}
_REFUSED: Final = 0x80
#: Unit, function and checksum.
_SHORTEST: Final = 4
_LONGEST: Final = 256
#: Values of a reply that are shown.
_SHOWN: Final = 16


def modbus_rtu(bursts: Sequence[SerialBurst]) -> Iterable[SerialFrame]:
    """The frames that a port sent and received; nothing if no checksum of a known function is right."""
    found = [(burst, data) for burst in _whole(bursts) for data in _frames(burst.data)]
    if not any(_is_known(data) for _, data in found):
        return []
    client = next((burst.direction for burst, data in found if _is_request(data)), None)
    return [
        SerialFrame(
            time=burst.time,
            until=burst.until,
            direction=burst.direction,
            text=_described(data, is_request=burst.direction == client),
            problem=not _is_right(data),
        )
        for burst, data in found
    ]


def _whole(bursts: Sequence[SerialBurst]) -> Iterator[SerialBurst]:
    """The bursts; two that make a frame only together, as over USB, are one."""
    before: SerialBurst | None = None
    for burst in bursts:
        if before is not None and before.direction == burst.direction:
            joined = dataclasses.replace(before, until=burst.until, data=before.data + burst.data)
            if not _is_whole(before) and _is_whole(joined):
                before = joined
                continue
        if before is not None:
            yield before
        before = burst
    if before is not None:
        yield before


def _is_whole(burst: SerialBurst) -> bool:
    return all(map(_is_right, _frames(burst.data)))


def checksum(frame: bytes | memoryview) -> bytes:
    """The CRC of these bytes, in the order in which it goes over the wire."""
    crc = 0xFFFF
    table = _table()
    for byte in frame:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


@functools.cache
def _table() -> list[int]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return table


def _is_right(data: bytes | memoryview) -> bool:
    return _SHORTEST <= len(data) <= _LONGEST and checksum(data[:-2]) == data[-2:]


def _is_known(data: bytes) -> bool:
    return _is_right(data) and data[1] & ~_REFUSED in _NAMES


def _is_request(data: bytes) -> bool:
    """Whether these bytes can be nothing but a request: replies of registers have an odd number of bytes."""
    return _is_right(data) and data[1] in (0x03, 0x04) and len(data) == 8


def _frames(data: bytes) -> Iterator[bytes]:
    """A burst cut into frames; what no checksum agrees with is the last."""
    rest = memoryview(data)
    while rest:
        size = next((size for size in _sizes(rest) if size <= len(rest) and _is_right(rest[:size])), len(rest))
        yield bytes(rest[:size])
        rest = rest[size:]


def _sizes(data: memoryview) -> Iterator[int]:
    """The sizes that a frame with this beginning may have."""
    function = data[1] if len(data) > 1 else 0
    if function & _REFUSED:
        yield 5
    elif function in _NAMES:
        yield 8
        if function <= 0x04 and len(data) > 2:
            yield 5 + data[2]
        elif function >= 0x0F and len(data) > 6:
            yield 9 + data[6]


def _described(data: bytes, *, is_request: bool) -> str:
    if not _is_right(data):
        if not _SHORTEST <= len(data) <= _LONGEST:
            return f"{count(len(data), 'byte')}, no frame"
        return f"wrong checksum: {data[-2:].hex(' ')}, not {checksum(data[:-2]).hex(' ')}"
    unit, function, body = data[0], data[1], data[2:-2]
    name = _NAMES.get(function & ~_REFUSED, f"function {function & ~_REFUSED}")
    if function & _REFUSED and len(body) == 1:
        return f"unit {unit}, {name}: refused, {_REFUSALS.get(body[0], f'code {body[0]}')}"
    numbers = [int.from_bytes(body[at : at + 2], "big") for at in range(0, len(body) - 1, 2)]
    match function:
        case 0x01 | 0x02 | 0x03 | 0x04 if is_request and len(body) == 4:
            return f"unit {unit}, {name}: {numbers[1]} from {numbers[0]}"
        case 0x03 | 0x04 if len(body) == 1 + body[0]:
            values = [int.from_bytes(body[at : at + 2], "big") for at in range(1, len(body), 2)]
            more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
            return f"unit {unit}, {name}: values {', '.join(map(str, values[:_SHOWN]))}{more}"
        case 0x01 | 0x02 if len(body) == 1 + body[0]:
            return f"unit {unit}, {name}: bits {body[1:].hex(' ')}"
        case 0x05 | 0x06 if len(body) == 4:
            return f"unit {unit}, {name}: {numbers[0]} = {numbers[1]}"
        case 0x0F | 0x10 if len(body) >= 4:
            return f"unit {unit}, {name}: {numbers[1]} from {numbers[0]}"
        case _:
            return f"unit {unit}, {name}: {body.hex(' ') or 'no data'}"
