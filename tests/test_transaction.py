"""Reconfiguring a real driver's device: whichever step fails, kernel and `port.config` are at the old state."""

from __future__ import annotations

import errno
import struct
import tempfile
import termios
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyserial import (
    ControlLines,
    FlowControl,
    Parity,
    RS485Config,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedFeatureError,
)
from anyserial.testing import PtyPair, pty_pair

from .kernel import (
    CMSPAR,
    DTR,
    ENABLED,
    FTDI,
    KEEPER,
    RTS,
    SETTERS,
    UART_8250,
    Driver,
    FakeKernel,
    unpack_rs485,
)
from .support import Outcome, assert_raises_when_cancelled, parked

pytestmark = [pytest.mark.anyio, pytest.mark.posix("termios")]

#: An adapter that can do everything, its latency timer included.
ADAPTER = Driver(name="ftdi_sio", keeps_low_latency=True, gets_rs485=True, rs485=lambda data: data)
FLAGS_OF_PARITY = {
    Parity.NONE: 0,
    Parity.EVEN: termios.PARENB,
    Parity.ODD: termios.PARENB | termios.PARODD,
    Parity.MARK: termios.PARENB | termios.PARODD | CMSPAR,
    Parity.SPACE: termios.PARENB | CMSPAR,
}

configs = st.builds(
    SerialConfig,
    baudrate=st.sampled_from([300, 9600, 115_200, 123_456, 3_000_000]),
    byte_size=st.integers(5, 8),
    parity=st.sampled_from(Parity),
    stop_bits=st.sampled_from([1, 2]),
    flow_control=st.builds(FlowControl, xon_xoff=st.booleans(), rts_cts=st.booleans()),
    hangup_on_close=st.booleans(),
    low_latency=st.booleans(),
    rs485=st.none() | st.builds(RS485Config, enabled=st.booleans(), delay_before_send=st.sampled_from([0, 0.005])),
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


@contextmanager
def device(driver: Driver) -> Iterator[tuple[FakeKernel, str]]:
    """A fresh device and the path of its tty, for one Hypothesis example."""
    with tempfile.TemporaryDirectory() as folder, pty_pair() as ptys:
        yield FakeKernel(driver, Path(folder)), ptys.path_a


def assert_device_is(kernel: FakeKernel, config: SerialConfig) -> None:
    """The device is set up as `config` says, as far as a driver that takes everything can tell."""
    assert kernel.rate == config.baudrate
    cflag = termios.CREAD | termios.CLOCAL | getattr(termios, f"CS{config.byte_size}") | FLAGS_OF_PARITY[config.parity]
    cflag |= termios.CSTOPB if config.stop_bits == "2" else 0
    cflag |= termios.CRTSCTS if config.flow_control.rts_cts else 0
    cflag |= termios.HUPCL if config.hangup_on_close else 0
    assert kernel.cflag == cflag
    iflag = termios.IXON | termios.IXOFF if config.flow_control.xon_xoff else 0
    assert struct.unpack_from("=4I", kernel.line)[0::3] == (iflag, 0)
    assert kernel.low_latency is config.low_latency
    flags, before, _ = unpack_rs485(kernel.rs485)
    assert bool(flags & ENABLED) is (config.rs485 is not None and config.rs485.enabled)
    assert before == (round(config.rs485.delay_before_send * 1000) if config.rs485 is not None else 0)


@settings(max_examples=50)
@given(old=configs, new=configs, last=configs)
def test_the_device_has_the_settings_of_the_config(old: SerialConfig, new: SerialConfig, last: SerialConfig) -> None:
    """L-72, L-75, L-76, L-77, E32: after an open and after each configure; a close restores what was optional."""

    async def main() -> None:
        with device(ADAPTER) as (kernel, path):
            _, serial, rs485, _, timer = kernel.state()
            async with await kernel.open(path, **fields_of(old)) as port:
                assert_device_is(kernel, old)
                for config in (new, last):
                    await port.configure(config)
                    assert port.config is config
                    assert_device_is(kernel, config)
            assert kernel.state()[1:3] == (serial, rs485)
            assert kernel.state()[4] == timer

    anyio.run(main)


def fields_of(config: SerialConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__}


@given(old=configs, new=configs, data=st.data())
def test_one_failing_call_changes_nothing(old: SerialConfig, new: SerialConfig, data: st.DataObject) -> None:
    """L-71, L-72, E32: whichever call fails, the configure is undone completely, or it did not need the call."""

    async def main() -> None:
        with device(ADAPTER) as (kernel, path):
            async with await kernel.open(path, **fields_of(old)) as port:
                kernel.calls.clear()
                await port.configure(new)
                calls = list(kernel.calls)
                await port.configure(old)
                before, config = kernel.state(), port.config
                step = data.draw(st.integers(1, len(calls)), label="step")
                codes = [errno.EIO, errno.EBUSY, errno.EPERM]
                if calls[step - 1] != "TCGETS2":
                    # There it says that the system does not have the call, and the simulated kernel has no other.
                    codes.append(errno.EINVAL)
                code = data.draw(st.sampled_from(codes), label="errno")
                kernel.calls.clear()
                kernel.fail_at = (step, code)
                outcome = Outcome()
                await outcome.record(lambda: port.configure(new))
                if outcome.error is None:
                    assert kernel.calls[step - 1] not in SETTERS
                    assert_device_is(kernel, new)
                else:
                    assert isinstance(outcome.error, SerialError)
                    assert not hasattr(outcome.error, "__notes__")
                    assert port.config is config
                    assert kernel.state() == before
                kernel.fail_at = None
                await port.configure(new)
                assert_device_is(kernel, new)

    anyio.run(main)


@settings(max_examples=50)
@given(old=configs, new=configs, policy=st.sampled_from(["raise", "warn", "ignore"]))
def test_a_refused_feature_follows_the_policy(old: SerialConfig, new: SerialConfig, policy: str) -> None:
    """L-71, L-129, L-131: with RAISE all is as before, otherwise all but the refused feature applies."""
    old = old.with_changes(rs485=None)
    new = new.with_changes(rs485=RS485Config(), unsupported_policy=policy)

    async def main() -> None:
        with device(ADAPTER) as (kernel, path), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            async with await kernel.open(path, **fields_of(old)) as port:
                before = kernel.state()
                kernel.refuse["TIOCSRS485"] = errno.ENOTTY
                if policy == "raise":
                    with pytest.raises(UnsupportedFeatureError):
                        await port.configure(new)
                    assert kernel.state() == before
                    assert_device_is(kernel, old)
                else:
                    await port.configure(new)
                    assert port.config is new
                    assert_device_is(kernel, new.with_changes(rs485=None))
                assert len(warned) == (policy == "warn")

    anyio.run(main)


async def test_a_failed_rollback_is_a_note_on_the_first_error(tmp_path: Path, ptys: PtyPair) -> None:
    """L-71: the error raised is the first one; each step that could not be put back is told, the others are done."""
    kernel = FakeKernel(ADAPTER, tmp_path)
    async with await kernel.open(ptys.path_a) as port:

        def fail(name: str) -> None:
            if name == "TIOCSRS485":
                kernel.refuse = {"TIOCSRS485": errno.EBUSY, "TCSETS2": errno.EPERM}

        kernel.notice = fail
        with pytest.raises(UnsupportedFeatureError, match="RS-485 was refused") as caught:
            await port.configure(SerialConfig(baudrate=9600, low_latency=True, rs485=RS485Config()))
        (note,) = caught.value.__notes__
        assert note.startswith(f"{ptys.path_a}: ")
        assert "Operation not permitted" in note
        assert kernel.rate == 9600
        assert not kernel.low_latency
        assert port.config.baudrate == 115_200


async def test_a_warning_that_is_an_error_is_rolled_back(tmp_path: Path, ptys: PtyPair) -> None:
    """L-71, L-72, L-129: an exception of any type undoes what came before it."""
    kernel = FakeKernel(UART_8250, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        before, config = kernel.state(), port.config
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match="RS-485"):
                await port.configure(
                    SerialConfig(baudrate=9600, low_latency=True, rs485=RS485Config(), unsupported_policy="warn")
                )
        assert kernel.state() == before
        assert port.config is config


async def test_notes_are_on_the_error_the_caller_sees(tmp_path: Path, ptys: PtyPair) -> None:
    """L-71, L-79: also when the first error is the system's own, translated on its way."""
    kernel = FakeKernel(ADAPTER, tmp_path)
    async with await kernel.open(ptys.path_a, rs485=RS485Config()) as port:
        kernel.refuse = dict.fromkeys(["TIOCSRS485", "TIOCSSERIAL"], errno.EBUSY)
        with pytest.raises(SerialError, match=ptys.path_a) as caught:
            await port.configure(SerialConfig())
        assert caught.value.errno == errno.EBUSY
        assert caught.value.__notes__
        assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"baudrate": 9600}, DTR | RTS),
        ({"flow_control": FlowControl(rts_cts=True)}, DTR),
        ({"rs485": RS485Config()}, DTR),
    ],
    ids=["rate", "RTS/CTS", "RS-485"],
)
async def test_a_reconfigure_keeps_the_lines(
    change: dict[str, object], moved: int, tmp_path: Path, ptys: PtyPair
) -> None:
    """L-78: a driver that raises them is corrected, except for an RTS that the config hands over to the driver."""
    kernel = FakeKernel(KEEPER, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        await port.set_control_lines(rts=False, dtr=False)
        kernel.raises_lines = True
        kernel.calls.clear()
        await port.configure(port.config.with_changes(**change))
        assert not kernel.modem & moved
        if moved == DTR | RTS:
            assert await port.control_lines() == ControlLines(rts=False, dtr=False)
    assert kernel.calls.count("TIOCMBIC") == 1


async def test_a_refused_reconfigure_keeps_the_lines(tmp_path: Path, ptys: PtyPair) -> None:
    """L-71, L-78: the way back moves them once more, so they are put back last."""
    kernel = FakeKernel(UART_8250, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        await port.set_control_lines(rts=False, dtr=True)
        kernel.raises_lines = True
        with pytest.raises(UnsupportedFeatureError):
            await port.configure(SerialConfig(baudrate=9600, rs485=RS485Config()))
        assert await port.control_lines() == ControlLines(rts=False, dtr=True)


async def test_lines_that_stayed_are_not_touched(tmp_path: Path, ptys: PtyPair) -> None:
    """L-78: a reconfigure that moves no line sets none."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        await port.configure(SerialConfig(baudrate=9600))
    assert {"TIOCMBIS", "TIOCMBIC"}.isdisjoint(kernel.calls)


async def test_what_acts_at_open_acts_only_there(tmp_path: Path, ptys: PtyPair) -> None:
    """L-75: a configure neither moves lines, nor locks, nor drops input."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port, await SerialPort.open(ptys.path_b) as peer:
        await peer.send(b"kept")
        kernel.calls.clear()
        await port.configure(SerialConfig(exclusive=True, dtr_on_open=False, rts_on_open=False, flush_on_open=True))
        assert SETTERS.intersection(kernel.calls) == {"TCSETS2"}
        assert await port.receive() == b"kept"
        assert port.config.exclusive is False


async def test_hang_up_at_close_is_live(tmp_path: Path, ptys: PtyPair) -> None:
    """L-75: the last config decides what the kernel does with the lines when the device is closed."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        assert kernel.cflag & termios.HUPCL
        await port.configure(SerialConfig(hangup_on_close=False))
    assert not kernel.cflag & termios.HUPCL


async def test_a_cancelled_configure_makes_no_call(tmp_path: Path, ptys: PtyPair) -> None:
    """L-73, L-72, E9: cancelled means not started."""
    kernel = FakeKernel(ADAPTER, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        kernel.calls.clear()
        await assert_raises_when_cancelled(lambda: port.configure(SerialConfig(baudrate=9600, low_latency=True)))
        assert kernel.calls == []


async def test_a_refused_configure_leaves_a_parked_reader_alone(tmp_path: Path, ptys: PtyPair) -> None:
    """L-74: there and back under a reader that waits."""
    kernel = FakeKernel(UART_8250, tmp_path)
    async with (
        await kernel.open(ptys.path_a) as port,
        await SerialPort.open(ptys.path_b) as peer,
        anyio.create_task_group() as tg,
    ):
        reader = await parked(port.receive, tg)
        with pytest.raises(UnsupportedFeatureError):
            await port.configure(SerialConfig(baudrate=9600, rs485=RS485Config()))
        assert not reader.done
        await peer.send(b"x")
        await reader.wait()
        assert reader.value == b"x"


async def test_configure_on_a_vanished_device_is_a_disconnect(tmp_path: Path, ptys: PtyPair) -> None:
    """L-125, L-79: a configure after the unplug is a disconnect, although nothing can be put back either."""
    kernel = FakeKernel(ADAPTER, tmp_path)
    async with await kernel.open(ptys.path_a, low_latency=True) as port:
        kernel.vanish()
        with pytest.raises(SerialDisconnectedError, match=ptys.path_a):
            await port.configure(SerialConfig(baudrate=9600))
        assert port.config.low_latency
