"""Virtual time: a minute of waiting takes none, and what happens when is exact."""

from __future__ import annotations

import time

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

VIRTUAL = ("asyncio", "trio")


def passes(project: Project, test: str, *args: str) -> None:
    """Whether `test_it` passes on both loops that can do it."""
    run = project.run("--serial-loops=asyncio,trio", *args, test=test)
    assert run.outcomes() == {f"test_it[mock-{loop}]": "passed" for loop in VIRTUAL}


def test_retries_take_no_time_and_are_exact(project: Project) -> None:
    """P-70: twenty retries of a second, in a fraction of that, at exactly their times."""
    began = time.monotonic()
    passes(
        project,
        """
        import anyio

        async def test_it(serial_port, serial_clock, serial_transcript):
            for _ in range(20):
                await serial_port.send(b"?")
                with anyio.move_on_after(1):
                    await serial_port.receive()
            assert serial_clock.time == 20
            assert repr(serial_clock) == "<SerialClock at 20 s>"
            sent = [event.time for event in serial_transcript.events if event.kind == "sent"]
            assert sent == list(range(20))
        """,
        "--junit-xml=junit.xml",
    )
    junit = (project.path / "junit.xml").read_text("utf-8")
    assert [f'name="serial_loop" value="{loop}"' in junit for loop in VIRTUAL] == [True, True]
    assert time.monotonic() - began < 20


def test_the_script_uses_virtual_time(project: Project) -> None:
    """P-70, P-50: pauses of the far end, silences, and waits for both."""
    passes(
        project,
        """
        import anyio

        async def test_it(serial_script, serial_port, serial_clock):
            serial_script.send(b"up", after=30)
            serial_script.on(b"?").reply(b"1", after=0.25).reply(b"2", after=0.5)
            serial_script.idle(60)
            assert (await serial_port.receive(), serial_clock.time) == (b"up", 30)
            await serial_port.send(b"?")
            assert (await serial_port.receive(), serial_clock.time) == (b"1", 30.25)
            assert (await serial_port.receive(), serial_clock.time) == (b"2", 30.75)
            await serial_script.wait_done(100)
            assert serial_clock.time == 90.75
        """,
    )


def test_faults_and_pace_use_the_virtual_clock(project: Project) -> None:
    """P-70, P-60, L-174: an unplug, a replug, a delay and every byte on the wire, to the nanosecond."""
    passes(
        project,
        """
        import anyio, pytest
        from anyserial import SerialDisconnectedError

        async def test_it(serial_port, serial_peer, serial_faults, serial_clock):
            serial_faults.after(5).unplug().replug(after=2)
            with pytest.raises(SerialDisconnectedError):
                await serial_port.receive()
            assert serial_clock.time == 5
            serial_faults.at_byte(1).delay(0.5)
            await anyio.sleep(5)
            await serial_peer.send(b"01")
            assert (await serial_port.receive(), serial_clock.time) == (b"0", 10)
            assert (await serial_port.receive(), serial_clock.time) == (b"1", 10.5)
            assert [(fault.event.action, fault.time) for fault in serial_faults.fired] == [
                ("disconnect", 5), ("replug", 7), ("delay", 10)
            ]
            serial_faults.pace(9600)
            await serial_port.send(bytes(96))
            left = 96
            while left:
                left -= len(await serial_peer.receive())
            assert serial_clock.time == 10.6
        """,
    )


def test_faults_can_be_timed_before_the_loop_runs(project: Project) -> None:
    """P-70: in a fixture that is not async, or between the tests of a run."""
    passes(
        project,
        """
        import pytest
        from anyserial import SerialDisconnectedError

        @pytest.fixture
        def flaky(serial_faults, serial_clock, serial_port):
            serial_faults.after(3).unplug()

        async def test_it(flaky, serial_port, serial_clock):
            with pytest.raises(SerialDisconnectedError):
                await serial_port.receive()
            assert serial_clock.time == 3
        """,
    )


def test_time_stands_still_while_anything_runs(project: Project) -> None:
    """P-70: as long as one task has something to do, nobody's timeout is over."""
    passes(
        project,
        """
        import anyio

        async def test_it(serial_port, serial_peer, serial_clock):
            with anyio.fail_after(1e-6):
                for _ in range(100):
                    await serial_peer.send(b"x")
                    assert await serial_port.receive() == b"x"
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
            assert serial_clock.time == 0
        """,
    )


def test_each_test_begins_at_zero(project: Project) -> None:
    """P-70: also the second one of a parameter set, and a repeated one."""
    run = project.run(
        "--count=2",
        test="""
        import anyio, pytest

        @pytest.mark.parametrize("turn", [1, 2])
        async def test_it(serial_clock, serial_transcript, serial_port, turn):
            assert serial_clock.time == 0
            assert serial_transcript.events[0].time == 0
            await anyio.sleep(0.1 + 0.2)
            assert serial_clock.time == 0.3
        """,
        plugins=["pytest_repeat"],
    )
    assert [outcome for name, outcome in run.outcomes().items() if "uvloop" not in name] == ["passed"] * 8
    assert len(run.outcomes()) == 12


def test_loops_without_virtual_time_are_skipped(project: Project) -> None:
    """P-70: uvloop keeps its own time; whatever links are selected, the test runs on the mock."""
    run = project.run("--serial-links=pty", test="async def test_it(serial_clock, serial_port): pass")
    assert run.outcomes() == {
        "test_it[mock-asyncio]": "passed",
        "test_it[mock-uvloop]": "skipped",
        "test_it[mock-trio]": "passed",
    }
    assert "serial_clock needs asyncio or trio: uvloop takes its time from libuv" in run.problem("test_it[mock-uvloop]")


THREADS = {
    "anyio.to_thread": "await anyio.to_thread.run_sync(time.sleep, 0)",
    "a limiter": "await anyio.to_thread.run_sync(time.sleep, 0, limiter=anyio.CapacityLimiter(1))",
    "a file": "await anyio.Path('x').exists()",
    "opening a device": "await open_serial_port('/dev/null')",
    "asyncio": "await asyncio.to_thread(time.sleep, 0)",
    "an executor": "await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)",
    "trio": "await trio.to_thread.run_sync(time.sleep, 0)",
}


@pytest.mark.parametrize("call", THREADS)
def test_worker_threads_are_refused(project: Project, call: str) -> None:
    """P-70: time would not wait for them; the error is raised where the thread was asked for."""
    loop = "trio" if call == "trio" else "asyncio"
    for name in VIRTUAL if call in ("anyio.to_thread", "a limiter", "a file", "opening a device") else [loop]:
        run = project.run(
            f"--serial-loops={name}",
            test=f"""
            import asyncio, time, anyio, trio
            from anyserial import open_serial_port

            async def test_it(serial_clock):
                {THREADS[call]}
            """,
        )
        assert run.outcomes() == {f"test_it[mock-{name}]": "failed"}
        assert "RuntimeError: worker threads take real time" in run.problem(f"test_it[mock-{name}]")


def test_threads_work_again_afterwards(project: Project) -> None:
    """P-70: the refusal ends with the test, and is for its loop alone."""
    run = project.run(
        "--serial-loops=asyncio,trio",
        test="""
        import threading, time, anyio

        async def test_virtual(serial_clock):
            results = []
            thread = threading.Thread(target=lambda: results.append(anyio.run(anyio.to_thread.run_sync, int)))
            thread.start()
            thread.join()
            assert results == [0]

        async def test_real(serial_port):
            assert await anyio.to_thread.run_sync(int) == 0
        """,
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_a_loop_chosen_by_another_fixture_is_an_error(project: Project) -> None:
    """P-70, P-12: an async fixture of wider scope that keeps the loop alive."""
    run = project.run(
        "--serial-loops=asyncio",
        test="""
        import pytest

        @pytest.fixture(scope="session")
        def anyio_backend(): return "asyncio"

        @pytest.fixture(scope="session", autouse=True)
        async def database(anyio_backend): yield

        @pytest.mark.anyio
        async def test_first(): pass

        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_it(serial_clock): pass
        """,
    )
    assert run.outcomes()["test_first"] == "passed"
    assert [outcome for name, outcome in run.outcomes().items() if "test_it" in name] == ["error in setup"]


OWN = """
    import time
    import anyio
    import pytest

    {definition}

    async def test_before(serial_port):
        started = anyio.current_time()
        await anyio.sleep(0.01)
        # uvloop counts whole milliseconds.
        assert anyio.current_time() >= started + 0.009

    async def test_it(serial_clock, serial_port, serial_peer):
        started = time.monotonic()
        with anyio.move_on_after(1000):
            await serial_port.receive()
        assert serial_clock.time == 1000
        assert time.monotonic() < started + 100

    async def test_after(serial_port):
        started = time.monotonic()
        await anyio.sleep(0.01)
        assert time.monotonic() >= started + 0.009
"""
OWN_BACKENDS = {
    "function": "@pytest.fixture\n    def anyio_backend(): return {value}",
    "parametrized": "@pytest.fixture(params=[{value}])\n    def anyio_backend(request): return request.param",
    "module": "@pytest.fixture(scope='module')\n    def anyio_backend(): return {value}",
    "session": "@pytest.fixture(scope='session')\n    def anyio_backend(): return {value}",
    "mark": "pytestmark = pytest.mark.parametrize('anyio_backend', [{value}], ids=['x'])",
}
VALUES = {
    "asyncio": ("'asyncio'", "passed"),
    "asyncio with options": ("('asyncio', {'debug': True})", "passed"),
    "trio": ("'trio'", "passed"),
    "trio with options": ("('trio', {'restrict_keyboard_interrupt_to_checkpoints': True})", "passed"),
    "uvloop": ("('asyncio', {'use_uvloop': True})", "skipped"),
    "a factory": ("('asyncio', {'loop_factory': lambda: __import__('asyncio').new_event_loop()})", "skipped"),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("own", OWN_BACKENDS)
def test_the_clock_joins_a_backend_of_the_project(project: Project, own: str, value: str) -> None:
    """P-109: on asyncio and trio the value gets a clock, for this test only; a loop with its own time is a skip."""
    text, outcome = VALUES[value]
    run = project.run(test=OWN.format(definition=OWN_BACKENDS[own].format(value=text)))
    outcomes = {name.partition("[")[0]: each for name, each in run.outcomes().items()}
    assert outcomes == {"test_before": "passed", "test_it": outcome, "test_after": "passed"}
    if outcome == "skipped":
        (name,) = (name for name in run.outcomes() if name.startswith("test_it"))
        assert "serial_clock needs asyncio" in run.problem(name)


def test_other_options_of_the_backend_are_kept(project: Project) -> None:
    """P-109: the project's asyncio debug mode, for one, is on in virtual time too."""
    run = project.run(
        test="""
        import asyncio, pytest

        @pytest.fixture
        def anyio_backend(): return "asyncio", {"debug": True}

        async def test_it(serial_clock):
            assert asyncio.get_running_loop().get_debug()
        """
    )
    assert run.outcomes() == {"test_it[mock]": "passed"}


def test_a_failure_at_a_virtual_time_ends_the_test(project: Project) -> None:
    """P-70, P-84: a function that is told of faults may fail; the test does not wait for what cannot come then."""
    run = project.run(
        "--serial-loops=asyncio,trio",
        test="""
        async def test_it(serial_port, serial_faults, serial_clock):
            def complain(fault):
                raise ValueError("mine")
            serial_faults.plan.on_fired = complain
            serial_faults.after(5).unplug()
            await serial_port.receive()
        """,
    )
    assert run.outcomes() == {f"test_it[mock-{loop}]": "failed" for loop in VIRTUAL}
    for loop in VIRTUAL:
        assert "ValueError: mine" in run.problem(f"test_it[mock-{loop}]")


def test_a_test_that_would_hang_fails_at_once(project: Project) -> None:
    """P-70, P-84: when nothing is left that could happen, the test is told where it waits."""
    project.file(
        "meter.py",
        """
        async def volts(port):
            await port.send(b"?")
            return await port.receive()
        """,
    )
    run = project.run(
        "--serial-loops=asyncio,trio",
        test="""
        import anyio
        import meter

        async def test_it(serial_port, serial_script, serial_clock):
            serial_script.on(b"?")
            await meter.volts(serial_port)

        async def test_years_are_not_for_ever(serial_port, serial_clock):
            await anyio.sleep(3e7)
        """,
    )
    for loop in VIRTUAL:
        assert run.outcomes()[f"test_it[mock-{loop}]"] == "failed"
        assert run.outcomes()[f"test_years_are_not_for_ever[mock-{loop}]"] == "passed"
        assert run.problem(f"test_it[mock-{loop}]").splitlines() == [
            "serial_clock: all tasks wait, and nothing is left that could happen.",
            "  the test waits  at test_it.py:7 in test_it",
            "                  at meter.py:4 in volts",
            "Put a timeout around what may not come; it takes no time here.",
        ]


def test_hypothesis_shrinks_a_test_that_would_hang(project: Project) -> None:
    """P-70, P-16: one example after the other that waits for what cannot come."""
    run = project.run(
        "--serial-loops=asyncio,trio",
        test="""
        import pytest
        from hypothesis import given, settings, strategies as st

        @pytest.mark.usefixtures("serial_clock")
        @settings(deadline=None, database=None)
        @given(number=st.integers(0, 1000))
        async def test_it(serial_factory, number):
            async with serial_factory() as (port, peer):
                if number > 10:
                    await port.receive()
        """,
        plugins=["_hypothesis_pytestplugin"],
    )
    assert run.outcomes() == {f"test_it[mock-{loop}]": "failed" for loop in VIRTUAL}
    for loop in VIRTUAL:
        assert "all tasks wait, and nothing is left that could happen" in run.problem(f"test_it[mock-{loop}]")
        assert "number=11" in run.problem(f"test_it[mock-{loop}]")


def test_a_port_that_blocks_is_refused(project: Project) -> None:
    """P-70: what blocks the loop would wait for a time that does not pass."""
    run = project.run("--serial-loops=trio", test="async def test_it(serial_clock, sync_serial_port): pass")
    assert run.outcomes() == {"test_it[mock-trio]": "error in setup"}
    assert "serial_clock cannot work with sync_serial_port: its time passes while" in run.problem("test_it[mock-trio]")


def test_a_test_that_is_not_async_is_refused(project: Project) -> None:
    """P-70: there would be nobody whose time could be virtual."""
    run = project.run("--serial-loops=asyncio", test="def test_it(serial_clock): pass")
    assert run.outcomes() == {"test_it[mock-asyncio]": "error in setup"}
    assert run.problem("test_it[mock-asyncio]").startswith(
        "serial_clock needs an `async def` test, because it works on"
    )
