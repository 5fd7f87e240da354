"""macOS: what `_tty_darwin` asks of the system, against recorded calls."""

from __future__ import annotations

import errno
import termios
from typing import Any

import pytest

from anyserial import (
    Capability,
    ControlLines,
    FlowControl,
    RS485Config,
    SerialPort,
    UnsupportedFeatureError,
    UnsupportedSettingError,
)
from anyserial._backends.posix.darwin import DarwinFacts
from anyserial.testing import PtyPair

from .terminal import CLEAR_BREAK, IOSSIOSPEED, SET_BREAK, Terminal

pytestmark = [pytest.mark.anyio, pytest.mark.posix("termios")]

S, N = Capability.SUPPORTED, Capability.UNSUPPORTED
CCTS_OFLOW, CRTS_IFLOW = 0x00010000, 0x00020000


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


@pytest.fixture
def mac() -> Terminal:
    return Terminal()


async def opened(mac: Terminal, ptys: PtyPair, **fields: Any) -> SerialPort:
    return await mac.open(DarwinFacts(**mac.functions), ptys.path_a, **fields)


def test_ioctl_numbers_imply_the_argument_sizes() -> None:
    """Section 19: each number implies the size of its argument."""
    assert (IOSSIOSPEED, SET_BREAK, CLEAR_BREAK) == (0x80085402, 0x2000747B, 0x2000747A)


@pytest.mark.parametrize("rate", [300, 9600, 115_200, 230_400])
async def test_a_standard_rate_is_one_step(rate: int, mac: Terminal, ptys: PtyPair) -> None:
    """L-189: the constants are the rates."""
    async with await opened(mac, ptys, baudrate=rate):
        assert mac.calls == [("tcsetattr", rate)]
        assert mac.rate == rate


@pytest.mark.parametrize("rate", [250_000, 460_800, 123_456, 3_000_000])
async def test_a_custom_rate_takes_two_steps(rate: int, mac: Terminal, ptys: PtyPair) -> None:
    """L-189: attributes with some standard rate, then IOSSIOSPEED with 8 bytes."""
    async with await opened(mac, ptys, baudrate=rate):
        assert mac.calls == [("tcsetattr", 9600), ("IOSSIOSPEED", rate)]
        assert mac.rate == rate


async def test_each_reconfigure_repeats_both_steps(mac: Terminal, ptys: PtyPair) -> None:
    """L-80, L-189: tcsetattr undoes the custom rate, also when something else changed; a standard rate ends it."""
    async with await opened(mac, ptys, baudrate=250_000) as port:
        await port.configure(port.config.with_changes(stop_bits=2))
        assert mac.calls[2:] == [("tcsetattr", 9600), ("IOSSIOSPEED", 250_000)]
        assert mac.cflag & termios.CSTOPB
        await port.configure(port.config.with_changes(baudrate=19_200))
        assert mac.calls[4:] == [("tcsetattr", 19_200)]
        assert mac.rate == 19_200


async def test_the_actual_rate_is_not_read_back(mac: Terminal, ptys: PtyPair) -> None:
    """L-44: after IOSSIOSPEED, tcgetattr still tells the placeholder."""
    async with await opened(mac, ptys, baudrate=250_000) as port:
        assert mac.tcgetattr(0)[5] == 9600
        assert port.config.baudrate == 250_000


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTTY])
async def test_a_refused_second_step_undoes_the_first(code: int, mac: Terminal, ptys: PtyPair) -> None:
    """L-80, L-45, L-71: at configure back to a rate that itself took two steps, at open to what was found."""
    found = list(mac.attributes)
    mac.refuse["IOSSIOSPEED"] = [code]
    with pytest.raises(UnsupportedSettingError, match=ptys.path_a):
        await opened(mac, ptys, baudrate=250_000)
    assert (mac.attributes, mac.rate) == (found, 9600)
    async with await opened(mac, ptys, baudrate=250_000) as port:
        config, attributes = port.config, list(mac.attributes)
        mac.refuse["IOSSIOSPEED"] = [code]
        with pytest.raises(UnsupportedSettingError, match=ptys.path_a) as caught:
            await port.configure(config.with_changes(baudrate=500_000, stop_bits=2))
        assert caught.value.errno == code
        assert not hasattr(caught.value, "__notes__")
        assert port.config is config
        assert (mac.attributes, mac.rate) == (attributes, 250_000)


async def test_a_failed_rollback_is_reported(mac: Terminal, ptys: PtyPair) -> None:
    """L-71, L-80: when the old rate cannot be set again either, a note on the first error says so."""
    async with await opened(mac, ptys, baudrate=250_000) as port:
        mac.refuse["IOSSIOSPEED"] = [errno.EINVAL, errno.EINVAL]
        with pytest.raises(UnsupportedSettingError) as caught:
            await port.configure(port.config.with_changes(baudrate=500_000))
        (note,) = caught.value.__notes__
        assert ptys.path_a in note


async def test_an_error_of_tcsetattr_is_translated(mac: Terminal, ptys: PtyPair) -> None:
    """L-121, L-45, L-116: `termios.error` never reaches the caller."""
    mac.refuse["tcsetattr"] = [errno.EINVAL]
    with pytest.raises(UnsupportedSettingError, match=ptys.path_a) as caught:
        await opened(mac, ptys)
    assert isinstance(caught.value.__cause__, termios.error)


@pytest.mark.parametrize(
    ("drops", "fields", "words"),
    [
        (termios.PARENB | termios.PARODD, {"parity": "odd"}, "parity"),
        (termios.CSTOPB, {"stop_bits": 2}, "stop bits"),
        (CRTS_IFLOW, {"flow_control": FlowControl(rts_cts=True)}, "RTS/CTS"),
    ],
)
async def test_a_setting_that_did_not_stick_is_refused(
    drops: int, fields: dict[str, Any], words: str, ptys: PtyPair
) -> None:
    """L-46: tcsetattr may succeed partially; the attributes are compared afterwards."""
    mac = Terminal(drops=drops)
    found = list(mac.attributes)
    with pytest.raises(UnsupportedSettingError, match=words):
        await opened(mac, ptys, **fields)
    assert mac.attributes == found


async def test_hardware_flow_control_has_two_bits(mac: Terminal, ptys: PtyPair) -> None:
    """L-42, section 19: output on CTS and input on RTS, together."""
    async with await opened(mac, ptys, flow_control=FlowControl(rts_cts=True)) as port:
        assert mac.cflag & (CCTS_OFLOW | CRTS_IFLOW) == CCTS_OFLOW | CRTS_IFLOW
        await port.configure(port.config.with_changes(flow_control=FlowControl()))
        assert not mac.cflag & (CCTS_OFLOW | CRTS_IFLOW)


async def test_a_break_uses_the_ioctls_of_macos(mac: Terminal, ptys: PtyPair) -> None:
    """Section 19: the numbers that Python does not export."""
    async with await opened(mac, ptys) as port:
        mac.calls.clear()
        await port.send_break(0)
    assert mac.calls == [("break", SET_BREAK), ("break", CLEAR_BREAK)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"low_latency": True}, "low latency"),
        ({"rs485": RS485Config()}, "RS-485"),
        ({"parity": "mark"}, "mark/space"),
        ({"stop_bits": 1.5}, "1.5 stop bits"),
        ({"flow_control": FlowControl(dtr_dsr=True)}, "DTR/DSR"),
    ],
)
async def test_features_that_macos_lacks_follow_the_policy(
    fields: dict[str, Any], words: str, mac: Terminal, ptys: PtyPair
) -> None:
    """L-190, L-129, L-130, L-131: by the policy, and before the device is touched."""
    with pytest.raises(UnsupportedFeatureError, match=words):
        await opened(mac, ptys, **fields)
    assert mac.calls == []
    with pytest.warns(RuntimeWarning, match=words):
        port = await opened(mac, ptys, unsupported_policy="warn", **fields)
    with pytest.warns(RuntimeWarning, match=words):
        await port.configure(port.config)
    assert mac.cflag == termios.CREAD | termios.CLOCAL | termios.CS8 | termios.HUPCL
    await port.aclose()


@pytest.mark.parametrize(("modem", "found"), [(termios.TIOCM_DTR | termios.TIOCM_CTS, S), (None, N)])
async def test_capabilities_are_those_of_macos(modem: int | None, found: Capability, ptys: PtyPair) -> None:
    """L-126, section 13: the column of macOS; a pty answers ENOTTY to modem calls."""
    mac = Terminal(modem=modem)
    async with await opened(mac, ptys) as port:
        has = port.capabilities
        if modem is not None:
            assert await port.control_lines() == ControlLines(rts=False, dtr=True)
            assert (await port.modem_lines()).cts
    assert (has.platform, has.backend) == ("darwin", "darwin")
    assert has.modem_lines is found
    supported = ("custom_baudrate", "xon_xoff", "rts_cts", "break_signal", "exclusive_access", "input_waiting")
    assert {getattr(has, name) for name in (*supported, "output_waiting", "port_discovery")} == {S}
    missing = ("mark_space_parity", "one_point_five_stop_bits", "dtr_dsr", "low_latency", "rs485")
    assert {getattr(has, name) for name in missing} == {N}


async def test_there_are_no_counters(mac: Terminal, ptys: PtyPair) -> None:
    """L-86, L-82: the call says so."""
    async with await opened(mac, ptys) as port:
        with pytest.raises(UnsupportedFeatureError, match=ptys.path_a):
            await port.line_errors()


async def test_the_exact_drain_is_the_blocking_call(mac: Terminal, ptys: PtyPair) -> None:
    """L-68: there is no register to ask."""
    drained = []

    class Facts(DarwinFacts):
        def drain(self, fd: int) -> None:
            drained.append(fd)

    async with await mac.open(Facts(**mac.functions), ptys.path_a) as port:
        await port.drain_exact()
    assert len(drained) == 1
