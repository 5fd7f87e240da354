"""Lines and break: what one end asserts the other end sees."""

from __future__ import annotations

import anyio
import pytest

from anyserial import ControlLines, SerialPort
from pytest_anyserial import SerialPair

from .support import deliver, one_loop, until

pytestmark = one_loop


@pytest.mark.anyserial(requires=["modem_lines", "control_lines"], wires=["rts-cts"])
async def test_rts_arrives_as_cts(serial_pair: SerialPair) -> None:
    """H-30, L-82, L-83: in both directions, off and on."""
    for near, far in (serial_pair, reversed(serial_pair)):
        for level in (False, True, False):
            await near.set_control_lines(rts=level)
            await until_line(far, "cts", level)


@pytest.mark.anyserial(requires=["modem_lines", "control_lines"], wires=["dtr-dsr"])
async def test_dtr_arrives_as_dsr(serial_pair: SerialPair) -> None:
    """H-30, L-82, L-83: in both directions, off and on."""
    for near, far in (serial_pair, reversed(serial_pair)):
        for level in (False, True, False):
            await near.set_control_lines(dtr=level)
            await until_line(far, "dsr", level)


@pytest.mark.anyserial(requires=["control_lines"])
async def test_the_device_reports_its_line_levels(serial_port: SerialPort) -> None:
    """H-30, L-82: what was set reads back, each line for itself."""
    for lines in (ControlLines(rts=rts, dtr=dtr) for rts in (True, False) for dtr in (True, False)):
        await serial_port.set_control_lines(rts=lines.rts, dtr=lines.dtr)
        assert await serial_port.control_lines() == lines


@pytest.mark.anyserial(requires=["break_signal", "line_errors"])
async def test_a_break_is_counted_at_the_far_end(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-81, L-86: three breaks, three counts or more: a long break may count again and again."""
    for count in (1, 2, 3):
        await serial_port.send_break(0.05)

        async def counted(count: int = count) -> bool:
            return (await serial_peer.line_errors()).breaks >= count

        await until(counted, f"break number {count}")


@pytest.mark.anyserial(requires=["break_signal"])
async def test_a_cancelled_break_is_over(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-81: a timeout ends a break of a minute, and the line carries bytes again."""
    with anyio.move_on_after(0.05):
        await serial_port.send_break(60)
    # The line is idle again when a byte comes through; the break itself may arrive as a zero byte.
    await anyio.sleep(0.1)
    await serial_peer.reset_input_buffer()
    await deliver(serial_port, serial_peer, b"after the break")


async def until_line(port: SerialPort, name: str, level: bool) -> None:
    """Wait until a modem line of `port` is on or off."""

    async def arrived() -> bool:
        return getattr(await port.modem_lines(), name) is level

    await until(arrived, f"{name.upper()} {'on' if level else 'off'} at {port.path}")
