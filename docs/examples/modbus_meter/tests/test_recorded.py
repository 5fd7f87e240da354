"""The driver against a device that is on a bench, or in a recording of that bench: the test is the same.

The recording in ``recordings`` was made on the virtual bench of the repository, through the kernel's driver for FTDI
adapters. ``pytest --serial-links=replay`` plays it, on every event loop and without a device.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from modbus_meter import IllegalAddressError, Meter, ModbusClient


@pytest.fixture
def device(serial_link):
    """The meter at the far end: pymodbus, or the recording of it."""
    if serial_link.name == "replay":
        yield
        return
    command = [sys.executable, str(Path(__file__).with_name("simulator.py")), serial_link.path("peer")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.kill()


@pytest.mark.anyserial(requires=["path"])
@pytest.mark.usefixtures("device")
async def test_a_device_is_read_and_set(serial_port):
    client = ModbusClient(serial_port, timeout=2.0)
    meter = Meter(client)
    assert await meter.voltage() == 230.7
    assert await meter.energy() == 100_000
    await meter.set_backlight(7)
    assert await meter.backlight() == 7
    with pytest.raises(IllegalAddressError):
        await client.read_holding(1, 0x4000)
