"""The driver against a device it does not know: pymodbus, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from modbus_meter import IllegalAddressError, Meter, ModbusClient


@pytest.fixture
def simulator(serial_peer_path):
    """A running device on the far end of the link. It is up when it answers, not before."""
    command = [sys.executable, str(Path(__file__).with_name("simulator.py")), serial_peer_path]
    with subprocess.Popen(command) as process:
        yield
        process.kill()


@pytest.mark.anyserial(requires=["path"])
@pytest.mark.usefixtures("simulator")
async def test_an_independent_device_agrees(serial_port):
    starting = ModbusClient(serial_port, timeout=0.2, retries=100)
    assert await Meter(starting).voltage() == 230.7

    client = ModbusClient(serial_port)
    meter = Meter(client)
    assert await meter.energy() == 100_000
    await meter.set_backlight(7)
    assert await meter.backlight() == 7
    with pytest.raises(IllegalAddressError):
        await client.read_holding(1, 0x4000)
