"""Links: a test runs on every selected link that has what it needs, and is skipped with the reason if none has."""

from __future__ import annotations

import sys

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

IT = "async def test_it(serial_port): pass"


def marked(arguments: str, test: str = IT) -> str:
    """A test file with one test marked so."""
    return f"""
import pytest
from anyserial import FlowControl, RS485Config, SerialConfig

@pytest.mark.anyserial({arguments})
{test}
"""


@pytest.mark.parametrize("where", ["option", "ini"])
def test_links_are_selected(project: Project, where: str) -> None:
    """P-20, P-21: by option or ini setting; the id names the link before the loop."""
    if where == "ini":
        project.ini("anyserial_links = pty mock")
    options = ["--serial-links=pty,mock"] if where == "option" else []
    run = project.run("--serial-loops=trio", *options, test=IT)
    assert run.outcomes() == {"test_it[pty-trio]": "passed", "test_it[mock-trio]": "passed"}


def test_the_default_link_is_the_mock(project: Project) -> None:
    """P-21: nothing has to be said."""
    assert list(project.run(test=IT).outcomes()) == [f"test_it[mock-{loop}]" for loop in ("asyncio", "uvloop", "trio")]


def test_an_unknown_link_is_a_usage_error(project: Project) -> None:
    """P-21: the message names where it stands, a guess, and what is known."""
    project.ini("anyserial_links = mok")
    run = project.run(test="def test_it(): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: ini option anyserial_links: unknown link 'mok': did you mean 'mock'? Known: mock, pty" in run.text


def test_the_option_overrides_the_ini_setting(project: Project) -> None:
    """P-21: as everywhere in pytest."""
    project.ini("anyserial_links = pty")
    assert list(project.run("--serial-links=mock", "--serial-loops=trio", test=IT).outcomes()) == ["test_it[mock-trio]"]


#: Marker arguments, and on which links such a test runs.
MATCHES = {
    "": "mock pty",
    "requires=['unplug']": "mock pty",
    "requires=['pacing']": "mock",
    "requires=['break_signal', 'modem_lines']": "mock",
    "requires=['path']": "pty",
    "requires=('line_errors',)": "mock",
    "requires={'control_lines'}": "mock",
    "link='null-modem'": "mock pty",
    "wires=['tx-rx']": "mock pty",
    "wires=['rts-cts', 'dtr-dsr']": "mock",
    "min_baudrate=3_000_000": "mock pty",
    "links=['pty']": "pty",
    "links=['mock', 'pty']": "mock pty",
    "config=SerialConfig(baudrate=9600)": "mock pty",
    "config=SerialConfig(parity='even')": "mock",
    "config=SerialConfig(byte_size=7)": "mock",
    "config=SerialConfig(rs485=RS485Config())": "mock",
    "config=SerialConfig(rs485=RS485Config(), unsupported_policy='ignore')": "mock pty",
    "config=SerialConfig(low_latency=True)": "mock",
    "config=SerialConfig(flow_control=FlowControl(dtr_dsr=True))": "mock",
}


@pytest.mark.parametrize("arguments", MATCHES)
def test_a_test_runs_on_each_selected_link_that_qualifies(project: Project, arguments: str) -> None:
    """P-22, P-31: capabilities, wiring, names and the config are needs."""
    run = project.run("--serial-links=mock,pty", "--serial-loops=asyncio", test=marked(arguments))
    assert run.outcomes() == {f"test_it[{link}-asyncio]": "passed" for link in MATCHES[arguments].split()}


UNMET = {
    "requires=['rs485']": 'needs rs485: link "mock" UNSUPPORTED; needs rs485: link "pty" UNSUPPORTED',
    "requires=['rts_cts'], links=['mock']": 'needs rts_cts: link "mock" UNKNOWN: only the operation itself would tell',
    "requires=['framing']": 'needs framing: link "mock" UNSUPPORTED: bytes pass whole, whatever the parity and size',
    "requires=['pacing'], links=['pty']": 'needs pacing: link "pty" UNSUPPORTED: bytes pass at once',
    "requires=['path'], wires=['rts-cts']": 'needs wire rts-cts: link "pty" has tx-rx',
    "link='loopback'": 'needs link loopback: link "mock" is wired as null-modem',
    "device='acme'": 'needs device acme: link "mock" has no device behind it',
    "links=['pty'], config=SerialConfig(parity='odd')": 'needs parity odd: link "pty" UNSUPPORTED: a pseudo',
    "links=['pty'], config=SerialConfig(byte_size=7)": 'needs 7 data bits: link "pty" UNSUPPORTED: a pseudo-terminal',
    "links=['pty'], config=SerialConfig(low_latency=True)": 'needs low_latency: link "pty" UNSUPPORTED: a pseudo',
}


@pytest.mark.parametrize("arguments", UNMET)
def test_an_unmet_need_is_one_visible_skip(project: Project, arguments: str) -> None:
    """P-22, P-26: the reason names what is missing; loops do not multiply it; UNKNOWN does not meet a need."""
    run = project.run("--serial-links=mock,pty", "-rs", test=marked(arguments))
    assert run.outcomes() == {"test_it[unmet]": "skipped"}
    assert UNMET[arguments] in run.problem("test_it[unmet]")


def test_a_skip_names_the_link_that_would_qualify(project: Project) -> None:
    """P-22, P-85: a program that opens paths needs pty, and the reason gives the option."""
    run = project.run(test=marked("requires=['path']", "async def test_it(serial_path): pass"))
    assert run.outcomes() == {"test_it[unmet]": "skipped"}
    assert (
        'needs path: link "mock" UNSUPPORTED: its paths open in this process only '
        "(--serial-links=mock,pty would run it)"
    ) in run.problem("test_it[unmet]")


def test_a_link_that_is_not_selected_is_not_used(project: Project) -> None:
    """P-22: `links` narrows the selection, it does not widen it."""
    run = project.run("--serial-links=mock", test=marked("links=['pty']"))
    assert "needs link pty: selected is mock (--serial-links=mock,pty would run it)" in run.problem("test_it[unmet]")


def test_marks_of_module_class_and_function_are_merged(project: Project) -> None:
    """P-30: needs add up; of the rest the closest mark counts."""
    run = project.run(
        "--serial-links=mock,pty",
        "--serial-loops=asyncio",
        test="""
        import pytest
        from anyserial import SerialConfig

        pytestmark = pytest.mark.anyserial(requires=["break_signal"], config=SerialConfig(baudrate=300))

        @pytest.mark.anyserial(requires=["modem_lines"], config=SerialConfig(baudrate=600))
        class TestIt:
            async def test_class(self, serial_port):
                assert serial_port.config.baudrate == 600

            @pytest.mark.anyserial(config=SerialConfig(baudrate=1200))
            async def test_function(self, serial_port):
                assert serial_port.config.baudrate == 1200

            @pytest.mark.anyserial(requires=["path"])
            async def test_all_needs(self, serial_port): pass

        async def test_module(serial_port):
            assert serial_port.config.baudrate == 300
        """,
    )
    assert run.outcomes() == {
        "TestIt::test_class[mock-asyncio]": "passed",
        "TestIt::test_function[mock-asyncio]": "passed",
        "TestIt::test_all_needs[unmet]": "skipped",
        "test_module[mock-asyncio]": "passed",
    }


WRONG = {
    "requirs=['rs485']": "mark 'anyserial': unknown keyword 'requirs': did you mean 'requires'? Known: requires, link,",
    "requires=['modem_line']": "mark 'anyserial': requires: unknown name 'modem_line': did you mean 'modem_lines'?",
    "requires='rs485'": "mark 'anyserial': requires must be a list of names, not 'rs485'",
    "requires=[1]": "mark 'anyserial': requires: unknown name 1. Known: custom_baudrate,",
    "wires=['rts']": "mark 'anyserial': wires: unknown name 'rts'",
    "link='nullmodem'": "mark 'anyserial': link: unknown name 'nullmodem': did you mean 'null-modem'?",
    "links=['ptty']": "mark 'anyserial': links: unknown name 'ptty': did you mean 'pty'? Known: mock, pty",
    "min_baudrate=0": "mark 'anyserial': min_baudrate must be a positive integer, not 0",
    "min_baudrate=True": "mark 'anyserial': min_baudrate must be a positive integer, not True",
    "device=''": "mark 'anyserial': device must be a name, not ''",
    "config=9600": "mark 'anyserial': config must be a SerialConfig, not 9600",
    "allow_leaks=1": "mark 'anyserial': allow_leaks must be True or False, not 1",
    "script_strict='no'": "mark 'anyserial': script_strict must be True or False, not 'no'",
    "'rs485'": "the mark 'anyserial' takes keywords only, not 'rs485'",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_mark_is_a_usage_error(project: Project, arguments: str) -> None:
    """P-30: with the node id and a guess; checked at collection, also on a test that uses no fixture of ours."""
    run = project.run(test=marked(arguments, "def test_it(): pass"))
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert run.reports == []
    assert f"ERROR: test_it.py::test_it: {WRONG[arguments]}" in run.text


def test_all_wrong_marks_are_reported_at_once(project: Project) -> None:
    """P-30: one run shows every mistake, and a mistake of a class once."""
    run = project.run(
        test="""
        import pytest

        @pytest.mark.anyserial(requires=["rs422"])
        class TestOne:
            def test_a(self): pass
            def test_b(self): pass

        @pytest.mark.anyserial(speed=1)
        def test_c(): pass
        """
    )
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: test_it.py::TestOne::test_a: mark 'anyserial': requires: unknown name 'rs422'" in run.text
    assert "ERROR: test_it.py::test_c: mark 'anyserial': unknown keyword 'speed'" in run.text
    assert run.text.count("'rs422'") == 1


def test_the_mark_is_registered(project: Project) -> None:
    """P-30: clean under --strict-markers."""
    run = project.run("--strict-markers", "--serial-loops=trio", test=marked("requires=['unplug']"))
    assert run.outcomes() == {"test_it[mock-trio]": "passed"}


def test_the_link_describes_itself(project: Project) -> None:
    """P-20, P-23: name, kind, wires, and the capabilities that the devices report."""
    run = project.run(
        "--serial-links=mock,pty",
        "--serial-loops=asyncio",
        test="""
        async def test_it(serial_link, serial_pair):
            wires = ("tx-rx", "rts-cts", "dtr-dsr") if serial_link.name == "mock" else ("tx-rx",)
            assert serial_link.kind == "null-modem"
            assert serial_link.wires == wires
            assert serial_link.capabilities == (serial_pair.port.capabilities, serial_pair.peer.capabilities)
            assert repr(serial_link) == f"<SerialLink {serial_link.name}>"
        """,
    )
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed", "test_it[pty-asyncio]": "passed"}


def test_the_link_can_be_unplugged_and_replugged(project: Project) -> None:
    """P-20: the port sees what a vanished adapter shows; the device that is back can be used."""
    run = project.run(
        "--serial-links=mock,pty",
        test="""
        import anyio, pytest
        from anyserial import SerialDisconnectedError, open_serial_port

        async def test_unplug(serial_port, serial_link):
            serial_link.unplug()
            with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
                await serial_port.receive()

        @pytest.mark.anyserial(links=["mock"])
        async def test_replug_mock(serial_port, serial_peer, serial_link):
            serial_link.unplug()
            serial_link.replug()
            await serial_peer.send(b"x")
            assert await serial_port.receive() == b"x"

        async def test_replug_path(serial_path, serial_peer_path, serial_link):
            serial_link.unplug()
            serial_link.replug()
            async with await open_serial_port(serial_path) as port, await open_serial_port(serial_peer_path) as peer:
                await peer.send(b"x")
                assert await port.receive() == b"x"
        """,
    )
    assert set(run.outcomes().values()) == {"passed"}
    assert len(run.outcomes()) == 6 + 3 + 6


@pytest.mark.parametrize(("code", "advice"), [("ENOSPC", "raise /proc/sys/kernel/pty/max"), ("EMFILE", "ulimit -n")])
def test_a_run_without_ptys_continues(pytester: pytest.Pytester, project: Project, code: str, advice: str) -> None:
    """P-22, P-84: what asks for facts of a pty is skipped, what runs on one fails, and all else runs."""
    project.file(
        "conftest.py",
        f"""
        import errno, os

        def none():
            raise OSError(errno.{code}, os.strerror(errno.{code}))

        os.openpty = none
        """,
    )
    project.file(
        "test_it.py",
        """
        import pytest
        from anyserial import SerialConfig

        @pytest.mark.anyserial(links=["pty"], requires=["xon_xoff"])
        def test_fact(sync_serial_port): pass

        @pytest.mark.anyserial(links=["pty"], config=SerialConfig(low_latency=True))
        def test_config(sync_serial_port): pass

        def test_plain(sync_serial_port): pass

        def test_unrelated(): pass
        """,
    )
    options = ["-rs", "-p", "no:cacheprovider", "-p", "anyio", "-p", "pytest_anyserial", "--serial-links=mock,pty"]
    run = pytester.run(sys.executable, "-m", "pytest", *options, timeout=60)
    run.assert_outcomes(passed=2, skipped=2, errors=1)
    text = run.stdout.str()
    assert 'needs xon_xoff: link "pty" UNKNOWN: it cannot be opened: no pseudo-terminal is to be had: ' in text
    assert 'needs low_latency: link "pty" UNKNOWN: it cannot be opened: no pseudo-terminal is to be had: ' in text
    assert "\nno pseudo-terminal is to be had: " in text
    assert advice in text


def test_other_pairs_may_have_the_usual_paths(project: Project) -> None:
    """P-85: a pair of the test's own before and beside the link, and a run of pytest inside of a serial test."""
    project.file("conftest.py", 'pytest_plugins = ["pytester"]')
    run = project.run(
        "--serial-links=mock",
        "--serial-loops=asyncio",
        test="""
        import pytest
        from anyserial import sync
        from anyserial.testing import mock_pair

        @pytest.fixture(scope="module")
        def before():
            with mock_pair(path_a="/dev/mockA", path_b="/dev/mockB") as pair:
                yield pair

        def test_inner_run(sync_serial_port, sync_serial_peer, serial_path, pytester):
            assert sync_serial_port.path == serial_path == "/dev/mockA"
            pytester.makepyfile('''
                def test_inner(sync_serial_port, serial_path, sync_serial_peer):
                    assert sync_serial_port.path == serial_path != "/dev/mockA"
                    sync_serial_port.send(b"x")
                    assert sync_serial_peer.receive(timeout=5) == b"x"
            ''')
            pytester.runpytest_inprocess("-p", "anyio", "-p", "pytest_anyserial").assert_outcomes(passed=1)
            sync_serial_port.send(b"y")
            assert sync_serial_peer.receive(timeout=5) == b"y"

        def test_own_pair(before, serial_path, serial_peer_path):
            assert (serial_path, serial_peer_path) == ("/dev/mockA2", "/dev/mockB2")
            with sync.SerialPort.open(serial_path) as port, sync.SerialPort.open(serial_peer_path) as peer:
                port.send(b"z")
                assert peer.receive(timeout=5) == b"z"
        """,
    )
    assert run.outcomes() == {"test_inner_run[mock]": "passed", "test_own_pair[mock]": "passed"}
