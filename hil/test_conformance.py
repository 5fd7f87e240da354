"""The contract of the library, check by check, on every link: the suite that custom backends pass."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyserial import Capability, SerialConfig, SerialPort
from anyserial.testing import check_port_pair
from pytest_anyserial import SerialLink

from .support import one_loop, two_ends

pytestmark = one_loop


@two_ends
async def test_the_link_conforms(serial_link: SerialLink) -> None:
    """H-31, L-223: but for what its devices lack, and what its wires do not join."""

    @asynccontextmanager
    async def pair(config: SerialConfig) -> AsyncGenerator[tuple[SerialPort, SerialPort]]:
        async with serial_link.opened("port", config) as port, serial_link.opened("peer", config) as peer:
            yield port, peer

    await check_port_pair(pair, lacks=lacks(serial_link))


def lacks(link: SerialLink) -> set[str]:
    """What of the contract cannot be seen on this link, in the words of the marker."""
    missing = {
        name
        for name in ("modem_lines", "break_signal", "input_waiting")
        if any(getattr(end, name) is not Capability.SUPPORTED for end in link.capabilities)
    }
    if not {"rts-cts", "dtr-dsr"} <= set(link.wires):
        missing.add("modem_lines")
    if "break_signal" in missing:
        missing.add("line_errors")
    return missing
