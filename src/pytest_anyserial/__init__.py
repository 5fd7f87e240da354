"""The pytest plugin: its options, marker, fixtures and hooks.

This module is loaded in every run of pytest where the package is installed, so it imports pytest and the standard
library only. What does the work is imported by the first test that uses a fixture of ours.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from . import _hooks, _options
from ._fixtures import (
    _serial_device_on_loop as _serial_device_on_loop,
)
from ._fixtures import (
    _serial_script_on_loop as _serial_script_on_loop,
)
from ._fixtures import (
    serial_bench,
    serial_bus,
    serial_clock,
    serial_config,
    serial_device,
    serial_factory,
    serial_faults,
    serial_link,
    serial_pair,
    serial_path,
    serial_peer,
    serial_peer_path,
    serial_port,
    serial_ports,
    serial_script,
    serial_transcript,
    sync_serial_peer,
    sync_serial_port,
)
from ._keys import GUARD, HARDWARE, LINK, PLAYER, RECORDER, RUNNING, TEST, VERDICT
from ._names import NAMES
from ._report import outcome

if TYPE_CHECKING:
    from ._bench.file import BenchLink, BenchPort, SerialBench
    from ._device.device import SerialDevice, SyncSerialDevice
    from ._device.expectation import SerialExpectation
    from ._device.factory import SerialFactory
    from ._device.script import SerialScript, SyncSerialScript
    from ._device.steps import SerialRepeat
    from ._links.bus import SerialBus, SerialBusPorts
    from ._links.faults import SerialFault, SerialFaults
    from ._links.link import SerialLink, SerialPair
    from ._links.ports import SerialPorts
    from ._recordings.player import SerialRecordingWarning
    from ._time.clock import SerialClock
    from ._transcript.transcript import SerialTranscript, TranscriptEvent
    from ._views.view import SerialBurst, SerialFrame, SerialView

__all__ = [
    "BenchLink",
    "BenchPort",
    "SerialBench",
    "SerialBurst",
    "SerialBus",
    "SerialBusPorts",
    "SerialClock",
    "SerialDevice",
    "SerialExpectation",
    "SerialFactory",
    "SerialFault",
    "SerialFaults",
    "SerialFrame",
    "SerialLink",
    "SerialPair",
    "SerialPorts",
    "SerialRecordingWarning",
    "SerialRepeat",
    "SerialScript",
    "SerialTranscript",
    "SerialView",
    "SyncSerialDevice",
    "SyncSerialScript",
    "TranscriptEvent",
    "serial_bench",
    "serial_bus",
    "serial_clock",
    "serial_config",
    "serial_device",
    "serial_factory",
    "serial_faults",
    "serial_link",
    "serial_pair",
    "serial_path",
    "serial_peer",
    "serial_peer_path",
    "serial_port",
    "serial_ports",
    "serial_script",
    "serial_transcript",
    "sync_serial_peer",
    "sync_serial_port",
]

_TYPES = {
    "BenchLink": "_bench.file",
    "BenchPort": "_bench.file",
    "SerialBench": "_bench.file",
    "SerialBurst": "_views.view",
    "SerialBus": "_links.bus",
    "SerialBusPorts": "_links.bus",
    "SerialClock": "_time.clock",
    "SerialDevice": "_device.device",
    "SerialExpectation": "_device.expectation",
    "SerialFactory": "_device.factory",
    "SerialFault": "_links.faults",
    "SerialFaults": "_links.faults",
    "SerialFrame": "_views.view",
    "SerialLink": "_links.link",
    "SerialPair": "_links.link",
    "SerialRecordingWarning": "_recordings.player",
    "SerialPorts": "_links.ports",
    "SerialRepeat": "_device.steps",
    "SerialScript": "_device.script",
    "SerialTranscript": "_transcript.transcript",
    "SerialView": "_views.view",
    "SyncSerialDevice": "_device.device",
    "SyncSerialScript": "_device.script",
    "TranscriptEvent": "_transcript.transcript",
}

#: The plugin that runs our async tests and fixtures: its entry point and its module.
ANYIO = ("anyio", "anyio.pytest_plugin")

#: Modules of plugins that run async tests too.
_RUNNERS = ("pytest_asyncio.plugin", "pytest_trio.plugin")

#: The errors of all markers, shown at once when collection is over.
USAGE_ERRORS = pytest.StashKey[dict[str, str]]()


def __getattr__(name: str) -> Any:
    if name in _TYPES:
        from . import _library

        _library.require()
        return getattr(importlib.import_module(f".{_TYPES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # pytest looks at each name of a plugin, once for hooks and once for fixtures.
    return [name for name in globals() if name.startswith(("pytest_", "serial_", "sync_serial_", "_serial_"))]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(_hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    add = _options.adder(parser.getgroup("anyserial", "serial ports (anyserial)"))
    add(
        "--serial-links",
        metavar="NAMES",
        help="Run tests with serial fixtures on these links, separated by commas: mock (in memory), pty (two joined "
        "pseudo-terminals), hw (each link of the bench file), hw-NAME (one of them), replay (recordings made with "
        "--serial-record). Default: mock; with a bench file: hw.",
    )
    add(
        "--serial-hw",
        metavar="FILE",
        help="Run tests on the serial hardware that this bench file describes. An unmet requirement is then a failure, "
        "and so is a run in which no test used the hardware. Pass an empty string to ignore the ini setting.",
    )
    add(
        "--no-serial-strict",
        action="store_true",
        help="On a bench, skip tests whose requirements no selected link meets, and allow runs in which no test used "
        "the hardware.",
    )
    add(
        "--serial-ask",
        action="store_true",
        help="Ask the operator at the terminal to unplug and replug adapters whose ports have no `power` entry in the "
        "bench file.",
    )
    add(
        "--serial-loops",
        metavar="NAMES",
        help="Run async tests with serial fixtures on these event loops, separated by commas: asyncio, uvloop, trio. "
        "Default: all three.",
    )
    add(
        "--serial-transcript",
        metavar="WHICH",
        choices=("failed", "all", "off"),
        default="failed",
        help="Write the transcripts of these tests to files, one JSON object per line: failed, all or off (none). "
        "Reports of failed tests always show the last 200 events. Default: failed.",
    )
    add(
        "--serial-artifacts",
        metavar="DIR",
        help="Write these files to this folder, in one subfolder per test. Default: .pytest_anyserial in the rootdir.",
    )
    add(
        "--serial-pcapng",
        action="store_true",
        help="Write wire.pcapng, a capture for Wireshark, next to the transcripts of each test.",
    )
    add(
        "--serial-report",
        action="append",
        default=[],
        metavar="FILE",
        help="Write the results of each test on each link to FILE: a page to read if its name ends in .html, data if "
        "it ends in .json. May be given twice.",
    )
    add(
        "--serial-record",
        metavar="DIR",
        help="Record the bytes that each passed test has sent and received to DIR, one file per test, for the link "
        "replay. Tests on the mock, and tests that play the far end themselves, are not recorded.",
    )
    add(
        "--serial-record-in-ci",
        action="store_true",
        help="Allow --serial-record if CI is set in the environment.",
    )
    add("--serial-recordings", metavar="DIR", help="Play recordings from this folder on the link replay.")
    add(
        "--serial-replay-pace",
        metavar="PACE",
        default="recorded",
        help="Choose when the far end of a recording answers: recorded (after the recorded time), none (at once) or "
        "virtual (after the recorded time, in virtual time). Default: recorded.",
    )
    add(
        "--serial-blocked",
        metavar="AS",
        choices=("fail", "skip"),
        default="fail",
        help="Count tests that the bench has blocked, such as by a missing device, as failed (fail) or skipped (skip) "
        "in the exit status. Default: fail.",
    )
    _options.add_mutation(add)
    parser.addini(
        "anyserial_recordings", "Folder of recordings, relative to this file; see --serial-recordings.", default=""
    )
    parser.addini(
        "anyserial_recording_max_age",
        "Warn of recordings that are older than this, such as 90d or 26w. Default: never.",
        default="",
    )
    parser.addini("anyserial_links", "Links that tests with serial fixtures run on; see --serial-links.", default="")
    parser.addini("anyserial_hw", "Bench file, relative to this file; see --serial-hw.", default="")
    parser.addini(
        "anyserial_loops", "Event loops that async tests with serial fixtures run on; see --serial-loops.", default=""
    )


def _require_library() -> None:
    # Imported late, because most runs have no serial test.
    from . import _library

    _library.require_for_run()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _options.MARKER)
    config.addinivalue_line("markers", _options.MUTATION_MARKER)
    bench_file = _options.bench_file(config)
    if bench_file is not None or config.getoption("--serial-report"):
        _require_library()
    if bench_file is not None:
        from ._links import bench

        bench.attach(config, bench_file)
    _options.chosen_links(config)
    _options.chosen_loops(config)
    if config.getoption("--serial-record") is not None or _options.REPLAY in _options.chosen_links(config):
        _require_library()
        from ._recordings import settings

        settings.check(config)
    plugins = config.pluginmanager
    artifacts: str | None = config.getoption("--serial-artifacts")
    if artifacts is not None and not hasattr(config, "workerinput"):
        from . import _files

        _files.check("--serial-artifacts", config.invocation_params.dir / artifacts)
    if config.getoption("--serial-report"):
        from ._report import adapters

        plugins.register(adapters.AdapterReport(config), "anyserial_report")
    if _options.mutates(config):
        _require_library()
        from ._mutation import plugin

        plugin.attach(config)
    if not hasattr(config, "workerinput"):
        plugins.register(outcome.Outcome(config), "pytest_anyserial outcome")
    # An entry point registers the module under its own name, `-p` and `pytest_plugins` under the module's.
    if not any(plugins.has_plugin(name) or plugins.is_blocked(name) for name in ANYIO):
        plugins.import_plugin(ANYIO[1])
    if not sys.modules.keys().isdisjoint(_RUNNERS):
        from . import _runners

        _runners.attach(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    if HARDWARE not in config.stash:
        return []
    from ._links import bench

    return bench.header(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    # The controller of pytest-xdist looks at the bench, so that all workers collect the same.
    if HARDWARE in node.config.stash:
        links = _options.hardware_links(node.config)
        node.workerinput["anyserial"] = node.config.stash[HARDWARE].dumped(links)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if NAMES.isdisjoint(metafunc.fixturenames) and metafunc.definition.get_closest_marker("anyserial") is None:
        return
    try:
        _require_library()
        from ._matrix import generate

        generate.generate(metafunc)
    except pytest.UsageError as exc:
        if hasattr(metafunc.config, "workerinput"):
            # A worker of pytest-xdist has no terminal; a collection error is what it can report.
            raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {exc}") from None
        metafunc.config.stash.setdefault(USAGE_ERRORS, {}).setdefault(str(exc), metafunc.definition.nodeid)


@pytest.hookimpl(specname="pytest_generate_tests")
def pytest_anyserial_leave_loops(metafunc: pytest.Metafunc) -> None:
    # After the hooks of conftest files, and before pytest reads the marks.
    matrix = sys.modules.get(f"{__name__}._matrix.generate")
    if matrix is not None:
        matrix.defer_loops_to_other_plugins(metafunc)


@pytest.hookimpl(specname="pytest_generate_tests", wrapper=True)
def pytest_anyserial_explain_duplicates(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    try:
        return (yield)
    except (ValueError, pytest.Collector.CollectError) as exc:
        if NAMES.isdisjoint(metafunc.fixturenames) or "duplicate parametrization of 'anyio_backend'" not in str(exc):
            raise
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid}: its loops are chosen twice, by a pytest_generate_tests that parametrizes "
            "'anyio_backend' and for its serial fixtures. In place of the hook, write a fixture: "
            "@pytest.fixture(scope='module', params=['trio']) def anyio_backend(request): return request.param"
        ) from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if USAGE_ERRORS in config.stash:
        errors = config.stash[USAGE_ERRORS]
        raise pytest.UsageError(*(f"{nodeid}: {error}" for error, nodeid in errors.items()))
    matrix = sys.modules.get(f"{__name__}._matrix.generate")
    if matrix is not None:
        matrix.keep_loops(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    has_link = "serial_link" in getattr(getattr(item, "callspec", None), "params", ())
    if not has_link and NAMES.isdisjoint(getattr(item, "fixturenames", ())):
        return
    from . import _guard
    from ._matrix import generate, refusals

    if not has_link or not isinstance(item, pytest.Function):
        refusals.refuse_unparametrized(item)
        return
    if generate.needs_at_collection(item) is None:
        refusals.consider_late_marks(item)
    unmet = generate.unmet(item)
    if item.callspec.params["serial_link"] is None:
        return
    if unmet is None:
        item.stash[GUARD], item.config.stash[RUNNING] = _guard.Guard(item), item
    elif generate.is_a_failure(unmet, item.config):
        generate.fail_unmet(unmet)


@pytest.hookimpl(specname="pytest_runtest_setup", wrapper=True, tryfirst=True)
def pytest_anyserial_setup_failed(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except BaseException as exc:
        guard = item.stash.get(GUARD, None)
        if guard is not None:
            guard.after_failed_setup(exc)
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    guard = item.stash.get(GUARD, None)
    if guard is None:
        return (yield)
    with guard.calling():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # Inside the wrapper of --trace, which is registered later, and around AnyIO's hook.
    guard = pyfuncitem.stash.get(GUARD, None)
    if guard is not None:
        guard.undo_tracing()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    guard = item.stash.get(GUARD, None)
    if guard is None:
        return (yield)
    with guard.finishing():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    guard = item.stash.get(GUARD, None)
    is_mutated = guard is not None and guard.is_mutated
    if guard is not None and not is_mutated:
        guard.shorten(call)
    report = yield
    if not is_mutated:
        outcome.note(report, item)
    is_blocked = False
    if report.failed and not is_mutated and call.excinfo is not None and HARDWARE in item.config.stash:
        # Imported late, because only a bench can block a test.
        from ._report import blocked

        is_blocked = blocked.note(report, item, call.excinfo.value)
    if guard is not None and not is_mutated:
        guard.report(report)
    is_ours = guard is not None or not NAMES.isdisjoint(getattr(item, "fixturenames", ()))
    if report.failed and is_ours and not is_mutated:
        # Imported late, because most runs have no failure.
        from ._report import symptoms

        symptoms.add_to(report, None if call.excinfo is None else call.excinfo.value)
    if is_blocked:
        outcome.skip_if_asked(report, item)
    if guard is not None and report.when == "teardown":
        del item.stash[GUARD], item.stash[TEST], item.config.stash[RUNNING]
        if RECORDER in item.stash:
            item.stash[RECORDER].discard()
        for key in (LINK, RECORDER, PLAYER, VERDICT):
            if key in item.stash:
                del item.stash[key]
    return report
