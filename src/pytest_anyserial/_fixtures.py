"""The fixtures. Thin: each hands out a part of the link under the test. Importing this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ._keys import HARDWARE, TEST
from ._names import on_loop

if TYPE_CHECKING:
    from anyserial import SerialConfig, SerialPort, sync

    from ._bench.file import SerialBench
    from ._device.device import SerialDevice
    from ._device.factory import SerialFactory
    from ._device.script import SerialScript
    from ._links.bus import SerialBus
    from ._links.faults import SerialFaults
    from ._links.link import SerialLink, SerialPair
    from ._links.ports import SerialPorts
    from ._time.clock import SerialClock
    from ._transcript.transcript import End, SerialTranscript


@pytest.fixture
def serial_link(request: pytest.FixtureRequest) -> Iterator[SerialLink]:
    """The link under the test: name, kind, wires, capabilities of both ends, unplug() and replug().

    A test that uses a serial fixture runs once per selected link (--serial-links) that has what it needs.
    """
    from ._links.link import connected

    name = getattr(request, "param", None)
    if name is None:
        from ._matrix.refusals import unparametrized

        pytest.fail(unparametrized(request.node), pytrace=False)
    with connected(name, request.node.stash[TEST]) as link:
        yield link


@pytest.fixture
def serial_config(serial_link: SerialLink) -> SerialConfig:
    """How both ends are opened: the marker's config, else the defaults.

    Override it in your project to give your device's own; it may ask for other fixtures and be parametrized.
    """
    return serial_link.config


@pytest.fixture
async def serial_port(
    serial_link: SerialLink, anyio_backend: Any, serial_config: SerialConfig
) -> AsyncIterator[SerialPort]:
    """End A of the link, open: an anyserial.SerialPort for the driver under test.

    The test runs on asyncio, uvloop and trio (--serial-loops), on every selected link.
    """
    async with _opened(serial_link, "port", serial_config, anyio_backend) as port:
        yield port


@pytest.fixture
async def serial_peer(
    serial_link: SerialLink, anyio_backend: Any, serial_config: SerialConfig
) -> AsyncIterator[SerialPort]:
    """End B of the link, open: the test itself plays the device. See serial_script for a device that plays along."""
    async with _opened(serial_link, "peer", serial_config, anyio_backend) as port:
        yield port


@pytest.fixture
def serial_pair(serial_port: SerialPort, serial_peer: SerialPort) -> SerialPair:
    """Both ends, open: a named tuple (port, peer)."""
    from ._links.link import SerialPair

    return SerialPair(serial_port, serial_peer)


@pytest.fixture
def sync_serial_port(serial_link: SerialLink, serial_config: SerialConfig) -> Iterator[sync.SerialPort]:
    """End A of the link, open: an anyserial.sync.SerialPort for a blocking driver.

    The test runs once on every selected link, whatever event loops are selected.
    """
    _require(serial_link, serial_config)
    with serial_link.sync_opened("port", serial_config) as port:
        yield port


@pytest.fixture
def sync_serial_peer(serial_link: SerialLink, serial_config: SerialConfig) -> Iterator[sync.SerialPort]:
    """End B of the link, open, as a blocking port: the test itself, or a thread of it, plays the device."""
    _require(serial_link, serial_config)
    with serial_link.sync_opened("peer", serial_config) as port:
        yield port


@pytest.fixture
def serial_path(serial_link: SerialLink) -> str:
    """The path of end A, not opened, for drivers that open a path themselves.

    anyserial opens it on every link. A driver on another library, or another program, needs a device that everybody
    sees, such as a pty: mark the test with @pytest.mark.anyserial(requires=["path"]).
    """
    return serial_link.path("port")


@pytest.fixture
def serial_peer_path(serial_link: SerialLink) -> str:
    """The path of end B, not opened, for a simulator that plays the device; see serial_path."""
    return serial_link.path("peer")


@pytest.fixture
def serial_script(
    request: pytest.FixtureRequest, serial_link: SerialLink, serial_config: SerialConfig
) -> Iterator[SerialScript]:
    r"""A scripted device at end B, on the test's own event loop; in a thread for a plain `def` test.

    serial_script.on(b"MEAS?\n").reply(b"1.23\n") says what the driver should ask and what it gets. A request that
    the script does not expect ends the test at once; expectations left over fail it afterwards.
    """
    yield from _far_end(request, "script", serial_link, serial_config)


@pytest.fixture
def serial_device(
    request: pytest.FixtureRequest, serial_link: SerialLink, serial_config: SerialConfig
) -> Iterator[SerialDevice]:
    """A device at end B that answers with a function or an object of yours: serial_device.serve(handler).

    The handler gets one request and returns bytes, several of them, or None for silence. An exception in it ends the
    test with its traceback. framer= says where a request ends: see pytest_anyserial.framing.
    """
    yield from _far_end(request, "device", serial_link, serial_config)


def _far_end(request: pytest.FixtureRequest, kind: str, link: SerialLink, config: SerialConfig) -> Iterator[Any]:
    """Run the far end on the loop of the test's body, or in a thread if the test has none."""
    __tracebackhide__ = True
    from ._matrix.generate import is_async

    if is_async(link._test.item):
        yield request.getfixturevalue(on_loop(f"serial_{kind}"))
        return
    from ._device import playing

    _require(link, config)
    play = playing.play_script_in_thread if kind == "script" else playing.play_device_in_thread
    with play(link, config) as far_end:
        yield far_end


@pytest.fixture
async def _serial_script_on_loop(
    serial_link: SerialLink, anyio_backend: Any, serial_config: SerialConfig
) -> AsyncIterator[SerialScript]:
    from ._device.playing import play_script

    async with (
        _opened(serial_link, "peer", serial_config, anyio_backend) as port,
        play_script(serial_link, port) as script,
    ):
        yield script


@pytest.fixture
async def _serial_device_on_loop(
    serial_link: SerialLink, anyio_backend: Any, serial_config: SerialConfig
) -> AsyncIterator[SerialDevice]:
    from ._device.playing import play_device

    async with (
        _opened(serial_link, "peer", serial_config, anyio_backend) as port,
        play_device(serial_link, port) as device,
    ):
        yield device


@pytest.fixture(scope="session")
def serial_bench(pytestconfig: pytest.Config) -> SerialBench | None:
    """The bench file of this run (--serial-hw) as values: .name, .ports, .links; None if there is none."""
    hardware = pytestconfig.stash.get(HARDWARE, None)
    return None if hardware is None else hardware.bench


@pytest.fixture
def serial_transcript(serial_link: SerialLink) -> SerialTranscript:
    """What passed on the ports of this test so far: .events, .hexdump(), and .path, where it is going to be written.

    A failing test shows the end of it by itself, and leaves all of it in files (--serial-transcript).
    """
    return serial_link.transcript


@pytest.fixture
def serial_faults(serial_link: SerialLink) -> Iterator[SerialFaults]:
    """What goes wrong on the port under test: serial_faults.at_byte(512).unplug().replug(after=1.0).

    The test runs on the mock link. A fault that has not happened when the test is over fails it, unless it is
    .optional(). What has happened is in the transcript.
    """
    from ._links.faults import planned

    with planned(serial_link) as faults:
        yield faults


@pytest.fixture
def serial_bus(serial_link: SerialLink, anyio_backend: Any, serial_config: SerialConfig) -> SerialBus:
    """Several ports on one line, for drivers of RS-485 and other multi-drop devices.

    async with serial_bus(3) as (controller, first, second): what one sends, all others receive. Two that send at the
    same time garble each other's bytes. On a bench it is a link of kind rs485.
    """
    from ._links.bus import SerialBus

    # The loop that the ports are opened on, when the test asks for them.
    del anyio_backend
    return SerialBus(serial_link, serial_config)


@pytest.fixture
def serial_ports(serial_link: SerialLink) -> Iterator[SerialPorts]:
    """The list of serial ports, for drivers that look for theirs: serial_ports.publish(vid=0x0403, pid=0x6001).

    Until the test ends, anyserial's list_serial_ports and find_serial_port find what is published, by default end A of
    the link, and nothing else. serial_ports.tell_pyserial(monkeypatch) does the same for pyserial's comports.
    """
    from ._links.ports import publishing

    with publishing(serial_link) as ports:
        yield ports


@pytest.fixture
async def serial_clock(serial_link: SerialLink, anyio_backend: Any) -> AsyncIterator[SerialClock]:
    """Virtual time: sleeps and timeouts of this test take none, and serial_clock.time tells exactly when it is.

    Time stands still while anything runs, and jumps to the next moment when all tasks wait. The test runs on the mock
    link, on asyncio and trio; worker threads are refused.
    """
    from ._loops import check
    from ._time.clock import running

    test = serial_link._test
    check(anyio_backend, test.item)
    async with running(test.clock, test) as clock:
        yield clock


@pytest.fixture(scope="session")
def serial_factory(pytestconfig: pytest.Config) -> SerialFactory:
    """Opens many pairs in one test, also in one with @given of Hypothesis.

    async with serial_factory(config=..., faults=...) as (port, peer): each pair is a fresh link of the kind that the
    test runs on.
    """
    from ._device.factory import SerialFactory

    return SerialFactory(pytestconfig)


@asynccontextmanager
async def _opened(link: SerialLink, end: End, config: SerialConfig, backend: Any) -> AsyncGenerator[SerialPort]:
    """One end for a fixture, on the loop that `backend` stands for."""
    from . import _loops

    test = link._test
    _loops.check(backend, test.item)
    _require(link, config)
    # What a signal handler raised ends a fixture that waits for the port.
    with _loops.outcomes_reach(test.end_fixtures_with):
        async with link.opened(end, config) as port:
            yield port


def _require(link: SerialLink, config: SerialConfig) -> None:
    """Skip or fail a test whose own `serial_config` asks for what the link does not have."""
    __tracebackhide__ = True
    if config is not link.config:
        from ._matrix.refusals import require

        require(link._test.item, link._wiring, config)
