"""RS-485: the driver takes the setting, says so itself, keeps its delays, and gets its own back."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

from anyserial import RS485Config, SerialPort
from pytest_anyserial import SerialLink

from .support import deliver, one_loop, take

assert sys.platform == "linux" or not TYPE_CHECKING

pytestmark = [one_loop, pytest.mark.anyserial(requires=["rs485"])]

# From linux/serial.h; PowerPC and MIPS have other numbers.
TIOCGRS485 = 0x542E
SER_RS485_ENABLED = 1
BITS = {"rts_on_send": 2, "rts_after_send": 4, "rx_during_tx": 16}


class Driver:
    """What the driver says of RS-485, asked through a descriptor of its own."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def setting(self) -> Setting:
        """What it has now."""
        return Setting(*struct.unpack_from("=3I", fcntl.ioctl(self.fd, TIOCGRS485, bytes(32))))


class Setting(NamedTuple):
    """The kernel's struct serial_rs485, as far as anyserial writes it; delays in ms."""

    flags: int
    before: int
    after: int

    @property
    def is_on(self) -> bool:
        """Whether the driver switches the direction."""
        return bool(self.flags & SER_RS485_ENABLED)

    def differs_from(self, config: RS485Config) -> set[str]:
        """The fields in which it is not what was asked for."""
        actual: dict[str, float] = {name: bool(self.flags & bit) for name, bit in BITS.items()}
        actual |= {"delay_before_send": self.before / 1000, "delay_after_send": self.after / 1000}
        return {name for name, value in actual.items() if getattr(config, name) != value}


@pytest.fixture
def driver(serial_path: str) -> Iterator[Driver]:
    """The driver of the port under test."""
    driver = Driver(serial_path)
    yield driver
    os.close(driver.fd)


@pytest.mark.anyserial(requires=["path"])
async def test_the_setting_is_applied_and_taken_back(serial_link: SerialLink, driver: Driver) -> None:
    """H-30, L-77, L-180: the driver confirms on and off, and has what it had before when the port is closed."""
    found = driver.setting()
    async with serial_link.opened("port") as port:
        await port.configure(port.config.with_changes(rs485=RS485Config()))
        assert driver.setting().is_on
        await port.configure(port.config.with_changes(rs485=None))
        assert_is_back(found, driver)
        await port.configure(port.config.with_changes(rs485=RS485Config()))
    assert_is_back(found, driver)


@pytest.mark.parametrize(
    "wanted",
    [
        RS485Config(rts_on_send=False),
        RS485Config(rts_after_send=True),
        RS485Config(rx_during_tx=True),
        RS485Config(delay_before_send=0.02, delay_after_send=0.03),
        RS485Config(delay_before_send=0.25, delay_after_send=1.0),
    ],
    ids=["RTS never", "RTS always", "echo", "short delays", "long delays"],
)
@pytest.mark.anyserial(requires=["path"])
async def test_what_the_driver_adjusts_is_said(serial_link: SerialLink, driver: Driver, wanted: RS485Config) -> None:
    """H-30, L-180: it may take less than it was asked for; one warning names just that, and without any it took all."""
    async with serial_link.opened("port") as port:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await port.configure(port.config.with_changes(rs485=wanted))
        setting = driver.setting()
    assert setting.is_on
    texts = [str(warning.message) for warning in caught]
    differences = setting.differs_from(wanted)
    assert len(texts) == bool(differences), texts
    assert {name for name in RS485Config.__slots__ if any(f"{name} is " in text for text in texts)} == differences


async def test_bytes_pass_with_the_setting(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30: half duplex, one end after the other, with the driver turning the direction round."""
    for end in (serial_port, serial_peer):
        await end.configure(end.config.with_changes(rs485=RS485Config()))
    await deliver(serial_port, serial_peer, bytes(range(256)))
    await deliver(serial_peer, serial_port, bytes(range(256)))


@pytest.mark.anyserial(requires=["path"])
async def test_bytes_leave_after_the_delay(
    serial_port: SerialPort, serial_peer: SerialPort, driver: Driver, record_property: Callable[[str, object], None]
) -> None:
    """H-30, L-180: no earlier than the driver says that it waits, so that the far end's receiver is ready."""
    for delay in (0.0, 0.05, 0.1):
        wanted = RS485Config(delay_before_send=delay)
        await serial_port.configure(serial_port.config.with_changes(rs485=wanted, unsupported_policy="ignore"))
        promised = driver.setting().before
        began = time.monotonic()
        await serial_port.send(b"?")
        await take(serial_peer, 1)
        took = 1000 * (time.monotonic() - began)
        record_property(f"arrival after {promised} ms of delay, in ms", round(took, 1))
        assert took >= promised


def assert_is_back(found: Setting, driver: Driver) -> None:
    """The driver has what it had at first; the kernel clears what it is given of a setting that is off."""
    assert driver.setting() == found or (not found.is_on and driver.setting() == Setting(0, 0, 0))
