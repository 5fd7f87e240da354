"""Tests on a bench: its links are chosen, matched and used like the others, and a green run means that they were."""

from __future__ import annotations

import contextlib
import os

import pytest

from anyserial.testing import pty_pair

from .benches import Bench
from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

HW = "--serial-hw=hil.toml"
ONE = "--serial-loops=asyncio"
EXCHANGE = """
async def test_it(serial_port, serial_peer):
    await serial_port.send(b"ping")
    assert await serial_peer.receive() == b"ping"
"""


@pytest.mark.parametrize("where", ["option", "ini"])
def test_the_links_of_a_bench_file_are_links(project: Project, bench: Bench, where: str) -> None:
    """P-20, P-21, H-05: with a bench file tests run on its links, on every loop; ids are hw-NAME."""
    if where == "ini":
        project.ini("anyserial_hw = hil.toml")
    run = project.run(*([HW] if where == "option" else []), test=EXCHANGE)
    assert run.outcomes() == {f"test_it[hw-null-{loop}]": "passed" for loop in ("asyncio", "uvloop", "trio")}


def test_a_bench_option_overrides_the_links_of_the_project(project: Project, bench: Bench) -> None:
    """P-21, P-83: who asks for a bench gets it, whatever links the ini file names; naming links still counts."""
    project.ini("anyserial_links = mock")
    assert project.run(HW, ONE, test=EXCHANGE).outcomes() == {"test_it[hw-null-asyncio]": "passed"}
    run = project.run(HW, ONE, "--serial-links=mock", test=EXCHANGE)
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_two_entries_for_one_device_are_a_usage_error(project: Project, bench: Bench) -> None:
    """H-01: also when only the devices that are plugged in show it; nothing is opened for `--collect-only`."""
    (project.path / "link").symlink_to(os.path.realpath(bench.pair.path_a))
    bench.write(more='[ports.c]\nmatch = { path = "link" }')
    run = project.run(HW, test=EXCHANGE)
    assert run.result.ret == 4
    run.result.stderr.fnmatch_lines(["ERROR: *hil.toml: ports.c.match: * is ports.a already"])
    assert project.run(HW, "--collect-only").result.ret == 0


def test_a_test_can_ask_how_fast_its_link_may_be(project: Project, bench: Bench) -> None:
    """P-23: the lowest of what the file says about the wires and both ends; None on a link without limits."""
    bench.write(a="max_baudrate = 3_000_000", b="max_baudrate = 921_600", null="max_baudrate = 1_000_000")
    run = project.run(
        HW,
        "--serial-links=hw,mock",
        test="""
        def test_it(serial_link):
            assert serial_link.max_baudrate == {"hw-null": 921_600, "mock": None}[serial_link.name]
        """,
    )
    run.result.assert_outcomes(passed=2)


def test_mock_and_hardware_can_be_mixed(project: Project, bench: Bench) -> None:
    """P-01, P-21: one body, every link; hw-NAME selects one link of the bench."""
    run = project.run(HW, ONE, "--serial-links=mock,pty,hw-null", test=EXCHANGE)
    assert list(run.outcomes().items()) == [
        (f"test_it[{link}-asyncio]", "passed") for link in ("mock", "pty", "hw-null")
    ]


def test_a_hardware_link_without_a_bench_file_is_a_usage_error(project: Project) -> None:
    """P-21: the text says what is missing, and a wrong name is guessed."""
    run = project.run("--serial-links=hw-null", test=EXCHANGE)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --serial-links: link 'hw-null' needs a bench file: --serial-hw=hil.toml" in run.text


def test_an_unknown_link_of_the_bench_is_a_usage_error(project: Project, bench: Bench) -> None:
    """P-21: with a guess, and what the file has."""
    run = project.run(HW, "--serial-links=hw-nul", test=EXCHANGE)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown link 'hw-nul': did you mean 'hw-null'? Known: mock, pty, replay, hw, hw-null" in run.text


def test_the_bench_file_is_checked_before_anything_runs(project: Project, bench: Bench) -> None:
    """H-01: all errors at once, named as the person has named the file; a missing file likewise."""
    bench.write(null='kinds = "x"', a="max_baudrate = 0")
    run = project.run(HW, test="def test_it(): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: hil.toml: ports.a.max_baudrate: " in run.text
    assert "ERROR: hil.toml: links.null.kinds: " in run.text
    assert "ERROR: other.toml: there is no such file" in project.run("--serial-hw=other.toml").text


def test_the_ini_setting_is_relative_and_can_be_switched_off(project: Project, bench: Bench) -> None:
    """H-05: wherever pytest is started; an empty option means no bench."""
    project.ini("anyserial_hw = hil.toml")
    (project.path / "tests").mkdir()
    project.file("tests/test_it.py", EXCHANGE)
    with contextlib.chdir(project.path / "tests"):
        assert list(project.run(ONE).outcomes()) == ["tests/test_it.py::test_it[hw-null-asyncio]".partition("::")[2]]
        assert list(project.run(ONE, "--serial-hw=").outcomes()) == ["test_it[mock-asyncio]"]


def test_the_bench_is_a_fixture(project: Project, bench: Bench) -> None:
    """P-40: of session scope, the values of the file; None without one. It brings neither links nor loops."""
    test = """
    def test_it(serial_bench):
        print(serial_bench and (serial_bench.name, *serial_bench.links))
    """
    run = project.run(HW, "--no-serial-strict", "-s", test=test)
    assert run.outcomes() == {"test_it": "passed"}
    assert "('lab-a', 'null')" in run.text
    assert "None" in project.run("-s", test=test).text


def test_a_link_has_the_facts_of_the_file(project: Project, bench: Bench) -> None:
    """P-20, P-41: name, kind, wires, and how each of its ends is opened unless a test says otherwise."""
    bench.write(
        a="open = { baudrate = 9600, unsupported_policy = 'ignore' }\ncontrol_lines = { dtr = false }",
        b="open = { baudrate = 19200 }",
        wires='"tx-rx", "rts-cts"',
    )
    run = project.run(
        HW,
        ONE,
        test="""
        import pytest
        from anyserial import SerialConfig

        async def test_file(serial_link, serial_pair):
            assert (serial_link.name, serial_link.kind) == ("hw-null", "null-modem")
            assert serial_link.wires == ("tx-rx", "rts-cts")
            assert serial_link.config.baudrate == 9600 and serial_link.config.dtr_on_open is False
            assert [port.config.baudrate for port in serial_pair] == [9600, 19200]
            assert serial_link.capabilities == tuple(port.capabilities for port in serial_pair)

        @pytest.mark.anyserial(config=SerialConfig(baudrate=1200, unsupported_policy="ignore"))
        async def test_mark(serial_pair):
            assert [port.config.baudrate for port in serial_pair] == [1200, 1200]
            assert serial_pair.port.config.dtr_on_open is False

        @pytest.mark.anyserial(config=SerialConfig(dtr_on_open=True, unsupported_policy="ignore"))
        async def test_explicit(serial_port):
            assert serial_port.config.dtr_on_open is True

        class TestOwn:
            @pytest.fixture
            def serial_config(self):
                return SerialConfig(baudrate=300, unsupported_policy="ignore")

            async def test_own(self, serial_pair):
                assert [port.config.baudrate for port in serial_pair] == [300, 300]
        """,
    )
    assert set(run.outcomes().values()) == {"passed"}
    assert len(run.outcomes()) == 4


#: Lines of the bench file, marker arguments, and the reason why such a test does not run; empty if it does.
MATCHES = {
    "capability": ({}, "requires=['exclusive_access']", ""),
    "no capability": (
        {},
        "requires=['rs485']",
        'needs rs485: link "null" (end a, pty) UNSUPPORTED: the driver refuses TIOCGRS485',
    ),
    "one end only": (
        {"a": 'has = ["rs485"]'},
        "requires=['rs485']",
        'needs rs485: link "null" (end b, pty) UNSUPPORTED',
    ),
    "declared": ({"a": 'has = ["rs485"]', "b": 'has = ["rs485"]'}, "requires=['rs485']", ""),
    "path": ({}, "requires=['path', 'pacing']", ""),
    "line errors": ({}, "requires=['line_errors']", 'needs line_errors: link "null" (end a, pty) UNSUPPORTED: /'),
    "framing": ({}, "requires=['framing']", 'needs framing: link "null" (end a, pty) UNSUPPORTED: /'),
    "control lines": ({}, "requires=['control_lines']", 'needs control_lines: link "null" (end a, pty) UNSUPPORTED: /'),
    "unplug": (
        {},
        "requires=['unplug']",
        "UNSUPPORTED: ports.a names no power in hil.toml; with --serial-ask a person may do it",
    ),
    "wire": ({"wires": '"tx-rx", "rts-cts"'}, "wires=['rts-cts']", ""),
    "no wire": ({}, "wires=['rts-cts']", 'needs wire rts-cts: link "null" has tx-rx (declared in hil.toml)'),
    "kind": (
        {},
        "link='loopback'",
        'needs link loopback: link "null" is wired as null-modem (declared in hil.toml)',
    ),
    "no device": (
        {},
        "device='meter'",
        'needs device meter: link "null" has no device behind it (declared in hil.toml)',
    ),
    "rate": ({"null": "max_baudrate = 115200"}, "min_baudrate=115200", ""),
    "no rate": (
        {"b": "max_baudrate = 115200"},
        "min_baudrate=115201",
        'needs 115201 baud: link "null" UNSUPPORTED: it reaches 115200 (declared in hil.toml)',
    ),
    "config": ({}, "config=SerialConfig(baudrate=9600)", ""),
    "rate of the config": (
        {"null": "max_baudrate = 115200"},
        "config=SerialConfig(baudrate=230400)",
        'needs 230400 baud: link "null" UNSUPPORTED: it reaches 115200 (declared in hil.toml)',
    ),
    "frame of the config": (
        {},
        "config=SerialConfig(parity='even')",
        'needs framing: link "null" (end a, pty) UNSUPPORTED: /',
    ),
    "feature of the config": (
        {},
        "config=SerialConfig(rs485=RS485Config())",
        'needs rs485: link "null" (end a, pty) UNSUPPORTED',
    ),
    "wire of the config": (
        {},
        "config=SerialConfig(flow_control=FlowControl(rts_cts=True))",
        'needs wire rts-cts: link "null" UNSUPPORTED: it has tx-rx (declared in hil.toml)',
    ),
    "name": ({}, "links=['hw-null']", ""),
    "any hardware": ({}, "links=['hw']", ""),
}


def marked(arguments: str) -> str:
    return f"""
import pytest

from anyserial.testing import pty_pair
from anyserial import FlowControl, RS485Config, SerialConfig

@pytest.mark.anyserial({arguments})
async def test_it(serial_port): pass
"""


@pytest.mark.parametrize("case", MATCHES)
def test_a_test_runs_on_a_link_that_meets_its_needs(project: Project, bench: Bench, case: str) -> None:
    """P-22, P-23, P-31: the file, and for the rest the device; where it says no, the run is not green."""
    lines, arguments, reason = MATCHES[case]
    bench.write(**lines)
    run = project.run(HW, ONE, test=marked(arguments))
    if reason:
        assert run.outcomes() == {"test_it[unmet]": "error in setup"}
        assert reason in run.problem("test_it[unmet]")
        assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    else:
        assert run.outcomes() == {"test_it[hw-null-asyncio]": "passed"}
        assert run.result.ret == pytest.ExitCode.OK


#: Unmet needs that are nobody's fault: lines of the file, marker arguments, reason.
EXCUSED = {
    "declared lack": (
        {"b": 'lacks = ["exclusive_access"]'},
        "requires=['exclusive_access']",
        'needs exclusive_access: link "null" (end b, pty) UNSUPPORTED: lacks of ports.b (declared in hil.toml)',
    ),
    "never on this platform": (
        {},
        "requires=['dtr_dsr']",
        'needs dtr_dsr: link "null" (end a, pty) UNSUPPORTED: no device on linux supports it',
    ),
    "not for this link": ({}, "links=['mock']", "needs link mock: selected is hw-null"),
}


@pytest.mark.parametrize("case", EXCUSED)
def test_what_no_bench_or_this_bench_cannot_have_is_a_skip(project: Project, bench: Bench, case: str) -> None:
    """P-83: a declared lack, what the platform can never have, and what the test itself rules out."""
    lines, arguments, reason = EXCUSED[case]
    bench.write(**lines)
    project.file("test_other.py", EXCHANGE)
    run = project.run(HW, ONE, test=marked(arguments))
    assert run.outcomes()["test_it[unmet]"] == "skipped"
    assert reason in run.problem("test_it[unmet]")
    assert run.result.ret == pytest.ExitCode.OK


def test_a_lack_excuses_only_if_all_links_of_that_wiring_have_it(project: Project, bench: Bench) -> None:
    """P-83: one link that should have had it makes the run red; a link of another kind does not."""
    with pty_pair() as other:
        more = f"""
        [ports.c]
        match = {{ path = "{other.path_a}" }}
        # c
        [links.loop]
        ends = ["c"]
        kind = "loopback"
        """
        bench.write(a='lacks = ["rs485"]', more=more)
        test = marked("requires=['rs485']")
        assert project.run(HW, ONE, test=test).outcomes() == {"test_it[unmet]": "error in setup"}
        bench.write(a='lacks = ["rs485"]', more=more.replace("# c", 'lacks = ["rs485"]'))
        assert project.run(HW, ONE, test=test).outcomes() == {"test_it[unmet]": "skipped"}
        bench.write(a='lacks = ["rs485"]', more=more)
        test = marked("requires=['rs485'], link='null-modem'")
        assert project.run(HW, ONE, test=test).outcomes() == {"test_it[unmet]": "skipped"}


def test_strictness_can_be_lifted(project: Project, bench: Bench) -> None:
    """P-83: then an unmet need is a skip, and a run without hardware tests is fine."""
    run = project.run(HW, "--no-serial-strict", test=marked("requires=['rs485']"))
    assert run.outcomes() == {"test_it[unmet]": "skipped"}
    assert run.result.ret == pytest.ExitCode.OK


IDLE = {
    "no serial test": "def test_it(): pass",
    "skipped in the body": "import pytest\nasync def test_it(serial_port): pytest.skip('no')",
    "on the mock only": "async def test_it(serial_port, serial_faults): pass",
}


@pytest.mark.parametrize("case", IDLE)
def test_a_run_without_a_hardware_test_is_not_green(project: Project, bench: Bench, case: str) -> None:
    """P-83, P-21: the run says so at its end, though nothing has failed."""
    run = project.run(HW, ONE, test=IDLE[case])
    assert set(run.outcomes().values()) <= {"passed", "skipped"}
    assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "No test ran on the hardware of hil.toml, so this run shows nothing about it." in run.text
    assert project.run(HW, ONE, "--no-serial-strict", test=IDLE[case]).result.ret == pytest.ExitCode.OK
    assert project.run(HW, ONE, "--serial-links=mock", test=IDLE[case]).result.ret == pytest.ExitCode.OK


def test_a_failed_hardware_test_has_exercised_the_bench(project: Project, bench: Bench) -> None:
    """P-83: the failure speaks for itself."""
    run = project.run(HW, ONE, test="async def test_it(serial_port): raise RuntimeError('on purpose')")
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "failed"}
    assert "No test ran" not in run.text


def test_faults_stay_on_the_mock(project: Project, bench: Bench) -> None:
    """P-21: what only the mock has runs there, whatever is selected."""
    run = project.run(HW, ONE, "--no-serial-strict", test="async def test_it(serial_port, serial_faults): pass")
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_collecting_opens_nothing(project: Project, bench: Bench) -> None:
    """P-23: the file alone decides; the devices need not be there."""
    bench.pair.unplug()
    project.file("test_declared.py", marked("requires=['low_latency']"))
    bench.write(a='lacks = ["break_signal"]')
    run = project.run(HW, ONE, "--collect-only", "-q", test=marked("requires=['break_signal']"))
    assert "test_declared.py::test_it[hw-null-asyncio]\ntest_it.py::test_it[unmet]" in run.text
    assert run.result.ret == pytest.ExitCode.OK
    assert not (project.path / "leases").exists()


def test_a_device_that_is_not_there_is_named(project: Project, bench: Bench) -> None:
    """P-10, H-03: the test fails with what the file asks for; a need that it leaves open is unmet."""
    bench.pair.unplug()
    run = project.run(HW, ONE, test=EXCHANGE)
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "error in setup"}
    problem = run.problem("test_it[hw-null-asyncio]")
    assert f'link "null": ports.a.match: there is no serial device at {bench.pair.path_a} (hil.toml).' in problem
    run = project.run(HW, ONE, test=marked("requires=['exclusive_access']"))
    assert 'needs exclusive_access: link "null" (end a, ports.a) UNKNOWN: ports.a.match: there is no' in run.problem(
        "test_it[unmet]"
    )


def test_the_header_names_the_bench_and_its_devices(project: Project, bench: Bench) -> None:
    """P-82, H-04: with a warning where a name is not stable; nothing when the bench is not used."""
    run = project.run(HW, ONE, test=EXCHANGE)
    assert "serial bench: lab-a (hil.toml), strict\n  hw-null: null-modem, a = /dev/pts/" in run.text
    bench.pair.unplug()
    bench.write(more='[ports.c]\nmatch = { path = "/dev/ttyUSB99" }\n[links.usb]\nends = ["c"]\nkind = "loopback"')
    text = project.run(HW, "--no-serial-strict", test="def test_it(): pass").text
    assert "serial bench: lab-a (hil.toml)\n" in text
    assert "  hw-null: null-modem, a = ports.a (not found), b = ports.b (not found)" in text
    assert "  hw-usb: loopback, a = ports.c (not found)" in text
    assert "serial bench" not in project.run(HW, "--serial-links=mock", test=EXCHANGE).text


def test_unmet_needs_are_grouped_by_the_missing_feature(project: Project, bench: Bench) -> None:
    """P-82: each reason once, with the tests that it concerns; also without a bench."""
    test = """
    import pytest

    @pytest.mark.anyserial(requires=["rs485"])
    @pytest.mark.parametrize("turn", range(5))
    async def test_rs485(serial_port, turn): pass

    @pytest.mark.anyserial(wires=["dtr-dsr"])
    async def test_wire(serial_port): pass
    """
    text = project.run(HW, ONE, "--no-serial-strict", test=test).text
    names = [f"test_it.py::test_rs485[{turn}-unmet]" for turn in range(3)]
    assert (
        'rs485: 5 tests\n    needs rs485: link "null" (end a, pty) UNSUPPORTED: the driver refuses TIOCGRS485\n'
        f"        {', '.join(names)} and 2 more\n"
        'wire dtr-dsr: 1 test\n    needs wire dtr-dsr: link "null" has tx-rx (declared in hil.toml)\n'
        "        test_it.py::test_wire[unmet]\n"
    ) in text
    assert "rs485: 5 tests\n" in project.run(test=test).text
    assert "unmet serial needs" not in project.run(test=EXCHANGE).text
