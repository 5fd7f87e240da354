"""Transcripts as captures: what is in the file, block by block, and what tshark makes of it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pytest_anyserial.__main__ import main

from .conftest import Project

TSHARK = shutil.which("tshark")


def crc(frame: bytes) -> bytes:
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def transcript(folder: Path, *events: tuple[float, str, bytes, str], name: str = "serial_port") -> Path:
    head = {
        "test": "test_meter.py::test_read[mock-trio]",
        "began": "2026-11-28T10:00:00.250+00:00",
        "link": "mock",
        "loop": "trio",
        "port": name,
        "path": "/dev/mockA",
        "adapter": "mock",
    }
    lines = [head]
    for time, kind, data, detail in events:
        lines.append({"time": time, "kind": kind, "data": data.hex(), "detail": detail})
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return file


def blocks(capture: bytes) -> list[tuple[int, bytes]]:
    found = []
    while capture:
        kind, length = struct.unpack_from("<II", capture)
        assert length % 4 == 0
        assert struct.unpack_from("<I", capture, length - 4) == (length,)
        found.append((kind, capture[8 : length - 4]))
        capture = capture[length:]
    return found


def packets(capture: bytes) -> list[tuple[int, int, int, bytes]]:
    """`(interface, nanoseconds, event, payload)` of each packet, and in the event's upper byte the lines."""
    found = []
    for kind, body in blocks(capture):
        if kind == 6:
            interface, high, low, length, _ = struct.unpack_from("<IIIII", body)
            _, _, event, lines, _ = struct.unpack_from(">IIBBH", body, 20)
            found.append((interface, (high << 32) + low, event | lines << 8, body[32 : 20 + length]))
    return found


def converted(tmp_path: Path, *places: Path) -> bytes:
    assert main(["pcapng", *map(str, places), "-o", str(tmp_path / "out.pcapng")]) == 0
    return (tmp_path / "out.pcapng").read_bytes()


def test_a_packet_has_bytes_direction_time_and_lines(tmp_path: Path) -> None:
    """R-40: one packet per event, with the lines as they were then."""
    file = transcript(
        tmp_path / "t",
        (0.0, "opened", b"", "9600 8N1"),
        (0.5, "lines", b"", "RTS on, DTR off"),
        (1.0, "sent", b"\x00\xff", ""),
        (1.25, "received", b"ok", ""),
        (2.0, "break", b"", "0.25 s"),
    )
    began = 1_795_860_000_250_000_000
    assert packets(converted(tmp_path, file)) == [
        (0, began, 0, b""),
        (0, began + 500_000_000, 0x0800, b""),
        (0, began + 1_000_000_000, 0x0801, b"\x00\xff"),
        (0, began + 1_250_000_000, 0x0802, b"ok"),
        (0, began + 2_000_000_000, 0x0809, b""),
    ]


def test_bytes_without_a_gap_are_one_packet(tmp_path: Path) -> None:
    """R-40: the gap is 3.5 characters or 2 ms, whichever is longer."""
    file = transcript(
        tmp_path / "t",
        (0.0, "opened", b"", "1200 8E1, RTS/CTS"),
        (1.0, "received", b"a", ""),
        (1.03, "received", b"b", ""),
        (1.08, "received", b"c", ""),
        (1.081, "sent", b"d", ""),
        (2.0, "configured", b"", "115200 8N1"),
        (3.0, "sent", b"e", ""),
        (3.0019, "sent", b"f", ""),
        (3.0041, "sent", b"g", ""),
    )
    data = [payload for _, _, _, payload in packets(converted(tmp_path, file)) if payload]
    assert data == [b"ab", b"c", b"d", b"ef", b"g"]


def test_a_folder_with_both_ends_is_one_capture(tmp_path: Path) -> None:
    """R-40: an interface per port, packets in the order of time."""
    folder = tmp_path / "t"
    transcript(folder, (1.0, "sent", b"a", ""), (3.0, "received", b"b", ""))
    transcript(folder, (2.0, "received", b"a", ""), name="serial_peer")
    capture = converted(tmp_path, folder)
    assert [kind for kind, _ in blocks(capture)] == [0x0A0D0D0A, 1, 1, 6, 6, 6]
    assert [(interface, payload) for interface, _, _, payload in packets(capture)] == [(1, b"a"), (0, b"a"), (1, b"b")]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "not enough values"),
        ("no JSON\n", "Expecting value"),
        ("[]\n", "list indices"),
        ('{"began": "yesterday"}\n', "Invalid isoformat"),
        ('{"began": "2026-11-28T10:00:00+00:00"}\n{"kind": "sent"}\n', "'time'"),
        ('{"began": "2026-11-28T10:00:00+00:00"}\n{"time": 1, "kind": "sent", "data": "x"}\n', "non-hexadecimal"),
        ('{"began": "2026-11-28T10:00:00+00:00"}\n{"time": 1, "kind": 7}\n', "kind and detail are text"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, what: str) -> None:
    """R-40: naming the file; nothing is written."""
    file = tmp_path / "other.jsonl"
    file.write_text(content, encoding="utf-8")
    output = tmp_path / "out.pcapng"
    assert main(["pcapng", str(file), "-o", str(output)]) == 2
    error = capsys.readouterr().err
    assert f"{file} is not a transcript of a test: " in error
    assert what in error
    assert not output.exists()


def test_a_folder_without_transcripts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R-40."""
    assert main(["pcapng", str(tmp_path)]) == 2
    assert f"{tmp_path} has no transcripts (*.jsonl)" in capsys.readouterr().err
    assert main(["pcapng", str(tmp_path / "none.jsonl")]) == 2


@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt-get install tshark")
def test_tshark_reads_a_modbus_dialogue(tmp_path: Path) -> None:
    """R-40: query and response are dissected, with their CRC."""
    query, reply = bytes.fromhex("110300000002"), bytes.fromhex("11030401020304")
    file = transcript(
        tmp_path / "t",
        (0.0, "opened", b"", "19200 8E1"),
        (1.0, "sent", query + crc(query), ""),
        (1.1, "received", (reply + crc(reply))[:3], ""),
        (1.101, "received", (reply + crc(reply))[3:], ""),
    )
    converted(tmp_path, file)
    run = subprocess.run(
        [
            str(TSHARK),
            "-r",
            str(tmp_path / "out.pcapng"),
            "-d",
            "rtacser.data,mbrtu",
            "-o",
            "mbrtu.crc_verification:TRUE",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert len([line for line in lines if "Read Holding Registers" in line]) == 2
    assert any("Query" in line for line in lines)
    assert any("Response" in line for line in lines)


@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt-get install tshark")
def test_tshark_reads_the_capture_of_a_failed_test(project: Project) -> None:
    """R-40: the example driver reads a register and its test fails; query and response are dissected, at both ends."""
    pytest.importorskip("modbus_meter", reason="the example driver is not installed")
    project.run(
        "--serial-loops=asyncio",
        "--serial-pcapng",
        test="""
        from modbus_meter import Meter, ModbusClient

        async def test_it(serial_port, serial_script):
            serial_script.on(bytes.fromhex("01 03 00 10 00 01 85 cf")).reply(bytes.fromhex("01 03 02 00 05 78 47"))
            assert await Meter(ModbusClient(serial_port)).backlight() == 6
        """,
    )
    (capture,) = project.path.rglob("wire.pcapng")
    dissectors = ["-d", "rtacser.data,mbrtu", "-o", "mbrtu.crc_verification:TRUE"]
    command = [str(TSHARK), "-r", str(capture), *dissectors]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    frames = [line for line in lines if "Read Holding Registers" in line]
    assert [sum(way in line for line in frames) for way in ("Query", "Response")] == [2, 2]
