"""The driver against a scripted device; frames are written out, to not trust the driver's arithmetic."""

import anyio
import pytest
from anyio.streams.buffered import BufferedByteStream
from modbus_meter import BadReplyError, IllegalAddressError, NoReplyError

ASK_VOLTAGE = bytes.fromhex("01 04 00 00 00 01 31 ca")
VOLTAGE_230_7 = bytes.fromhex("01 04 02 09 03 ff 61")
VOLTAGE_231_4 = bytes.fromhex("01 04 02 09 0a 3f 67")
ASK_ENERGY = bytes.fromhex("01 04 00 02 00 02 d0 0b")
ENERGY_100_000 = bytes.fromhex("01 04 04 00 01 86 a0 c8 5c")
ASK_BACKLIGHT = bytes.fromhex("01 03 00 10 00 01 85 cf")
BACKLIGHT_5 = bytes.fromhex("01 03 02 00 05 78 47")
SET_BACKLIGHT_7 = bytes.fromhex("01 06 00 10 00 07 c9 cd")
NO_SUCH_INPUT = bytes.fromhex("01 84 02 c2 c1")
BROKEN = bytes.fromhex("01 04 02 09 03 ff 60")
FROM_ANOTHER_UNIT = bytes.fromhex("02 04 02 09 03 bb 61")

in_virtual_time = pytest.mark.usefixtures("serial_clock")


async def test_values_come_in_their_units(meter, serial_script):
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7)
    serial_script.on(ASK_ENERGY).reply(ENERGY_100_000)
    serial_script.on(ASK_BACKLIGHT).reply(BACKLIGHT_5)
    assert await meter.voltage() == 230.7
    assert await meter.energy() == 100_000
    assert await meter.backlight() == 5


async def test_a_write_is_confirmed_by_its_echo(meter, serial_script):
    serial_script.on(SET_BACKLIGHT_7).reply(SET_BACKLIGHT_7)
    await meter.set_backlight(7)


async def test_a_refusal_is_an_exception_and_is_not_retried(meter, serial_script):
    serial_script.on(ASK_VOLTAGE).reply(NO_SUCH_INPUT)
    with pytest.raises(IllegalAddressError, match=r"unit 1, READ_INPUT, register 0: .* code 2"):
        await meter.voltage()


async def test_a_reply_may_come_in_pieces(meter, serial_script):
    serial_script.on(ASK_ENERGY).reply(ENERGY_100_000, chunks=4)
    assert await meter.energy() == 100_000


@in_virtual_time
@pytest.mark.parametrize("reply", [BROKEN, FROM_ANOTHER_UNIT], ids=["broken", "foreign"])
async def test_a_reply_that_is_no_answer_is_asked_for_again(meter, serial_script, reply):
    serial_script.on(ASK_VOLTAGE).reply(reply).ignore(reason="it is wrong on purpose")
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7)
    assert await meter.voltage() == 230.7


@in_virtual_time
async def test_a_missing_reply_is_asked_for_again(meter, serial_script):
    serial_script.on(ASK_VOLTAGE)
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7)
    assert await meter.voltage() == 230.7


@in_virtual_time
async def test_the_last_failure_is_reported(meter, serial_script):
    serial_script.on(ASK_VOLTAGE)
    serial_script.on(ASK_VOLTAGE).reply(BROKEN).ignore(reason="it is wrong on purpose")
    with pytest.raises(BadReplyError, match="wrong checksum in 01 04 02 09 03 ff 60"):
        await meter.voltage()


async def test_a_silent_device_is_reported(meter, serial_script, serial_clock):
    serial_script.on(ASK_VOLTAGE).times(2)
    with pytest.raises(NoReplyError, match=r"no answer within 1\.0 s, received nothing"):
        await meter.voltage()
    # A frame gap, a timeout, a timeout of silence, and the timeout of the second try.
    assert serial_clock.time == 3.00175


@in_virtual_time
async def test_a_late_reply_is_not_taken_for_the_next_answer(meter, serial_script):
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7, after=1.5).ignore(reason="it is too late to be read")
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_231_4)
    assert await meter.voltage() == 231.4


@in_virtual_time
async def test_the_reply_to_a_cancelled_call_is_not_taken_for_the_next_answer(meter, serial_peer):
    device = BufferedByteStream(serial_peer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meter.voltage)
        assert await device.receive_exactly(8) == ASK_VOLTAGE
        tasks.cancel_scope.cancel()

    async def answer_late() -> None:
        await anyio.sleep(0.5)
        await device.send(VOLTAGE_230_7)
        assert await device.receive_exactly(8) == ASK_VOLTAGE
        await device.send(VOLTAGE_231_4)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer_late)
        assert await meter.voltage() == 231.4


async def test_tasks_take_turns_on_the_line(meter, serial_script):
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7, after=0.02).times(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meter.voltage)
        tasks.start_soon(meter.voltage)
