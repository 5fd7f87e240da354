"""The fixtures. Thin: each hands out a part of the link under the test. Importing this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from anyserial import SerialConfig, SerialPort

    from ._guard import Guard
    from ._link import SerialLink
    from ._script import SerialScript
    from ._transcript import SerialTranscript

#: Fixtures that live on the test's event loop.
ASYNC = frozenset({"serial_port", "serial_peer", "serial_pair", "serial_script"})
#: Fixtures that give device paths.
PATHS = frozenset({"serial_path", "serial_peer_path"})
#: All that a test may ask for.
NAMES = ASYNC | PATHS | {"serial_link", "serial_config", "serial_transcript"}

#: The watch over a test that uses a fixture of ours, in the stash of its item.
GUARD: pytest.StashKey[Guard] = pytest.StashKey()


class SerialPair(NamedTuple):
    """Both ends of a link: `port` is the one under test, `peer` faces it."""

    port: SerialPort
    peer: SerialPort


@pytest.fixture
def serial_link(request: pytest.FixtureRequest) -> Iterator[SerialLink]:
    """The link under the test: name, kind, wires, capabilities of both ends, unplug() and replug().

    A test that uses a serial fixture runs once per selected link (--serial-links) that has what it needs.
    """
    from . import _link

    wiring = getattr(request, "param", None)
    if wiring is None:
        pytest.fail(
            "serial fixtures were requested with getfixturevalue(), when it is too late to choose links and loops: "
            "name them in the arguments of the test or of a fixture, or use @pytest.mark.usefixtures",
            pytrace=False,
        )
    with _link.SerialLink.on(wiring) as link:
        request.node.stash[GUARD].link = link
        yield link


@pytest.fixture
def serial_config(request: pytest.FixtureRequest) -> SerialConfig:
    """How both ends are opened: the marker's config, else the defaults. Override it to set your device's own."""
    from . import _marker

    return request.node.stash[GUARD].needs.config or _marker.DEFAULT_CONFIG


@pytest.fixture
async def _serial_line(
    anyio_backend: Any, request: pytest.FixtureRequest, serial_link: SerialLink, serial_config: SerialConfig
) -> AsyncIterator[SerialScript | None]:
    """The test's event loop, known to be the one its id names, with the scripted far end on it if there is one.

    Every async fixture builds on this one, so the script outlives everything that talks to it.
    """
    from . import _loops, _script

    _loops.check(anyio_backend, request.node)
    if "serial_script" not in request.fixturenames:
        yield None
        return
    async with _script.scripted(request.node.stash[GUARD], serial_link, serial_config) as script:
        yield script


@pytest.fixture
async def serial_port(
    _serial_line: object, serial_link: SerialLink, serial_config: SerialConfig
) -> AsyncIterator[SerialPort]:
    """End A of the link, open: an anyserial.SerialPort for the driver under test.

    The test runs on asyncio, uvloop and trio (--serial-loops), on every selected link.
    """
    async with await serial_link.open("port", serial_config) as port:
        yield port


@pytest.fixture
async def serial_peer(
    _serial_line: object, serial_link: SerialLink, serial_config: SerialConfig
) -> AsyncIterator[SerialPort]:
    """End B of the link, open: the test itself plays the device. See serial_script for a device that plays along."""
    async with await serial_link.open("peer", serial_config) as port:
        yield port


@pytest.fixture
def serial_pair(serial_port: SerialPort, serial_peer: SerialPort) -> SerialPair:
    """Both ends, open: a named tuple (port, peer)."""
    return SerialPair(serial_port, serial_peer)


@pytest.fixture
def serial_path(serial_link: SerialLink) -> str:
    """The device path of end A, not opened, for drivers that open a path themselves, on any library.

    Needs a link with paths, such as pty.
    """
    return serial_link.path("port")


@pytest.fixture
def serial_peer_path(serial_link: SerialLink) -> str:
    """The device path of end B, not opened, for another program that plays the device.

    Needs a link with paths, such as pty.
    """
    return serial_link.path("peer")


@pytest.fixture
def serial_script(_serial_line: SerialScript | None) -> SerialScript:
    r"""A scripted device at end B, on the test's own event loop.

    serial_script.on(b"MEAS?\n").reply(b"1.23\n") says what the driver should ask and what it gets. A request that
    the script does not expect ends the test at once; expectations left over fail it afterwards.
    """
    assert _serial_line is not None
    return _serial_line


@pytest.fixture
def serial_transcript(serial_link: SerialLink) -> SerialTranscript:
    """What passed on the ports of this test so far: .events, .hexdump(). A failing test shows it by itself."""
    return serial_link.transcript
