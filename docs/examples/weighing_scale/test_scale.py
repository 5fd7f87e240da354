"""Whatever pieces an answer comes in, it is the same weight. For the hasty driver that is not so, as expected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale import HastyScale, Scale

from anyserial.testing import FaultAction, FaultEvent, FaultPlan
from pytest_anyserial.strategies import HARMLESS, fault_plans

#: Bytes of an answer: later faults find nothing.
ANSWER = len(b"+00125\r")

hasty = pytest.param(HastyScale, marks=pytest.mark.xfail(raises=AssertionError, strict=True))


@pytest.mark.parametrize("driver", [Scale, HastyScale])
async def test_the_scale_tells_the_weight(serial_port, serial_script, driver):
    serial_script.on(b"W\r").reply(b"+00125\r")
    assert await driver(serial_port).grams() == 125


@pytest.mark.usefixtures("serial_clock")
@pytest.mark.parametrize("driver", [Scale, hasty])
@settings(deadline=None, max_examples=300)
@given(plan=fault_plans(actions=HARMLESS, max_byte=ANSWER), grams=st.integers(0, 99_999))
async def test_no_harmless_fault_changes_the_weight(serial_factory, driver, plan, grams):
    async with serial_factory(faults=plan) as (port, device):
        await device.send(b"%+06d\r" % grams)
        assert await driver(port).grams() == grams


@pytest.mark.parametrize("driver", [Scale, hasty])
async def test_an_answer_in_two_pieces(serial_port, serial_script, serial_faults, driver):
    serial_faults.plan = FaultPlan(schedule=[FaultEvent(action=FaultAction.SHORT_READ, at_byte=2, optional=True)])
    serial_script.on(b"W\r").reply(b"+01000\r")
    assert await driver(serial_port).grams() == 1000
