"""A system of which only the standard is known: plain termios, and honest answers about the rest."""

from __future__ import annotations

import errno
import termios
from typing import Any

import pytest

from anyserial import (
    Capability,
    FlowControl,
    RS485Config,
    SerialPort,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
)
from anyserial._backends.posix.facts import PosixFacts
from anyserial.testing import PtyPair

from .terminal import Terminal

pytestmark = [pytest.mark.anyio, pytest.mark.posix("termios")]

S, N, U = Capability.SUPPORTED, Capability.UNSUPPORTED, Capability.UNKNOWN


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


@pytest.fixture
def unix() -> Terminal:
    return Terminal(speed=termios.B9600)


async def opened(unix: Terminal, ptys: PtyPair, **fields: Any) -> SerialPort:
    return await unix.open(PosixFacts(name="sunos5", **unix.functions), ptys.path_a, **fields)


async def test_a_rate_is_a_constant(unix: Terminal, ptys: PtyPair) -> None:
    """L-216, L-42: rates go through their constants, in both directions."""
    async with await opened(unix, ptys, baudrate=38_400) as port:
        assert unix.calls == [("tcsetattr", termios.B38400)]
        assert unix.attributes[4] == unix.attributes[5] == termios.B38400
        await port.configure(port.config.with_changes(baudrate=1200))
        assert unix.calls[1:] == [("tcsetattr", termios.B1200)]


async def test_a_real_terminal_is_configured_and_carries_bytes(ptys: PtyPair) -> None:
    """L-216: the system's own tcgetattr and tcsetattr, bytes included."""
    terminal = Terminal()
    async with (
        await terminal.open(PosixFacts(name="linux"), ptys.path_a, baudrate=4800, stop_bits=2) as port,
        await SerialPort.open(ptys.path_b) as peer,
    ):
        await port.send(b"ping")
        assert await peer.receive() == b"ping"
        await port.configure(port.config.with_changes(baudrate=9600))
        assert port.config.baudrate == 9600
    assert terminal.calls == []


async def test_a_rate_without_a_constant_lists_the_known_rates(unix: Terminal, ptys: PtyPair) -> None:
    """L-216, L-120, L-132: the error lists the known rates and names the path; nothing was changed."""
    found = list(unix.attributes)
    with pytest.raises(UnsupportedConfigurationError, match="123456 baud") as caught:
        await opened(unix, ptys, baudrate=123_456, unsupported_policy="ignore")
    text = str(caught.value)
    assert text.startswith(f"{ptys.path_a}: ")
    assert all(f" {rate}" in text for rate in (300, 9600, 115_200))
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, ptys.path_a)
    assert unix.attributes == found
    async with await opened(unix, ptys) as port:
        with pytest.raises(UnsupportedConfigurationError, match="123456 baud"):
            await port.configure(port.config.with_changes(baudrate=123_456))
        assert unix.attributes[5] == termios.B115200


async def test_capabilities_are_those_of_posix(unix: Terminal, ptys: PtyPair) -> None:
    """L-216, L-126, section 13: the column of POSIX; what Python's `termios` does not name is not there."""
    async with await opened(unix, ptys) as port:
        has = port.capabilities
    assert (has.platform, has.backend) == ("sunos5", "posix")
    bits = {name: U if hasattr(termios, macro) else N for name, macro in BY_MACRO.items()}
    assert {name: getattr(has, name) for name in bits} == bits
    assert (has.xon_xoff, has.modem_lines, has.output_waiting) == (U, N, S)
    assert {has.exclusive_access, has.input_waiting} == {S}
    missing = ("custom_baudrate", "one_point_five_stop_bits", "dtr_dsr", "low_latency", "rs485", "port_discovery")
    assert {getattr(has, name) for name in missing} == {N}


BY_MACRO = {"rts_cts": "CRTSCTS", "mark_space_parity": "CMSPAR", "break_signal": "TIOCSBRK"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"low_latency": True}, "low latency"),
        ({"rs485": RS485Config()}, "RS-485"),
        ({"stop_bits": 1.5}, "1.5 stop bits"),
        ({"flow_control": FlowControl(dtr_dsr=True)}, "DTR/DSR"),
    ],
)
async def test_features_that_posix_lacks_follow_the_policy(
    fields: dict[str, Any], words: str, unix: Terminal, ptys: PtyPair
) -> None:
    """L-129, L-130: by the policy, and before the device is touched."""
    with pytest.raises(UnsupportedFeatureError, match=words):
        await opened(unix, ptys, **fields)
    assert unix.calls == []
    async with await opened(unix, ptys, unsupported_policy="ignore", **fields):
        assert unix.cflag == termios.CREAD | termios.CLOCAL | termios.CS8 | termios.HUPCL


@pytest.mark.skipif(hasattr(termios, "TIOCSBRK"), reason="this Python names the break calls")
async def test_a_break_without_a_constant_is_unsupported(unix: Terminal, ptys: PtyPair) -> None:
    """L-121, L-82: a call that has no number here is an unsupported feature, not an `AttributeError`."""
    async with await opened(unix, ptys) as port:
        with pytest.raises(UnsupportedFeatureError, match=ptys.path_a):
            await port.send_break(0)


async def test_there_are_no_counters(unix: Terminal, ptys: PtyPair) -> None:
    """L-86, L-82: the call says so."""
    async with await opened(unix, ptys) as port:
        with pytest.raises(UnsupportedFeatureError, match=ptys.path_a):
            await port.line_errors()


async def test_the_exact_drain_is_the_blocking_call(unix: Terminal, ptys: PtyPair) -> None:
    """L-68: on this pty it returns at once."""
    async with await opened(unix, ptys) as port:
        await port.send(b"x")
        await port.drain_exact()
