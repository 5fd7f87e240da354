"""Protocol views: which bytes they take for theirs, and what they say about them."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_anyserial import SerialBurst, TranscriptEvent
from pytest_anyserial._views.modbus_rtu import checksum, modbus_rtu
from pytest_anyserial._views.text_lines import text_lines
from pytest_anyserial._views.view import bursts

Direction = Literal["sent", "received"]


def dialogue(*messages: tuple[Direction, bytes]) -> list[SerialBurst]:
    """Bursts a second apart."""
    return [
        SerialBurst(time=float(number), until=number + 0.5, direction=direction, data=data)
        for number, (direction, data) in enumerate(messages)
    ]


def frame(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + checksum(body)


def test_the_checksum_is_the_one_of_modbus() -> None:
    """R-42: two frames of the specification's kind, with their sums written out."""
    assert checksum(bytes.fromhex("01 04 00 00 00 01")) == bytes.fromhex("31 ca")
    assert checksum(b"123456789") == bytes.fromhex("37 4b")


@pytest.mark.parametrize(
    ("request_", "reply", "said"),
    [
        (
            "11 03 00 6b 00 03",
            "11 03 06 ae 41 56 52 43 40",
            ["Read Holding Registers: 3 from 107", "Read Holding Registers: values 44609, 22098, 17216"],
        ),
        (
            "01 04 00 00 00 01",
            "01 84 02",
            ["Read Input Registers: 1 from 0", "Read Input Registers: refused, Illegal Data Address"],
        ),
        ("01 01 00 13 00 13", "01 01 03 cd 6b 05", ["Read Coils: 19 from 19", "Read Coils: bits cd 6b 05"]),
        ("01 06 00 10 00 07", "01 06 00 10 00 07", ["Write Single Register: 16 = 7"] * 2),
        ("01 10 00 01 00 02 04 00 0a 01 02", "01 10 00 01 00 02", ["Write Multiple Registers: 2 from 1"] * 2),
    ],
)
def test_modbus_frames_are_named(request_: str, reply: str, said: list[str]) -> None:
    """R-42: requests, replies and refusals."""
    probe = frame("01 03 00 00 00 01")
    found = list(modbus_rtu(dialogue(("sent", probe), ("sent", frame(request_)), ("received", frame(reply)))))[1:]
    assert [one.text.partition(", ")[2] for one in found] == said
    assert not any(one.problem for one in found)


def test_a_wrong_checksum_is_a_problem() -> None:
    """R-42: it says both sums."""
    damaged = bytearray(frame("01 04 02 09 03"))
    damaged[3] ^= 0x10
    found = list(modbus_rtu(dialogue(("sent", frame("01 04 00 00 00 01")), ("received", bytes(damaged)))))
    assert [(one.text, one.problem) for one in found] == [
        ("unit 1, Read Input Registers: 1 from 0", False),
        ("wrong checksum: ff 61, not " + checksum(bytes(damaged[:-2])).hex(" "), True),
    ]


def test_frames_in_one_burst_are_separated() -> None:
    """R-42: by their checksums; and a frame in two bursts is one."""
    query, reply = frame("01 04 00 00 00 01"), frame("01 04 02 09 03")
    together = list(modbus_rtu(dialogue(("received", query + reply))))
    assert [one.text for one in together] == [
        "unit 1, Read Input Registers: 1 from 0",
        "unit 1, Read Input Registers: values 2307",
    ]
    (_, late) = modbus_rtu(dialogue(("sent", query), ("received", reply[:3]), ("received", reply[3:])))
    assert (late.text, late.time, late.until) == ("unit 1, Read Input Registers: values 2307", 1.0, 2.5)


@given(st.lists(st.tuples(st.sampled_from(["sent", "received"]), st.binary(min_size=1, max_size=300)), max_size=5))
def test_other_bytes_are_no_modbus(messages: list[tuple[Direction, bytes]]) -> None:
    """R-42: any bytes are read without an error; without a right checksum there is nothing to show."""
    found = list(modbus_rtu(dialogue(*messages)))
    assert not found or not all(one.problem for one in found)
    list(text_lines(dialogue(*messages)))


def test_lines_may_come_in_pieces() -> None:
    """R-42: each line is one message, from its first byte to its end; what has no end is a problem."""
    found = text_lines(
        dialogue(("sent", b"ID?\r\n"), ("received", b"AC"), ("received", b"ME\tX\r\nRATE"), ("sent", b"A\n"))
    )
    assert [(one.direction, one.text, one.time, one.until, one.problem) for one in found] == [
        ("sent", "ID?", 0.0, 0.5, False),
        ("received", "ACME\\tX", 1.0, 2.5, False),
        ("sent", "A", 3.0, 3.5, False),
        ("received", "RATE (no line end)", 2.0, 2.5, True),
    ]


@pytest.mark.parametrize("data", [b"", b"no end", bytes(range(256)) + b"\n", b"\x00\x01\n"])
def test_other_bytes_are_no_lines(data: bytes) -> None:
    """R-42: without line ends, or with too much that is no text."""
    assert list(text_lines(dialogue(("sent", data)))) == []


def test_a_burst_ends_with_silence_or_another_direction() -> None:
    """R-42: 2 ms, or 3.5 characters at slow rates; what happens in between does not end it."""

    def event(time: float, kind: str, data: bytes = b"", detail: str = "") -> TranscriptEvent:
        return TranscriptEvent(time=time, port="serial_port", kind=kind, data=data, detail=detail)

    found = bursts(
        [
            event(0.0, "opened", detail="115200 8N1"),
            event(1.0, "sent", b"a"),
            event(1.001, "lines", detail="RTS on"),
            event(1.0019, "sent", b"b"),
            event(1.0019, "received", b"c"),
            event(1.005, "received", b"d"),
            event(2.0, "configured", detail="1200 8E1, RTS/CTS"),
            event(3.0, "received", b"e"),
            event(3.03, "received", b"f"),
        ]
    )
    assert [(one.time, one.until, one.direction, one.data) for one in found] == [
        (1.0, 1.0019, "sent", b"ab"),
        (1.0019, 1.0019, "received", b"c"),
        (1.005, 1.005, "received", b"d"),
        (3.0, 3.03, "received", b"ef"),
    ]
