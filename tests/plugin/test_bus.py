"""Several ports on one line: `serial_bus`."""

from __future__ import annotations

import pytest

from pytest_anyserial.__main__ import main

from .benches import Bench, pty_bus
from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

LOOPS = ("asyncio", "uvloop", "trio")
TEST = """
    async def test_it(serial_bus):
        async with serial_bus(3) as (controller, first, second):
            await controller.send(b"who?")
            assert await first.receive() == await second.receive() == b"who?"
            await second.send(b"me")
            assert await controller.receive() == b"me"
"""


def test_a_bus_runs_on_every_loop(project: Project) -> None:
    """P-111: on the mock link, with no hardware."""
    assert project.run(test=TEST).outcomes() == {f"test_it[mock-{loop}]": "passed" for loop in LOOPS}


def test_a_failed_test_shows_each_port(project: Project) -> None:
    """P-111, P-80: a section for each end, with what it heard."""
    run = project.run("--serial-loops=trio", test=TEST + "            raise RuntimeError")
    titles = [title for report in run.reports for title, _ in report.sections]
    for end in (1, 2, 3):
        assert any(f"serial_bus_{end}" in title for title in titles)


def test_collisions_come_in_virtual_time(project: Project) -> None:
    """P-111, P-70: to the byte: 10 are sent, and another port begins in the middle of the sixth."""
    run = project.run(
        "--serial-loops=asyncio,trio",
        test="""
        import anyio
        from anyserial import SerialConfig

        async def test_it(serial_bus, serial_clock):
            async with serial_bus(3, config=SerialConfig(baudrate=10_000)) as (a, b, c):
                await a.send(b"A" * 10)
                await anyio.sleep(0.0055)
                await b.send(b"B" * 10)
                await anyio.sleep(1)
                # A's last five are garbled; of B's ten, five and a part of one are lost in them.
                assert await c.receive_available() == b"A" * 5 + b"\\xbe" * 5 + b"B" * 5
                assert (await c.line_errors()).framing == 5
                assert a.input_waiting() == 5
        """,
    )
    assert run.outcomes() == {f"test_it[mock-{loop}]": "passed" for loop in ("asyncio", "trio")}


def test_two_tests_may_have_several_buses(project: Project) -> None:
    """P-111: each has paths of its own, which a driver opens itself."""
    run = project.run(
        "--serial-loops=trio",
        test="""
        from anyserial import open_serial_port

        async def test_it(serial_bus):
            async with serial_bus(2) as (a, b), serial_bus(2, opened=1) as other:
                assert len(other) == 1
                async with await open_serial_port(other.paths[1]) as driver:
                    await driver.send(b"x")
                    assert await other[0].receive() == b"x"
                assert a.input_waiting() == b.input_waiting() == 0
        """,
    )
    assert run.outcomes() == {"test_it[mock-trio]": "passed"}


def test_an_end_can_be_unplugged(project: Project) -> None:
    """P-111: `cable` has the faults of each end."""
    run = project.run(
        "--serial-loops=trio",
        test="""
        import pytest
        from anyserial import SerialDisconnectedError

        async def test_it(serial_bus):
            async with serial_bus(3) as bus:
                bus.cable.unplug(2)
                with pytest.raises(SerialDisconnectedError):
                    await bus[2].receive()
                await bus[0].send(b"x")
                assert await bus[1].receive() == b"x"
        """,
    )
    assert run.outcomes() == {"test_it[mock-trio]": "passed"}


def test_a_pty_has_no_bus(project: Project) -> None:
    """P-111, P-22: it joins two ends."""
    run = project.run("--serial-links=pty", "-rs", test=TEST)
    assert list(run.outcomes().values()) == ["skipped"]
    assert (
        'needs a bus: link "pty" is wired as null-modem, not rs485 (--serial-links=pty,mock would run it)' in run.text
    )


@pytest.mark.parametrize("ends", [2, 3, 4])
def test_a_bench_link_may_join_several_ports(project: Project, ends: int) -> None:
    """P-111: all are leased, a test opens as many as it needs, and drivers may open paths themselves."""
    with pty_bus(project.path, 4):
        run = project.run(
            "--serial-hw=hil.toml",
            test=f"""
            from anyserial import SerialPort

            async def test_all(serial_bus, serial_link):
                async with serial_bus({ends}) as bus:
                    assert len(bus) == len(set(bus.paths)) == {ends}
                    for sender in bus:
                        await sender.send(b"x")
                        for listener in bus:
                            if listener is not sender:
                                assert await listener.receive() == b"x"
                assert len({{event.port for event in serial_link.transcript.events}}) == {ends}

            async def test_path(serial_bus):
                async with serial_bus({ends}, opened=1) as bus:
                    async with await SerialPort.open(bus.paths[-1]) as driver:
                        await bus[0].send(b"x")
                        assert await driver.receive() == b"x"

            async def test_pair(serial_port, serial_peer):
                await serial_port.send(b"x")
                assert await serial_peer.receive() == b"x"
            """,
        )
    assert set(run.outcomes().values()) == {"passed"}, run.text
    assert len(run.outcomes()) == 9


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_doctor_checks_every_port_of_a_bus(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    """H-20, P-111: from each to each, so that it names the one wire that is wrong."""
    monkeypatch.setenv("COLUMNS", "200")
    with pty_bus(project.path, 3, is_cut=is_cut):
        capsys.readouterr()
        status = main(["doctor", str(project.path / "hil.toml")])
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("every byte value") == 6 - is_cut
    assert ("TX of a does not reach RX of c" in text) == is_cut
    assert status == is_cut, text


@pytest.mark.parametrize(("ends", "outcome"), [(2, "passed"), (3, "skipped")])
def test_a_bench_link_of_kind_rs485_is_a_bus(bench: Bench, project: Project, ends: int, outcome: str) -> None:
    """P-111: of two ends."""
    bench.write()
    file = bench.folder / "hil.toml"
    file.write_text(file.read_text("utf-8").replace('"null-modem"', '"rs485"'), "utf-8")
    run = project.run(
        "--serial-hw=hil.toml",
        "--serial-loops=trio",
        "-rs",
        test=f"""
        async def test_it(serial_bus):
            async with serial_bus({ends}) as bus:
                await bus[0].send(b"x")
                assert await bus[1].receive() == b"x"
        """,
    )
    assert run.outcomes() == {"test_it[hw-null-trio]": outcome}
    if outcome == "skipped":
        assert "needs a bus of 3 ends: link " in run.text
