"""What is known of the PL011's driver, which clamps, corrects and waits.

Runs inside the virtual bench with `--adapters pl011:pl011`; `make rs485` does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from anyserial import RS485Config, SerialConfig, SerialPort
from pytest_anyserial import SerialLink

pytestmark = [
    pytest.mark.anyserial(links=["hw-pl011"]),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]

BOTH = "delay_before_send is 100 ms, delay_after_send is 100 ms"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (RS485Config(delay_before_send=0.101, delay_after_send=60.0), BOTH),
        (RS485Config(rts_after_send=True), "rts_after_send is False"),
        (RS485Config(rts_on_send=False), "rts_on_send is True"),
    ],
    ids=["more than 100 ms", "RTS always", "RTS never"],
)
async def test_what_the_driver_corrects_is_named(serial_link: SerialLink, wanted: RS485Config, said: str) -> None:
    """L-180: the kernel gives no error for a struct that makes no sense, and takes one that does."""
    with pytest.warns(RuntimeWarning, match=f"adjusted RS-485: {said}$"):
        async with serial_link.opened("port", SerialConfig(rs485=wanted)):
            pass


@pytest.mark.parametrize("delays", [(50, 0), (0, 50), (50, 50)], ids=lambda pair: f"{pair[0]}+{pair[1]} ms")
async def test_both_delays_are_waited_for(
    serial_port: SerialPort,
    serial_peer: SerialPort,
    delays: tuple[int, int],
    record_property: Callable[[str, object], None],
) -> None:
    """L-65, L-180: a drain ends with the delay after the last byte, and the delay before is in front of the first."""
    before, after = delays
    setting = RS485Config(delay_before_send=before / 1000, delay_after_send=after / 1000)
    await serial_port.configure(serial_port.config.with_changes(rs485=setting))
    began = time.monotonic()
    await serial_port.send(b"?")
    await serial_port.drain_exact()
    took = 1000 * (time.monotonic() - began)
    assert await serial_peer.receive(1) == b"?"
    record_property("sent and drained in ms", round(took, 1))
    assert took >= before + after
