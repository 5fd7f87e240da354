"""The contract of the library, check by check, on every link: the suite that custom backends pass."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from anyserial import Capability, SerialConfig, SerialPort, UnsupportedFeatureError
from anyserial.testing import check_port_pair
from pytest_anyserial import SerialBench, SerialLink

from .support import one_loop, two_ends

pytestmark = one_loop


@two_ends
async def test_the_link_conforms(serial_link: SerialLink, serial_bench: SerialBench | None) -> None:
    """H-31, L-223: but for what its devices lack, and what its wires do not join."""

    @asynccontextmanager
    async def pair(config: SerialConfig) -> AsyncGenerator[tuple[SerialPort, SerialPort]]:
        async with serial_link.opened("port", config) as port, serial_link.opened("peer", config) as peer:
            yield port, peer

    async with pair(serial_link.config) as (_, peer):
        missing = lacks(serial_link) | await counts_nothing(peer)
    await check_port_pair(pair, lacks=missing | declared(serial_link, serial_bench))


async def counts_nothing(port: SerialPort) -> set[str]:
    """`line_errors`, if the driver has no counters."""
    try:
        await port.line_errors()
    except UnsupportedFeatureError:
        return {"line_errors"}
    return set()


def declared(link: SerialLink, bench: SerialBench | None) -> set[str]:
    """What the bench file says that the ends of a link lack."""
    wiring = bench and bench.links.get(link.name.removeprefix("hw-"))
    return {fact for end in wiring.ends for fact in bench.ports[end].lacks} if bench and wiring else set()


def lacks(link: SerialLink) -> set[str]:
    """What of the contract cannot be seen on this link, in the words of the marker."""
    missing = {
        name
        for name in ("modem_lines", "break_signal", "input_waiting")
        if any(getattr(end, name) is not Capability.SUPPORTED for end in link.capabilities)
    }
    if not {"rts-cts", "dtr-dsr"} <= set(link.wires):
        missing.add("modem_lines")
    return missing
