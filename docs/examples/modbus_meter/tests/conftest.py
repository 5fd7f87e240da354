import pytest
from modbus_meter import Meter, ModbusClient


@pytest.fixture
def meter(serial_port):
    """The meter as an application has it, with a timeout that suits a test."""
    return Meter(ModbusClient(serial_port, timeout=0.2, retries=1))
