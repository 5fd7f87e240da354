"""Flow control: a receiver that says stop holds the sender, and nothing is lost when it says go."""

from __future__ import annotations

import anyio
import pytest

from anyserial import FlowControl, SerialPort

from .support import one_loop, silent, take, until

pytestmark = one_loop

XON, XOFF = b"\x11", b"\x13"
MESSAGE = b"not before you are ready"


@pytest.mark.anyserial(requires=["rts_cts", "modem_lines"], wires=["rts-cts"])
async def test_cts_holds_the_sender(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-67: with RTS/CTS the far end's RTS decides when bytes go out."""
    await serial_port.configure(serial_port.config.with_changes(flow_control=FlowControl(rts_cts=True)))
    for _ in range(3):
        await serial_peer.set_control_lines(rts=False)
        await until_cts(serial_port, False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serial_port.send, MESSAGE)
            assert await silent(serial_peer, 0.2)
            await serial_peer.set_control_lines(rts=True)
            assert await take(serial_peer, len(MESSAGE)) == MESSAGE


@pytest.mark.anyserial(requires=["xon_xoff"])
async def test_xoff_holds_the_sender(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30: with XON/XOFF the far end stops the sender with one byte and lets it go on with another."""
    await serial_port.configure(serial_port.config.with_changes(flow_control=FlowControl(xon_xoff=True)))
    for _ in range(3):
        await serial_peer.send(XOFF)
        # The driver keeps the byte for itself, so there is nothing to see but that it arrives.
        assert await silent(serial_port, 0.1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serial_port.send, MESSAGE)
            assert await silent(serial_peer, 0.2)
            await serial_peer.send(XON)
            assert await take(serial_peer, len(MESSAGE)) == MESSAGE


async def until_cts(port: SerialPort, level: bool) -> None:
    """Wait until the far end's RTS has arrived."""

    async def arrived() -> bool:
        return (await port.modem_lines()).cts is level

    await until(arrived, f"CTS {'on' if level else 'off'} at {port.path}")
