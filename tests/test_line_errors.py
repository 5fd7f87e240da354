"""Counting what went wrong on the line, since this port was opened."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from anyserial import LineErrors, SerialDisconnectedError, SerialPort, UnsupportedFeatureError
from anyserial.testing import PtyPair

from .kernel import CP210X, FTDI, XR, FakeKernel

pytestmark = [pytest.mark.anyio, pytest.mark.posix("the counters of Linux drivers")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


async def test_counts_begin_at_open(tmp_path: Path, ptys: PtyPair) -> None:
    """L-86, L-72: what the driver counted before is not this port's; each open has its own beginning."""
    kernel = FakeKernel(FTDI, tmp_path)
    kernel.count(frame=5, parity=7)
    async with await kernel.open(ptys.path_a) as first:
        assert await first.line_errors() == LineErrors()
        kernel.count(frame=1)
        async with await kernel.open(ptys.path_a) as second:
            kernel.count(parity=2)
            assert await first.line_errors() == LineErrors(framing=1, parity=2)
            assert await second.line_errors() == LineErrors(parity=2)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ("frame", "framing"),
        ("overrun", "overrun"),
        ("parity", "parity"),
        ("brk", "breaks"),
        ("buf_overrun", "buffer_overrun"),
    ],
)
async def test_each_event_has_its_count(event: str, field: str, tmp_path: Path, ptys: PtyPair) -> None:
    """L-86, section 18.1: the fields of the kernel's struct by their places."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        kernel.count(**{event: 3})
        assert await port.line_errors() == LineErrors(**{field: 3})


async def test_traffic_and_modem_changes_are_no_errors(tmp_path: Path, ptys: PtyPair) -> None:
    """L-86: cp210x leaves those fields at 0, ftdi_sio counts them; neither shows here."""
    for folder, driver in enumerate((FTDI, CP210X)):
        kernel = FakeKernel(driver, tmp_path / str(folder))
        async with await kernel.open(ptys.path_a) as port:
            kernel.count(rx=100, tx=100)
            kernel.counts[0:4] = [1, 2, 3, 4]
            assert await port.line_errors() == LineErrors()


async def test_counters_may_wrap(tmp_path: Path, ptys: PtyPair) -> None:
    """L-86: differences are taken modulo 2**32."""
    kernel = FakeKernel(FTDI, tmp_path)
    kernel.count(overrun=2**32 - 1)
    async with await kernel.open(ptys.path_a) as port:
        kernel.count(overrun=3)
        assert await port.line_errors() == LineErrors(overrun=3)


async def test_each_call_gives_a_fresh_object(tmp_path: Path, ptys: PtyPair) -> None:
    """L-82: an earlier answer does not change."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        earlier = await port.line_errors()
        kernel.count(brk=1)
        assert (await port.line_errors()).breaks == 1
        assert earlier.breaks == 0


async def test_errors_change_no_bytes(tmp_path: Path, ptys: PtyPair) -> None:
    """L-87: what arrives is what was received; errors are visible as counts only."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port, await SerialPort.open(ptys.path_b) as peer:
        await peer.send(b"\xff\x00\xff")
        kernel.count(parity=1, brk=1)
        assert await port.receive() == b"\xff\x00\xff"
        assert await port.line_errors() == LineErrors(parity=1, breaks=1)


async def test_a_driver_without_counters_raises_unsupported(tmp_path: Path, ptys: PtyPair) -> None:
    """L-82, L-86, L-117: xr_serial has none; the port opens, the call says so."""
    kernel = FakeKernel(XR, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        with pytest.raises(UnsupportedFeatureError, match=ptys.path_a) as caught:
            await port.line_errors()
        assert caught.value.errno == errno.ENOTTY


async def test_a_vanished_device_has_no_counts(tmp_path: Path, ptys: PtyPair) -> None:
    """L-125: nor has it modem lines, queues or a break; every call says that the device is gone."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        kernel.vanish()
        for call in (port.line_errors, port.modem_lines, port.control_lines, port.send_break, port.drain_exact):
            with pytest.raises(SerialDisconnectedError, match=ptys.path_a):
                await call()
        with pytest.raises(SerialDisconnectedError, match=ptys.path_a):
            port.output_waiting()
