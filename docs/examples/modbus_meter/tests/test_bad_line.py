"""The driver on a bad line, in virtual time: a value is right, or there is none."""

from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from modbus_meter import Meter, ModbusClient, ModbusError

from anyserial import SerialDisconnectedError, SerialError
from pytest_anyserial.strategies import fault_plans

ASK_VOLTAGE = bytes.fromhex("01 04 00 00 00 01 31 ca")
VOLTAGE_230_7 = bytes.fromhex("01 04 02 09 03 ff 61")


async def play_meter(device) -> None:
    """Answer what arrives unharmed; a request ends with silence, as on the bus."""
    while True:
        request = await device.receive()
        with anyio.move_on_after(0.01):
            while True:
                request += await device.receive()
        if request == ASK_VOLTAGE:
            await device.send(VOLTAGE_230_7)


@pytest.mark.usefixtures("serial_clock")
@settings(deadline=None, max_examples=50)
@given(plan=fault_plans(max_faults=1, max_byte=16))
async def test_no_fault_makes_a_wrong_value(serial_factory, plan):
    async with serial_factory(faults=plan) as (port, device), anyio.create_task_group() as tasks:
        tasks.start_soon(play_meter, device)
        with suppress(ModbusError, SerialError):
            assert await Meter(ModbusClient(port)).voltage() == 230.7
        tasks.cancel_scope.cancel()


async def test_a_damaged_byte_costs_one_retry(meter, serial_script, serial_faults, serial_clock):
    serial_faults.at_byte(4).corrupt(0x10)
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7).times(2)
    assert await meter.voltage() == 230.7
    assert 1.0 < serial_clock.time < 1.1


async def test_a_pulled_adapter_is_not_retried(meter, serial_script, serial_faults):
    serial_faults.at_byte(3).unplug()
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7)
    with pytest.raises(SerialDisconnectedError):
        await meter.voltage()
