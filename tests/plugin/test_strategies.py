"""The strategies: values of every kind, that print as code and shrink to what matters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import ConfigurationError, SerialConfig
from anyserial.testing import FaultAction, FaultEvent, FaultPlan
from pytest_anyserial.strategies import ANY, HARMLESS, chunkings, fault_plans, serial_configs

from .conftest import Project

#: What a pasted value may name.
NAMES: dict[str, Any] = {"FaultAction": FaultAction, "FaultEvent": FaultEvent, "FaultPlan": FaultPlan}


def find(strategy: st.SearchStrategy[Any], wanted: Callable[[Any], bool]) -> Any:
    """The simplest example, by the same search each time: about one of a thousand stops shrinking too early."""
    return hypothesis.find(strategy, wanted, random=random.Random(1))


@given(fault_plans())
def test_plans_print_as_code(plan: FaultPlan) -> None:
    """P-63: what is pasted is the same plan; none of its faults has to happen."""
    pasted = eval(repr(plan), NAMES)
    assert list(pasted.schedule) == list(plan.schedule)
    assert all(event.optional for event in plan.schedule)


@pytest.mark.parametrize("action", ANY)
def test_every_fault_is_found_alone(action: FaultAction) -> None:
    """P-63: a plan shrinks to the one fault that matters, at its first moment and in its smallest form."""
    plan = find(fault_plans(), lambda plan: any(event.action is action for event in plan.schedule))
    (event,) = plan.schedule
    direction = "write" if action is FaultAction.SHORT_WRITE else "read"
    assert (event.action, event.direction, event.at_byte, event.count) == (action, direction, 0, 1)


def test_an_unplugged_device_may_come_back() -> None:
    """P-63: at the same moment as it vanished, some time later."""
    plan = find(fault_plans(seconds=[2.5]), lambda plan: "REPLUG" in repr(plan))
    assert [(event.action, event.at_byte, event.seconds) for event in plan.schedule] == [
        ("disconnect", 0, 0),
        ("replug", 0, 2.5),
    ]


@given(fault_plans(actions=HARMLESS, max_faults=2, max_byte=7, seconds=[0.5]))
def test_plans_keep_to_their_bounds(plan: FaultPlan) -> None:
    """P-63: in kind, number, place and length."""
    assert len(plan.schedule) <= 2
    for event in plan.schedule:
        assert event.action in HARMLESS
        assert (event.at_byte or event.on_op or 0) <= 7
        assert event.seconds in (0, 0.5)


@given(st.data(), st.binary(max_size=20))
def test_chunks_make_up_the_data(draw: st.DataObject, data: bytes) -> None:
    """P-63: all of it, in order, and no chunk is empty."""
    chunks = draw.draw(chunkings(data))
    assert b"".join(chunks) == data
    assert b"" not in chunks


def test_chunks_shrink_to_one_cut() -> None:
    """P-63: the one that matters."""
    assert find(chunkings(b"012345"), lambda chunks: chunks[0].endswith(b"3")) == [b"0123", b"45"]
    assert find(chunkings(b"012345"), lambda chunks: True) == [b"012345"]


def test_configs_shrink_towards_the_defaults() -> None:
    """P-63: from 115200 8N1."""
    assert find(serial_configs(), lambda config: True) == SerialConfig()
    assert find(serial_configs(), lambda config: config.parity != "none") == SerialConfig(parity="even")  # type: ignore[arg-type]
    fixed = serial_configs(baudrate=300, low_latency=st.booleans())
    assert find(fixed, lambda config: config.low_latency) == SerialConfig(baudrate=300, low_latency=True)


def test_a_field_that_does_not_exist_is_an_error() -> None:
    """P-63: as with `SerialConfig` itself; a wrong value too."""
    with pytest.raises(TypeError, match="speed"):
        find(serial_configs(speed=1), lambda config: True)
    with pytest.raises(ConfigurationError, match="baudrate"):
        find(serial_configs(baudrate=0), lambda config: True)


@pytest.mark.posix("the plugin of Hypothesis")
def test_values_print_as_code_in_a_report(project: Project) -> None:
    """P-63: Hypothesis shows arguments that can be pasted."""
    run = project.run(
        "--serial-loops=asyncio",
        test="""
        from hypothesis import given, settings
        from pytest_anyserial.strategies import *

        @settings(database=None, deadline=None)
        @given(plan=fault_plans(), chunks=chunkings(b"0123"), config=serial_configs())
        async def test_it(serial_factory, plan, chunks, config):
            assert len(chunks) < 2 or config.parity == "none" or not plan.schedule
        """,
        plugins=["_hypothesis_pytestplugin"],
    )
    text = " ".join(re.sub(r"^E|#.*", "", run.problem("test_it[mock-asyncio]"), flags=re.MULTILINE).split())
    assert (
        "plan=FaultPlan(schedule=[FaultEvent(action=FaultAction.SHORT_READ, at_byte=0, optional=True)]), "
        "chunks=[b'0', b'123'], "
        "config=SerialConfig( baudrate=115200, byte_size=8, parity='even', stop_bits=1, )"
    ) in text
