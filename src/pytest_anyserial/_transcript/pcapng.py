"""Convert transcripts to a capture for Wireshark and tshark: pcapng, with one interface per port.

The link type is RTAC serial, whose packets begin with a time, an event and the lines. Bytes without a gap between them
are one packet, because dissectors of serial protocols expect a whole frame in each packet.
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from .gap import MIN_GAP, message_gap

#: The file name of the capture of one test.
NAME: Final = "wire.pcapng"

_NANOSECONDS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Block types of pcapng, and options in them.
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT: Final = 1
_APPLICATION: Final = 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_FLAGS: Final = 2
#: LINKTYPE_RTAC_SERIAL.
_LINK_TYPE: Final = 250
#: Flags of a packet: its direction.
_INBOUND, _OUTBOUND = 1, 2
#: Events of RTAC serial; every other event is a change of status.
_EVENTS: Final = {"sent": 1, "received": 2, "break": 9}
_DIRECTIONS: Final = {"sent": _OUTBOUND, "received": _INBOUND}
_LINES: Final = {"RTS": 8, "DTR": 16}


class NotATranscriptError(ValueError):
    """A file is not a transcript of a test; the message names it."""


@dataclasses.dataclass(slots=True)
class _Packet:
    at: int
    interface: int
    kind: str
    lines: int
    data: bytearray
    last_time: int
    comment: str = ""


def files_in(places: Iterable[Path]) -> list[Path]:
    """Return the given files and the transcripts in the given folders, at any depth.

    Raises:
        NotATranscriptError: A folder has no transcripts.
    """
    found: list[Path] = []
    for place in places:
        inside = sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]
        if not inside:
            raise NotATranscriptError(f"{place} has no transcripts (*.jsonl)")
        found.extend(inside)
    return found


def capture(files: Iterable[Path]) -> Iterator[bytes]:
    """Yield the blocks of a capture with the events of these transcripts, in the order of time.

    Raises:
        NotATranscriptError: A file is not a transcript.
        OSError: A file cannot be read.
    """
    yield _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((_APPLICATION, b"pytest_anyserial")))
    packets: list[_Packet] = []
    for number, file in enumerate(files):
        head, events = _read(file)
        yield _interface(head)
        packets.extend(_packets(number, head, events))
    packets.sort(key=lambda packet: packet.at)
    yield from map(_encode_packet, packets)


def _read(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        head, *events = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        datetime.fromisoformat(head["began"])
        for event in events:
            float(event["time"])
            bytes.fromhex(event.get("data", ""))
            if not isinstance(event["kind"], str) or not isinstance(event.get("detail", ""), str):
                raise TypeError("kind and detail are text")  # noqa: TRY301  the reader of one file judges all of it
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise NotATranscriptError(f"{file} is not a transcript of a test: {exc}") from exc
    return head, events


def _interface(head: dict[str, Any]) -> bytes:
    texts = {
        _NAME: f"{head.get('port', '')}",
        _DESCRIPTION: f"{head.get('path', '')}, {head.get('adapter', '')}",
        _COMMENT: f"{head.get('test', '')} on {head.get('link', '')}, {head.get('loop', '')}",
    }
    options = _options(*((code, text.encode()) for code, text in texts.items()), (_RESOLUTION, b"\x09"))
    return _block(_INTERFACE, struct.pack("<HHI", _LINK_TYPE, 0, 0) + options)


def _packets(number: int, head: dict[str, Any], events: Iterable[dict[str, Any]]) -> Iterator[_Packet]:
    began = (datetime.fromisoformat(head["began"]).astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000
    lines, gap = 0, MIN_GAP
    last: _Packet | None = None
    for event in events:
        at = began + round(event["time"] * _NANOSECONDS)
        kind, detail = event["kind"], event.get("detail", "")
        if kind in _DIRECTIONS:
            data = bytes.fromhex(event.get("data", ""))
            if last is not None and last.kind == kind and at - last.last_time < gap * _NANOSECONDS:
                last.data += data
                last.last_time = at
                continue
            if last is not None:
                yield last
            last = _Packet(at, number, kind, lines, bytearray(data), at, detail)
            continue
        if last is not None:
            yield last
            last = None
        for line, level in re.findall(r"\b(RTS|DTR) (on|off)\b", detail):
            lines = lines | _LINES[line] if level == "on" else lines & ~_LINES[line]
        if kind in ("opened", "configured"):
            gap = message_gap(detail)
        yield _Packet(at, number, kind, lines, bytearray(), at, f"{kind}: {detail}" if detail else kind)
    if last is not None:
        yield last


def _encode_packet(packet: _Packet) -> bytes:
    seconds, rest = divmod(packet.at, _NANOSECONDS)
    event = _EVENTS.get(packet.kind, 0)
    body = struct.pack(">IIBBH", seconds, rest // 1000, event, packet.lines, 0) + packet.data
    flags = struct.pack("<I", _DIRECTIONS.get(packet.kind, 0))
    head = struct.pack("<IIIII", packet.interface, packet.at >> 32, packet.at & 0xFFFFFFFF, len(body), len(body))
    return _block(_PACKET, head + _padded(body) + _options((_COMMENT, packet.comment.encode()), (_FLAGS, flags)))


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _options(*options: tuple[int, bytes]) -> bytes:
    """Encode the options that have a value, and the end of the list."""
    limited = ((code, value[:0xFFFF]) for code, value in options if value)
    return b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in limited) + bytes(4)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
