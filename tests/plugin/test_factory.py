"""Many pairs in one test, and Hypothesis with all that a port has."""

from __future__ import annotations

import pytest

from .benches import pty_bench
from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

ALL = ["--serial-links=mock,pty"]
ONE = ["--serial-loops=asyncio"]
EVERYWHERE = {f"test_it[{link}-{loop}]" for link in ("mock", "pty") for loop in ("asyncio", "uvloop", "trio")}
HYPOTHESIS = ["_hypothesis_pytestplugin"]


def test_pairs_are_made_one_after_the_other_and_at_once(project: Project) -> None:
    """P-16, P-40: fresh ones on every link and loop, open for the length of the block."""
    run = project.run(
        *ALL,
        test="""
        from anyserial import SerialConfig

        async def exchange(pair):
            for sender, receiver in ((pair.port, pair.peer), (pair.peer, pair.port)):
                await sender.send(b"ping")
                assert await receiver.receive() == b"ping"

        async def test_it(serial_factory):
            seen = []
            for _ in range(3):
                async with serial_factory() as pair:
                    assert [end.input_waiting() for end in pair] == [0, 0]
                    await exchange(pair)
                    await pair.port.send(b"left behind")
                    seen += pair
            slow = SerialConfig(baudrate=9600)
            async with serial_factory() as first, serial_factory(slow) as second, serial_factory(config=slow) as third:
                for pair in (first, second, third):
                    await exchange(pair)
                    seen += pair
                assert [pair.port.config.baudrate for pair in (first, second, third)] == [115_200, 9600, 9600]
            assert not any(port.is_open for port in seen)
        """,
    )
    assert run.outcomes() == dict.fromkeys(EVERYWHERE, "passed")


def test_the_ports_of_the_test_are_not_disturbed(project: Project) -> None:
    """P-16: beside `serial_port` and a script, and with the config that the project gives."""
    run = project.run(
        *ALL,
        test="""
        import pytest
        from anyserial import SerialConfig

        @pytest.fixture
        def serial_config():
            return SerialConfig(baudrate=1200)

        async def test_it(serial_port, serial_factory, serial_script):
            serial_script.on(b"?").reply(b"!")
            async with serial_factory() as (port, peer):
                assert port.config.baudrate == peer.config.baudrate == 1200
                await port.send(b"?")
                assert await peer.receive() == b"?"
            await serial_port.send(b"?")
            assert await serial_port.receive() == b"!"
        """,
    )
    assert run.outcomes() == dict.fromkeys(EVERYWHERE, "passed")


def test_hypothesis_gets_a_pair_per_example(project: Project) -> None:
    """P-16: `@given` on an async test, on every link and loop, without a complaint about the scope of fixtures."""
    run = project.run(
        *ALL,
        test="""
        from hypothesis import given, settings, strategies as st

        @settings(max_examples=10, deadline=None, database=None)
        @given(data=st.binary(min_size=1, max_size=50))
        async def test_it(serial_factory, data):
            async with serial_factory() as (port, peer):
                await port.send(data)
                received = b""
                while len(received) < len(data):
                    received += await peer.receive()
                assert received == data
        """,
        plugins=HYPOTHESIS,
    )
    assert run.outcomes() == dict.fromkeys(EVERYWHERE, "passed")


def test_a_report_shows_the_last_pair(project: Project) -> None:
    """P-80: of pairs that came one after the other, that is the one of the minimal example."""
    run = project.run(
        *ONE,
        *ALL,
        test="""
        async def test_it(serial_factory, serial_transcript):
            for data in (b"first", b"second"):
                async with serial_factory() as (port, peer):
                    await port.send(data)
                    await peer.receive()
            assert [event.data for event in serial_transcript.events if event.kind == "sent"] == [b"first", b"second"]
            raise RuntimeError("on purpose")
        """,
    )
    for link in ("mock", "pty"):
        problem = dict(run.by_test()[f"test_it[{link}-asyncio]"][1].sections)
        section = problem[f"serial_port {link} 2, serial_peer {link} 2"]
        assert section.startswith("(6 earlier events not shown)\n")
        assert "|second|" in section
        assert "|first|" not in section


def test_a_pair_can_have_faults(project: Project) -> None:
    """P-16, P-61: as a plan or as events; they are on record, and have to happen unless they are optional."""
    run = project.run(
        *ONE,
        test="""
        from anyserial.testing import FaultAction, FaultEvent, FaultPlan

        DROP = FaultEvent(action=FaultAction.DROP, at_byte=1)
        NEVER = FaultEvent(action=FaultAction.EOF, at_byte=100, optional=True)

        async def test_plan(serial_factory, serial_transcript):
            plan = FaultPlan(eintr_reads=1, schedule=[DROP, NEVER])
            async with serial_factory(faults=plan) as (port, peer):
                await peer.send(b"012")
                assert await port.receive() + await port.receive() == b"02"
            assert [fault.event for fault in plan.fired] == [DROP]
            assert [event.detail for event in serial_transcript.events if event.kind == "fault"] == [
                "1 lost byte at byte 1"
            ]

        async def test_missed(serial_factory):
            async with serial_factory(faults=[DROP]) as (port, peer):
                await peer.send(b"0")
                await port.receive()

        async def test_own_failure(serial_factory):
            async with serial_factory(faults=[DROP]) as (port, peer):
                raise ValueError("mine")
        """,
    )
    assert run.outcomes() == {
        "test_plan[mock-asyncio]": "passed",
        "test_missed[mock-asyncio]": "failed",
        "test_own_failure[mock-asyncio]": "failed",
    }
    missed = run.problem("test_missed[mock-asyncio]")
    assert "AssertionError: serial_faults: 1 fault never happened: " in missed
    assert "planned: 1 lost byte at byte 1; only 1 byte passed" in missed
    assert "never happened" not in run.problem("test_own_failure[mock-asyncio]")


def test_hardware_is_opened_again_and_again(project: Project) -> None:
    """P-16, P-24: it is there once; each pair finds it empty and silent, whatever the last one left."""
    with pty_bench(project.path):
        run = project.run(
            *ONE,
            "--serial-hw=hil.toml",
            test="""
            from hypothesis import given, settings, strategies as st

            @settings(max_examples=5, deadline=None, database=None)
            @given(data=st.binary(min_size=1, max_size=50))
            async def test_it(serial_factory, data):
                async with serial_factory() as (port, peer):
                    assert [port.input_waiting(), peer.input_waiting()] == [0, 0]
                    await port.send(data)
                    assert (await peer.receive()).startswith(data[:1])
                    await peer.send(b"left behind")
                    await port.send(b"left behind")
            """,
            plugins=HYPOTHESIS,
        )
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "passed"}


MISUSES = {
    "async def test_it(serial_factory):\n    async with serial_factory(faults=[DROP]): pass": (
        "ValueError: faults can be planned on the mock link only, and this test runs on pty: "
        "mark it with @pytest.mark.anyserial(links=['mock'])"
    ),
    "def test_it(serial_factory): pass": "serial_factory needs an `async def` test, because it works on",
}


@pytest.mark.parametrize("test", MISUSES)
def test_misuse_of_the_factory_is_an_error(project: Project, test: str) -> None:
    """P-84: with what to do instead."""
    head = "from anyserial.testing import *\nDROP = FaultEvent(action=FaultAction.DROP, at_byte=0)\n"
    run = project.run(*ONE, "--serial-links=pty", test=head + test)
    assert MISUSES[test] in run.problem("test_it[pty-asyncio]")


def test_between_tests_there_is_no_link(project: Project) -> None:
    """P-15: the factory has session scope, its ports belong to a test."""
    run = project.run(
        *ONE,
        test="""
        import anyio, pytest

        @pytest.fixture(scope="module")
        def kept(serial_factory):
            return serial_factory

        async def test_it(kept):
            async with kept() as (port, peer):
                pass

        def test_other(kept):
            pass

        class TestLate:
            async def test_link(self, request, serial_link):
                with pytest.raises(RuntimeError, match="name it in the arguments of the test or of a fixture"):
                    async with request.getfixturevalue("serial_factory")(): pass

            def test_it(self, request):
                factory = request.getfixturevalue("serial_factory")
                async def use():
                    async with factory(): pass
                with pytest.raises(RuntimeError, match="serial_factory opens ports for a test that uses it"):
                    anyio.run(use)
        """,
    )
    outcomes = run.outcomes()
    assert outcomes["test_it[mock-asyncio]"] == "passed"
    assert outcomes["TestLate::test_it"] == outcomes["TestLate::test_link[mock-asyncio]"] == "passed"
    assert outcomes["test_other[mock-asyncio]"] == "error in setup"
