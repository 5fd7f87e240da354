"""The fixtures. Each returns a part of the link under test. Importing this module imports nothing heavy."""

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

    A test that uses a serial fixture runs on each selected link (--serial-links) that meets its requirements.
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
    """The config with which both ends are opened: that of the marker, or else the defaults.

    Override it in your project with the config of your device. Your fixture may request others and be parametrized.
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
    """End B of the link, open; the test itself acts as the device. See also serial_script and serial_device."""
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

    The test runs once on every selected link, whichever event loops are selected.
    """
    _require(serial_link, serial_config)
    with serial_link.sync_opened("port", serial_config) as port:
        yield port


@pytest.fixture
def sync_serial_peer(serial_link: SerialLink, serial_config: SerialConfig) -> Iterator[sync.SerialPort]:
    """End B of the link, open, as a blocking port; the test itself, or one of its threads, acts as the device."""
    _require(serial_link, serial_config)
    with serial_link.sync_opened("peer", serial_config) as port:
        yield port


@pytest.fixture
def serial_path(serial_link: SerialLink) -> str:
    """The path of end A, not opened, for drivers that open a path themselves.

    anyserial can open it on every link. If another library or program opens it, it must be a real device such as a
    pty: mark the test with @pytest.mark.anyserial(requires=["path"]).
    """
    return serial_link.path("port")


@pytest.fixture
def serial_peer_path(serial_link: SerialLink) -> str:
    """The path of end B, not opened, for a simulator that acts as the device; see serial_path."""
    return serial_link.path("peer")


@pytest.fixture
def serial_script(
    request: pytest.FixtureRequest, serial_link: SerialLink, serial_config: SerialConfig
) -> Iterator[SerialScript]:
    r"""A scripted device at end B, on the test's own event loop; for a plain `def` test, in a thread.

    serial_script.on(b"MEAS?\n").reply(b"1.23\n") expects a request and gives its reply. An unexpected request ends
    the test at once. An expectation that is not met fails the test at its end.
    """
    yield from _far_end(request, "script", serial_link, serial_config)


@pytest.fixture
def serial_device(
    request: pytest.FixtureRequest, serial_link: SerialLink, serial_config: SerialConfig
) -> Iterator[SerialDevice]:
    """A device at end B that answers with your function or object: serial_device.serve(handler).

    The handler takes one request and returns bytes, several replies, or None for no reply. If it raises, the test ends
    with that traceback. framer= finds the end of a request; see pytest_anyserial.framing.
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
    """The contents of the bench file of this run (--serial-hw): .name, .ports, .links; None if there is none."""
    hardware = pytestconfig.stash.get(HARDWARE, None)
    return None if hardware is None else hardware.bench


@pytest.fixture
def serial_transcript(serial_link: SerialLink) -> SerialTranscript:
    """The events on the ports of this test so far: .events, .hexdump(), and .path, the folder of its files.

    The report of a failed test shows the last events, and all events are written to files (--serial-transcript).
    """
    return serial_link.transcript


@pytest.fixture
def serial_faults(serial_link: SerialLink) -> Iterator[SerialFaults]:
    """The faults of the port under test: serial_faults.at_byte(512).unplug().replug(after=1.0).

    The test runs on the mock link. A fault that has not happened when the test ends fails it, unless it is
    .optional(). The transcript shows the faults that have happened.
    """
    from ._links.faults import planned

    with planned(serial_link) as faults:
        yield faults


@pytest.fixture
def serial_bus(serial_link: SerialLink, anyio_backend: Any, serial_config: SerialConfig) -> SerialBus:
    """Several ports on one line, for drivers of RS-485 and other multi-drop devices.

    Use async with serial_bus(3) as (controller, first, second). Bytes that one port sends, all others receive. Bytes
    that two ports send at the same time are garbled. On a bench the bus is a link of kind rs485.
    """
    from ._links.bus import SerialBus

    # Requested because the bus opens its ports on this loop.
    del anyio_backend
    return SerialBus(serial_link, serial_config)


@pytest.fixture
def serial_ports(serial_link: SerialLink) -> Iterator[SerialPorts]:
    """The list of serial ports, for drivers that find their port: serial_ports.publish(vid=0x0403, pid=0x6001).

    Until the test ends, anyserial's list_serial_ports and find_serial_port find only the published ports, by default
    end A of the link. serial_ports.tell_pyserial(monkeypatch) does the same for pyserial's comports.
    """
    from ._links.ports import publishing

    with publishing(serial_link) as ports:
        yield ports


@pytest.fixture
async def serial_clock(serial_link: SerialLink, anyio_backend: Any) -> AsyncIterator[SerialClock]:
    """Virtual time: sleeps and timeouts of this test take no real time, and serial_clock.time is exact.

    Time stands still while anything runs, and jumps to the next timer when all tasks wait. The test runs on the mock
    link, on asyncio and trio; worker threads raise an error.
    """
    from ._loops import check
    from ._time.clock import running

    test = serial_link._test
    check(anyio_backend, test.item)
    async with running(test.clock, test) as clock:
        yield clock


@pytest.fixture(scope="session")
def serial_factory(pytestconfig: pytest.Config) -> SerialFactory:
    """Opens several pairs in one test, including a test with @given of Hypothesis.

    Use async with serial_factory(config=..., faults=...) as (port, peer). Each pair is a new link of the kind on which
    the test runs.
    """
    from ._device.factory import SerialFactory

    return SerialFactory(pytestconfig)


@asynccontextmanager
async def _opened(link: SerialLink, end: End, config: SerialConfig, backend: Any) -> AsyncGenerator[SerialPort]:
    """Open one end for a fixture, on the loop that `backend` stands for."""
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
