"""BSD: what `_tty_bsd` asks of the system, against recorded calls."""

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
    UnsupportedSettingError,
)
from anyserial._backends.posix.bsd import BsdFacts
from anyserial.testing import PtyPair

from .terminal import CLEAR_BREAK, SET_BREAK, Terminal

pytestmark = [pytest.mark.anyio, pytest.mark.posix("termios")]

S, N, U = Capability.SUPPORTED, Capability.UNSUPPORTED, Capability.UNKNOWN


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


@pytest.fixture
def bsd() -> Terminal:
    return Terminal()


async def opened(bsd: Terminal, ptys: PtyPair, **fields: Any) -> SerialPort:
    return await bsd.open(BsdFacts(**bsd.functions), ptys.path_a, **fields)


@pytest.mark.parametrize("rate", [300, 115_200, 123_456, 3_000_000])
async def test_any_rate_is_one_step(rate: int, bsd: Terminal, ptys: PtyPair) -> None:
    """L-195: the number itself goes into both speeds."""
    async with await opened(bsd, ptys, baudrate=rate) as port:
        assert bsd.calls == [("tcsetattr", rate)]
        assert bsd.attributes[4] == bsd.attributes[5] == rate
        await port.configure(port.config.with_changes(baudrate=9600))
        assert bsd.calls[1:] == [("tcsetattr", 9600)]


async def test_the_rate_is_read_back(bsd: Terminal, ptys: PtyPair) -> None:
    """L-44: a driver that runs at another rate is found out, and all is put back."""
    found = list(bsd.attributes)
    bsd.told = 9600
    with pytest.raises(UnsupportedConfigurationError, match=r"250000.*9600"):
        await opened(bsd, ptys, baudrate=250_000)
    assert bsd.attributes == found


async def test_a_refused_rate_keeps_the_old_one(bsd: Terminal, ptys: PtyPair) -> None:
    """L-45, L-71, L-121: tcsetattr refuses; the port stays at its old rate."""
    async with await opened(bsd, ptys, baudrate=57_600) as port:
        bsd.refuse["tcsetattr"] = [errno.EINVAL]
        with pytest.raises(UnsupportedSettingError, match=ptys.path_a):
            await port.configure(port.config.with_changes(baudrate=12_345_678))
        assert bsd.rate == port.config.baudrate == 57_600


async def test_a_break_uses_the_ioctls_of_bsd(bsd: Terminal, ptys: PtyPair) -> None:
    """L-196: the numbers of macOS."""
    async with await opened(bsd, ptys) as port:
        bsd.calls.clear()
        await port.send_break(0)
    assert bsd.calls == [("break", SET_BREAK), ("break", CLEAR_BREAK)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"low_latency": True}, "low latency"),
        ({"rs485": RS485Config()}, "RS-485"),
        ({"stop_bits": 1.5}, "1.5 stop bits"),
        ({"flow_control": FlowControl(dtr_dsr=True)}, "DTR/DSR"),
    ],
)
async def test_features_that_bsd_lacks_follow_the_policy(
    fields: dict[str, Any], words: str, bsd: Terminal, ptys: PtyPair
) -> None:
    """L-197, L-130: by the policy, and before the device is touched."""
    with pytest.raises(UnsupportedFeatureError, match=words):
        await opened(bsd, ptys, **fields)
    assert bsd.calls == []
    async with await opened(bsd, ptys, unsupported_policy="ignore", **fields):
        assert bsd.cflag == termios.CREAD | termios.CLOCAL | termios.CS8 | termios.HUPCL


async def test_hardware_flow_control_sets_crtscts(bsd: Terminal, ptys: PtyPair) -> None:
    """L-42: as the system spells it."""
    async with await opened(bsd, ptys, flow_control=FlowControl(rts_cts=True)):
        assert bsd.cflag & termios.CRTSCTS


@pytest.mark.parametrize(
    ("modem", "refused", "modem_lines", "output_waiting"),
    [(0, [], S, S), (None, [errno.ENOTTY], N, N), (0, [errno.EIO], S, U)],
)
async def test_capabilities_are_those_of_bsd(
    modem: int | None, refused: list[int], modem_lines: Capability, output_waiting: Capability, ptys: PtyPair
) -> None:
    """L-126, L-127, section 13: the column of BSD; modem lines and the output queue are asked for."""
    bsd = Terminal(modem=modem)
    bsd.refuse["TIOCOUTQ"] = list(refused)
    async with await opened(bsd, ptys) as port:
        has = port.capabilities
    assert (has.platform, has.backend) == ("bsd", "bsd")
    assert (has.modem_lines, has.output_waiting, has.mark_space_parity) == (modem_lines, output_waiting, U)
    supported = ("custom_baudrate", "xon_xoff", "rts_cts", "break_signal", "exclusive_access", "input_waiting")
    assert {getattr(has, name) for name in (*supported, "port_discovery")} == {S}
    assert {getattr(has, name) for name in ("one_point_five_stop_bits", "dtr_dsr", "low_latency", "rs485")} == {N}
