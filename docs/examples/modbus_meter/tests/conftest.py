import pytest
from modbus_meter import Meter, ModbusClient


@pytest.fixture
def meter(serial_port):
    """The meter as an application has it."""
    return Meter(ModbusClient(serial_port, timeout=1.0, retries=1))
