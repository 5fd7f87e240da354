"""A run on a bench: every test starts from a known state, alone with its devices, whatever other tests and runs do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pytest_anyserial._bench.file import load
from pytest_anyserial._bench.lease import leased, leases
from pytest_anyserial._bench.supply import supply_key

from .benches import POWER, Bench, pty_bench, supply
from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

HW = "--serial-hw=hil.toml"
ONE = "--serial-loops=asyncio"
EXCHANGE = """
async def test_it(serial_port, serial_peer):
    await serial_port.send(b"ping")
    assert await serial_peer.receive() == b"ping"
"""
#: For test files: one test at a time may be in the block.
ALONE = """
import contextlib, os

@contextlib.contextmanager
def alone():
    os.close(os.open("witness", os.O_CREAT | os.O_EXCL))
    try:
        yield
    finally:
        os.unlink("witness")
"""


def key(path: str) -> str:
    """What names the device at `path` on this host."""
    return f"dev-{os.stat(path).st_rdev:x}"


def all_passed(outcomes: dict[str, str], number: int) -> bool:
    return list(outcomes.values()) == ["passed"] * number


def test_what_a_test_leaves_behind_is_gone(project: Project, bench: Bench) -> None:
    """P-24: nothing waits in a queue, for async ports, blocking ports and users of the path alike."""
    run = project.run(
        HW,
        ONE,
        test="""
        import os, pytest

        @pytest.mark.parametrize("turn", [1, 2])
        async def test_async(serial_pair, turn):
            assert [end.input_waiting() for end in serial_pair] == [0, 0]
            for end in serial_pair:
                await end.send(b"left behind")

        @pytest.mark.parametrize("turn", [1, 2])
        def test_sync(sync_serial_port, sync_serial_peer, turn):
            ends = (sync_serial_port, sync_serial_peer)
            assert [end.input_waiting() for end in ends] == [0, 0]
            for end in ends:
                end.send(b"left behind")

        @pytest.mark.parametrize("turn", [1, 2])
        def test_path(serial_path, serial_peer_path, turn):
            ends = [os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK) for path in (serial_path, serial_peer_path)]
            for end in ends:
                with pytest.raises(BlockingIOError):
                    os.read(end, 1)
            for end in ends:
                os.write(end, b"left behind")
                os.close(end)
        """,
    )
    assert all_passed(run.outcomes(), 6)


ONE_END = """
[ports.m]
match = {{ path = "{path}" }}
[links.{name}]
ends = ["m"]
kind = "{name}"
{lines}
"""


def test_a_missing_feature_warns_in_the_test_that_opens_the_port(project: Project, bench: Bench) -> None:
    """P-24: the set-up opens the same ports, and leaves it to the test to be warned."""
    bench.write(a="open = { low_latency = true, unsupported_policy = 'warn' }")
    run = project.run(
        HW,
        ONE,
        test="""
        import pytest
        from anyserial import open_serial_port

        def test_path(serial_path): pass

        async def test_warned(serial_link):
            with pytest.warns(RuntimeWarning, match="low latency is not supported"):
                async with serial_link.opened(): pass
        """,
    )
    assert all_passed(run.outcomes(), 2)


#: Talks on a pty of its own, whose path it prints: for ever, and slowly, because a tty whose buffer was full may stall.
TALKER = """
import os, time, tty
controller, end = os.openpty()
tty.setraw(end)
os.set_blocking(controller, False)
print(os.ttyname(end), flush=True)
while True:
    try:
        os.write(controller, b"login:")
    except BlockingIOError:
        pass
    time.sleep(0.005)
"""


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="controller"),
        pytest.param(("-n1",), id="xdist", marks=pytest.mark.gate("it starts workers of xdist")),
    ],
)
def test_a_link_that_is_not_silent_is_named(project: Project, bench: Bench, workers: tuple[str, ...]) -> None:
    """P-24, P-140: a third program on the wire blocks the test in its set-up, with what it says."""
    with subprocess.Popen([sys.executable, "-S", "-c", TALKER], stdout=subprocess.PIPE, text=True) as talker:
        assert talker.stdout is not None
        more = ONE_END.format(path=talker.stdout.readline().strip(), name="loopback", lines="")
        # At this rate a byte takes long, and so does silence.
        bench.write(more=more.replace("[links", "open = { baudrate = 110 }\n[links"))
        test = "async def test_it(serial_port): pass"
        run = project.run(
            HW, ONE, "--serial-links=hw-loopback", *workers, test=test, plugins=["xdist"] if workers else []
        )
        talker.kill()
    assert run.outcomes() == {"test_it[hw-loopback-asyncio]": "error in setup"}
    problem = run.problem("test_it[hw-loopback-asyncio]")
    assert 'link "loopback": bytes keep coming to end a although no test sends: ' in problem
    assert "6c 6f 67 69 6e 3a" in problem
    assert 'line in use, link "loopback": 1 test\n' in run.text


def test_a_link_with_one_end_has_no_far_end(project: Project, bench: Bench) -> None:
    """P-20: what needs end B is an unmet need; the rest runs."""
    with pty_bench(project.path / "..") as other:
        more = ONE_END.format(path=other.pair.path_a, name="loopback", lines="")
        bench.write(more=more)
        run = project.run(
            HW,
            ONE,
            "--no-serial-strict",
            "--serial-links=hw-loopback",
            test="""
            import pytest

            async def test_port(serial_port, serial_link, serial_path):
                assert (serial_link.kind, len(serial_link.capabilities)) == ("loopback", 1)
                with pytest.raises(LookupError, match="hw-loopback has only end A: its kind is loopback"):
                    serial_link.path("peer")

            async def test_peer(serial_peer): pass
            async def test_script(serial_script): pass
            def test_path(serial_peer_path): pass
            def test_sync(sync_serial_peer): pass
            """,
        )
    reason = 'needs a far end: link "loopback" has only end A, its kind is loopback (declared in hil.toml)'
    assert run.outcomes().pop("test_port[hw-loopback-asyncio]") == "passed"
    for test in ("peer", "script", "path", "sync"):
        assert reason in run.problem(f"test_{test}[unmet]")


def test_a_device_under_test_is_for_its_own_tests(project: Project, bench: Bench) -> None:
    """P-20: a test says which device it is for; the device may talk, and what it said before is gone."""
    bench.pair.unplug()
    with pty_bench(project.path / "..") as other:
        lines = 'device = "acme-meter"'
        bench.write(more=ONE_END.format(path=other.pair.path_a, name="device", lines=lines))
        meter = os.open(other.pair.path_b, os.O_RDWR | os.O_NOCTTY)
        os.write(meter, b"booted")
        run = project.run(
            HW,
            ONE,
            "--no-serial-strict",
            test="""
            import pytest

            @pytest.mark.anyserial(device="acme-meter")
            async def test_meter(serial_port):
                assert serial_port.input_waiting() == 0

            @pytest.mark.anyserial(links=["hw-device"])
            async def test_other(serial_port): pass
            """,
        )
        os.close(meter)
    assert run.outcomes() == {"test_meter[hw-device-asyncio]": "passed", "test_other[unmet]": "skipped"}
    reason = 'needs a link without a device: link "device" is for tests of device acme-meter (declared in hil.toml)'
    assert reason in run.problem("test_other[unmet]")


UNPLUG = """
import anyio, pytest
from anyserial import SerialDisconnectedError

@pytest.mark.anyserial(requires=["unplug"])
async def test_unplug(serial_port, serial_link):
    serial_link.unplug()
    with anyio.fail_after(10), pytest.raises(SerialDisconnectedError):
        await serial_port.receive()
    await serial_port.aclose()
    {end}
"""
AGAIN = """serial_link.replug()
    assert serial_link.path() != serial_link.path("peer")
    async with serial_link.opened() as port, serial_link.opened("peer") as peer:
        await port.send(b"back")
        assert await peer.receive() == b"back"
    with serial_link.sync_opened() as port:
        port.send(b"x")
"""


def test_a_supply_unplugs_and_replugs(project: Project, bench: Bench) -> None:
    """P-20, H-30: on every loop; the device that is back is found where it is now."""
    bench.write(a='power = "hub"', b='power = "hub"', more=POWER)
    with supply(bench) as switched:
        run = project.run(HW, test=UNPLUG.format(end=AGAIN))
    assert all_passed(run.outcomes(), 3)
    assert switched == ["off", "on"] * 3


def test_a_device_that_a_test_left_unplugged_is_switched_on(project: Project, bench: Bench) -> None:
    """P-24: after the test, and before the next one if the run before was killed."""
    bench.write(a='power = "hub"', b='power = "hub"', more=POWER)
    project.file("test_next.py", EXCHANGE)
    with supply(bench) as switched:
        run = project.run(HW, ONE, "test_it.py", "test_next.py", test=UNPLUG.format(end="pass"))
        assert all_passed(run.outcomes(), 2)
        assert switched == ["off", "on"]
        bench.pair.unplug()
        assert all_passed(project.run(HW, ONE, "test_next.py").outcomes(), 1)
        assert switched == ["off", "on", "on"]


def test_a_test_that_unplugs_must_require_unplug(project: Project, bench: Bench) -> None:
    """H-13: otherwise nobody would know which other devices to lease."""
    bench.write(a='power = "hub"', b='power = "hub"', more=POWER)
    with supply(bench) as switched:
        run = project.run(HW, ONE, test="def test_it(serial_link): serial_link.unplug()")
    assert run.outcomes() == {"test_it[hw-null]": "failed"}
    assert "mark the test with @pytest.mark.anyserial(requires=['unplug'])" in run.problem("test_it[hw-null]")
    assert switched == []


def test_a_test_that_unplugs_leases_all_that_goes_with_it(project: Project, bench: Bench) -> None:
    """H-13: the ports of one supply, and the supply; a test that does not unplug leases its link alone."""
    with pty_bench(project.path / "..") as other:
        more = ONE_END.format(path=other.pair.path_a, name="loopback", lines="")
        more = more.replace("[links", 'power = "hub"\n[links')
        bench.write(a='power = "hub"', more=more + POWER)
        run = project.run(
            HW,
            ONE,
            "--serial-links=hw-null",
            test="""
            import pytest
            from pathlib import Path
            from pytest_anyserial._bench.lease import leases

            def held():
                return sum(lease.is_held for lease in leases(Path("leases")))

            @pytest.mark.anyserial(requires=["unplug"])
            def test_unplug(serial_link):
                assert held() == 4

            def test_other(serial_link):
                assert held() == 2
            """,
        )
    assert all_passed(run.outcomes(), 2)


def test_a_port_of_the_same_supply_may_be_missing(project: Project, bench: Bench) -> None:
    """H-13: what is not plugged in needs no lease."""
    lines = 'power = "hub"'
    more = ONE_END.format(path="/dev/null-modem", name="loopback", lines="").replace("[links", f"{lines}\n[links")
    bench.write(a=lines, b=lines, more=more + POWER)
    with supply(bench):
        run = project.run(HW, ONE, "--serial-links=hw-null", test=UNPLUG.format(end=AGAIN))
    assert all_passed(run.outcomes(), 1)


def test_a_device_that_another_run_has_unplugged_is_waited_for(project: Project, bench: Bench) -> None:
    """H-13, P-24: it is not switched on under somebody's test; the message names who has the supply."""
    bench.write(top="lease_timeout = 0.2", a='power = "hub"', b='power = "hub"', more=POWER)
    key_of_hub = supply_key(load(project.path / "hil.toml").power["hub"])
    with supply(bench) as switched:
        bench.pair.unplug()
        with leased([key_of_hub], test="test_far.py::test_unplug", timeout=0, folder=project.path / "leases"):
            run = project.run(HW, ONE, test=EXCHANGE)
        assert switched == []
        problem = run.problem("test_it[hw-null-asyncio]")
        assert f'link "null": {key_of_hub} is held by pid ' in problem
        assert "for test_far.py::test_unplug)" in problem
        assert all_passed(project.run(HW, ONE).outcomes(), 1)
        assert switched == ["on"]


def test_a_supply_failure_includes_the_command_output(project: Project, bench: Bench) -> None:
    """P-10: the command, its status, its words; and one that did nothing is noticed."""
    bench.write(a='power = "hub"', more='[power.hub]\noff = ["sh", "-c", "echo no hub >&2; exit 3"]\non = ["nohub"]')
    run = project.run(
        HW,
        ONE,
        test="""
        import pytest

        @pytest.mark.anyserial(requires=["unplug"])
        def test_it(serial_link):
            serial_link.unplug()
        """,
    )
    problem = run.problem("test_it[hw-null]")
    assert "power.hub.off: sh -c 'echo no hub >&2; exit 3' failed with exit status 3: no hub" in problem
    assert "power.hub.on: nohub cannot be run in " in problem


def test_a_device_in_use_fails_the_test_and_names_the_holder(project: Project, bench: Bench) -> None:
    """H-11, P-84: after lease_timeout, and with the holder's test."""
    bench.write(top="lease_timeout = 0.2")
    folder = project.path / "leases"
    with leased([key(bench.pair.path_b)], test="test_far.py::test_away", timeout=0, folder=folder):
        run = project.run(HW, ONE, test=EXCHANGE)
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "error in setup"}
    problem = run.problem("test_it[hw-null-asyncio]")
    assert f'link "null": {key(bench.pair.path_b)} is held by pid {os.getpid()} of ' in problem
    assert "for test_far.py::test_away), which finished no test within lease_timeout = 0.2 s" in problem


def test_a_folder_that_cannot_be_written_is_a_usage_error(project: Project, bench: Bench) -> None:
    """H-10: before any test runs, with the command that fixes it."""
    (project.path / "leases").write_text("")
    run = project.run(HW, ONE, test=EXCHANGE)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: lease folder {project.path}/leases cannot be used: " in run.text
    assert run.reports == []


def test_two_files_with_different_names_share_a_device_lease(project: Project, bench: Bench) -> None:
    """H-10: the lease is the device's, not the file's."""
    project.run(HW, ONE, test=EXCHANGE)
    text = (project.path / "hil.toml").read_text(encoding="utf-8")
    for path in (bench.pair.path_a, bench.pair.path_b):
        text = text.replace(path, os.path.realpath(path))
    other = text.replace("ports.a]", "ports.left]").replace('["a", "b"]', '["left", "b"]')
    (project.path / "other.toml").write_text(other, encoding="utf-8")
    assert all_passed(project.run("--serial-hw=other.toml", ONE).outcomes(), 1)
    assert [lease.device for lease in leases(project.path / "leases")] == sorted(
        [key(bench.pair.path_a), key(bench.pair.path_b)]
    )


@pytest.mark.gate("it starts workers of xdist")
def test_workers_of_xdist_share_a_bench(project: Project, bench: Bench) -> None:
    """H-10, H-11, H-13, P-23: four workers collect the same, and never two of them use one link, or unplug it."""
    bench.write(a='power = "hub"', b='power = "hub"', more=POWER)
    project.file(
        "test_it.py",
        ALONE,
        """
        import pytest

        @pytest.mark.anyserial(requires=["exclusive_access"])
        @pytest.mark.parametrize("turn", range(6))
        async def test_it(serial_port, serial_peer, turn):
            with alone():
                await serial_port.send(b"ping")
                assert await serial_peer.receive() == b"ping"

        @pytest.mark.anyserial(requires=["unplug"])
        @pytest.mark.parametrize("turn", range(4))
        async def test_unplug(serial_link, turn):
            with alone():
                serial_link.unplug()
                if turn % 2:
                    serial_link.replug()

        @pytest.mark.anyserial(requires=["rs485"])
        async def test_unmet(serial_port): pass
        """,
    )
    with supply(bench):
        run = project.run(HW, "-n4", "--no-serial-strict", plugins=["xdist"])
    outcomes = run.outcomes()
    assert outcomes.pop("test_unmet[unmet]") == "skipped"
    assert all_passed(outcomes, 30)
    assert "serial bench: lab-a (hil.toml)\n" in run.text
    assert "rs485: 1 test\n" in run.text


def test_the_controller_probes_and_sends_facts_to_workers(project: Project, bench: Bench) -> None:
    """P-23: each device is looked at once per session, by one process."""
    project.file(
        "test_it.py",
        """
        import json, pytest
        from pathlib import Path

        @pytest.mark.anyserial(requires=["exclusive_access"])
        async def test_it(serial_port, pytestconfig):
            asked = json.loads(pytestconfig.workerinput["anyserial"]["ports"])
            assert sorted(asked) == ["a", "b"]
            assert asked["a"]["capabilities"]["exclusive_access"] == "supported"
        """,
    )
    assert all_passed(project.run(HW, ONE, "-n2", plugins=["xdist"]).outcomes(), 1)


def test_tests_of_a_link_are_one_group_for_xdist(project: Project, bench: Bench) -> None:
    """H-12: what --dist loadgroup goes by, for tests on hardware; the mark is there only if xdist is."""
    test = """
    import os

    def test_it(serial_link, request):
        groups = [mark.args[0] for mark in request.node.iter_markers("xdist_group")]
        assert groups == (["hw-null"] if "hw-null" in request.node.name and "XDIST" in os.environ else [])
    """
    options = [HW, "--strict-markers", "--serial-links=mock,hw"]
    assert all_passed(project.run(*options, test=test).outcomes(), 2)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDIST", "yes")
        assert all_passed(project.run(*options, "-n1", "--dist=loadgroup", plugins=["xdist"]).outcomes(), 2)


def test_a_strict_xdist_run_without_hardware_tests_fails(project: Project, bench: Bench) -> None:
    """P-83: the controller decides, by what the workers report."""
    run = project.run(HW, "-n2", plugins=["xdist"], test="def test_it(): pass")
    assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.run(HW, ONE, "-n2", plugins=["xdist"], test=EXCHANGE).result.ret == pytest.ExitCode.OK


def test_a_killed_worker_frees_its_link(project: Project, bench: Bench) -> None:
    """H-11: SIGKILL in the middle of a test; the others go on at once."""
    bench.write(top="lease_timeout = 20")
    project.file(
        "test_it.py",
        f"""
        import os, pytest

        async def test_a_killed(serial_port):
            os.kill(os.getpid(), {int(signal.SIGKILL)})

        @pytest.mark.parametrize("turn", range(3))
        async def test_other(serial_port, turn): pass
        """,
    )
    run = project.run(HW, ONE, "-n2", plugins=["xdist"])
    outcomes = run.outcomes()
    assert sorted(outcomes.values())[1:] == ["passed", "passed", "passed"]
    assert "crashed while running 'test_it.py::test_a_killed[hw-null-asyncio]'" in run.text
    assert not any(lease.is_held for lease in leases(project.path / "leases"))
