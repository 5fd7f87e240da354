"""Opening a real driver's device: the order of the steps, what the probes find, the policy, and the way back."""

from __future__ import annotations

import errno
import fcntl
import linecache
import os
import sys
import termios
import threading
import warnings
from pathlib import Path

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import (
    Capability,
    FlowControl,
    PortBusyError,
    PortNotFoundError,
    RS485Config,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
    UnsupportedSettingError,
    open_serial_port,
    sync,
)
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import PtyPair

from .kernel import (
    CMSPAR,
    CP210X,
    FTDI,
    KEEPER,
    PL011,
    SETTERS,
    UART_8250,
    XR,
    Driver,
    FakeKernel,
)
from .support import descriptors, leaked, queued, raw_fd, until
from .unprivileged import run_unprivileged

pytestmark = [pytest.mark.anyio, pytest.mark.posix("Linux")]

S, N, U = Capability.SUPPORTED, Capability.UNSUPPORTED, Capability.UNKNOWN
NO_MARK = Driver(name="no-mark", drops=CMSPAR)
EVERYTHING = {"low_latency": True, "rs485": RS485Config(), "exclusive": True, "dtr_on_open": False, "rts_on_open": True}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


async def test_open_makes_its_steps_in_order(tmp_path: Path, ptys: PtyPair) -> None:
    """L-32, L-33, L-39: lock, exclusive flag, probes, baseline, line, low latency, RS-485, lines, flush, metadata."""
    kernel = FakeKernel(KEEPER, tmp_path)
    depths: dict[str, int] = {}
    locked = []
    with raw_fd(ptys.path_a) as fd, raw_fd(ptys.path_b) as peer:
        os.write(peer, b"early")
        await until(lambda: queued(fd) == 5)

        def watch(name: str) -> None:
            depths[name] = queued(fd)
            if name == "TIOCEXCL":
                with pytest.raises(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked.append(name)

        kernel.notice = watch
        config = SerialConfig(**EVERYTHING, flush_on_open=True)
        backend = await open_tty(ptys.path_a, config, kernel.facts, lambda _: kernel.notice("lookup"))
    assert locked
    assert depths.pop("lookup") == 0
    assert set(depths.values()) == {5}
    first_seen = list(dict.fromkeys(kernel.calls))
    assert first_seen == [
        "TIOCEXCL",
        *("TIOCMGET", "TIOCGSERIAL", "TIOCGRS485"),
        "TIOCGICOUNT",
        *("TCGETS2", "TCSETS2"),
        "TIOCSSERIAL",
        "TIOCSRS485",
        *("TIOCMBIS", "TIOCMBIC"),
    ]
    backend.close()


async def test_a_failure_at_any_step_puts_everything_back(tmp_path: Path, ptys: PtyPair) -> None:
    """L-33: one call after the other fails; the open fails without a trace, or did not need that call."""
    kernel = FakeKernel(KEEPER, tmp_path)
    await (await kernel.open(ptys.path_a, **EVERYTHING)).aclose()
    outcomes = {}
    for step, name in enumerate(kernel.calls[: kernel.calls.index("TIOCNXCL")], start=1):
        kernel = FakeKernel(KEEPER, tmp_path / str(step))
        before, open_before = kernel.state(), descriptors()
        kernel.fail_at = (step, errno.EIO)
        try:
            port = await kernel.open(ptys.path_a, **EVERYTHING)
        except SerialDisconnectedError:
            assert kernel.state() == before, f"{step}: {name}"
            assert not leaked(open_before), f"{step}: {name}"
            assert kernel.calls.count("TIOCNXCL") == kernel.calls.count("TIOCEXCL")
            outcomes[step] = name
        else:
            await port.aclose()
    assert {"TCGETS2", "TCSETS2", "TIOCSSERIAL", "TIOCSRS485", "TIOCMBIS", "TIOCMBIC"} <= set(outcomes.values())


async def test_an_error_of_any_type_puts_everything_back(tmp_path: Path, ptys: PtyPair) -> None:
    """L-33: also one that nobody foresaw, in the last step."""
    kernel = FakeKernel(KEEPER, tmp_path)
    before, open_before = kernel.state(), descriptors()

    def fail(name: str) -> None:
        if name == "TIOCMBIC":
            kernel.notice = lambda _: None
            raise KeyError(name)

    kernel.notice = fail
    with pytest.raises(KeyError):
        await kernel.open(ptys.path_a, **EVERYTHING)
    assert kernel.state() == before
    assert not leaked(open_before)


async def test_a_warning_that_is_an_error_puts_everything_back(tmp_path: Path, ptys: PtyPair) -> None:
    """L-33, L-129: the warning is raised after the last step, and still nothing stays changed."""
    kernel = FakeKernel(KEEPER, tmp_path)
    kernel.refuse["TIOCSSERIAL"] = errno.EPERM
    before, open_before = kernel.state(), descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="low latency"):
            await kernel.open(ptys.path_a, **EVERYTHING, unsupported_policy="warn")
    assert kernel.state() == before
    assert not leaked(open_before)
    with raw_fd(ptys.path_a) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_failed_rollback_is_reported(tmp_path: Path, ptys: PtyPair) -> None:
    """L-33, L-71: the first error is raised; what could not be put back is a note on it."""
    kernel = FakeKernel(KEEPER, tmp_path)

    def fail(name: str) -> None:
        if name == "TIOCSRS485":
            kernel.refuse = {"TIOCSRS485": errno.ENOTTY, "TCSETS2": errno.EBUSY}

    kernel.notice = fail
    with pytest.raises(UnsupportedFeatureError, match="RS-485 was refused") as caught:
        await kernel.open(ptys.path_a, rs485=RS485Config())
    (note,) = caught.value.__notes__
    assert ptys.path_a in note
    assert os.strerror(errno.EBUSY) in note


@pytest.mark.parametrize(
    ("driver", "low_latency", "rs485"),
    [(UART_8250, S, U), (FTDI, S, N), (CP210X, U, N), (XR, U, U), (PL011, S, U)],
    ids=lambda value: value.name if isinstance(value, Driver) else "",
)
async def test_probes_tell_low_latency_and_rs485(
    driver: Driver, low_latency: Capability, rs485: Capability, tmp_path: Path, ptys: PtyPair
) -> None:
    """L-126: low latency is certain on FTDI and off USB; an answered RS-485 getter promises nothing."""
    kernel = FakeKernel(driver, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        found = port.capabilities
    assert (found.low_latency, found.rs485, found.modem_lines) == (low_latency, rs485, S)
    assert (found.custom_baudrate, found.mark_space_parity, found.break_signal) == (S, S, S)
    assert (found.dtr_dsr, found.one_point_five_stop_bits) == (N, N)


async def test_probes_change_nothing(tmp_path: Path, ptys: PtyPair) -> None:
    """L-126: an open without optional features writes the line attributes and nothing else."""
    kernel = FakeKernel(KEEPER, tmp_path)
    async with await kernel.open(ptys.path_a):
        pass
    assert SETTERS.intersection(kernel.calls) == {"TCSETS2"}


@pytest.mark.parametrize(("code", "found"), [(errno.ENOTTY, N), (errno.EINVAL, N), (errno.EPERM, U), (errno.EIO, U)])
async def test_a_failed_probe_does_not_fail_the_open(
    code: int, found: Capability, tmp_path: Path, ptys: PtyPair
) -> None:
    """L-126, L-127: "no such call" means unsupported, any other trouble proves nothing; the open succeeds."""
    kernel = FakeKernel(KEEPER, tmp_path)
    kernel.refuse = dict.fromkeys(["TIOCMGET", "TIOCGSERIAL", "TIOCGRS485", "TIOCGICOUNT"], code)
    async with await kernel.open(ptys.path_a) as port:
        kernel.refuse.clear()
        assert [port.capabilities.modem_lines, port.capabilities.low_latency, port.capabilities.rs485] == [found] * 3


async def test_capabilities_are_a_snapshot(tmp_path: Path, ptys: PtyPair) -> None:
    """L-128: neither a configure nor a close changes them."""
    kernel = FakeKernel(FTDI, tmp_path)
    port = await kernel.open(ptys.path_a)
    found = port.capabilities
    kernel.refuse["TIOCMGET"] = errno.ENOTTY
    await port.configure(SerialConfig(baudrate=9600))
    await port.aclose()
    assert port.capabilities is found
    assert found.modem_lines is S


@pytest.mark.parametrize(("dtr", "rts"), [(None, None), (True, False), (False, True), (False, False), (None, False)])
async def test_lines_are_set_at_open_after_the_line_settings(
    dtr: bool | None, rts: bool | None, tmp_path: Path, ptys: PtyPair
) -> None:
    """L-40: `None` leaves the line as the kernel raised it; a level is set, after the line settings."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a, dtr_on_open=dtr, rts_on_open=rts) as port:
        lines = await port.control_lines()
    assert (lines.dtr, lines.rts) == (dtr is not False, rts is not False)
    if dtr is rts is None:
        assert {"TIOCMBIS", "TIOCMBIC"}.isdisjoint(kernel.calls)


# Each optional feature: how to ask for it, a driver that lacks or refuses it, the words, the errno of the refusal.
OPTIONAL = {
    "rs485 missing": ({"rs485": RS485Config()}, CP210X, "RS-485 is not supported", None),
    "rs485 refused": ({"rs485": RS485Config()}, UART_8250, "RS-485 was refused", errno.ENOTTY),
    "low latency": ({"low_latency": True}, FTDI, "low latency was refused", errno.EBUSY),
    "DTR/DSR": ({"flow_control": FlowControl(dtr_dsr=True)}, FTDI, "DTR/DSR flow control is not supported", None),
    "mark": ({"parity": "mark"}, NO_MARK, "mark/space parity was refused", errno.EINVAL),
    "space": ({"parity": "space"}, NO_MARK, "mark/space parity was refused", errno.EINVAL),
    "1.5 stop bits": ({"stop_bits": 1.5}, FTDI, "1.5 stop bits is not supported", None),
}


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("moment", ["open", "configure"])
async def test_a_missing_feature_raises(name: str, moment: str, tmp_path: Path, ptys: PtyPair) -> None:
    """L-129, L-33, L-71: by default an `UnsupportedFeatureError` says what, where and what to do; nothing changes."""
    fields, driver, words, code = OPTIONAL[name]
    kernel = FakeKernel(driver, tmp_path)
    kernel.refuse["TIOCSSERIAL"] = errno.EBUSY
    opened = descriptors()
    if moment == "open":
        before = kernel.state()
        with pytest.raises(UnsupportedFeatureError, match=words) as caught:
            await kernel.open(ptys.path_a, baudrate=4800, **fields)
        assert not leaked(opened)
        assert kernel.state() == before
    else:
        async with await kernel.open(ptys.path_a) as port:
            before, config = kernel.state(), port.config
            with pytest.raises(UnsupportedFeatureError, match=words) as caught:
                await port.configure(SerialConfig(baudrate=4800, **fields))
            assert port.config is config
            assert kernel.state() == before
    error = caught.value
    assert (error.errno, error.filename) == (code, ptys.path_a)
    assert str(error).startswith(f"{ptys.path_a}: ")
    assert "unsupported_policy" in str(error)


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("policy", ["warn", "ignore"])
async def test_a_missing_feature_is_left_out(name: str, policy: str, tmp_path: Path, ptys: PtyPair) -> None:
    """L-129, L-131, L-72: one warning or none, at open and at configure; the rest applies; `config` is as asked."""
    fields, driver, words, _ = OPTIONAL[name]
    kernel = FakeKernel(driver, tmp_path)
    kernel.refuse["TIOCSSERIAL"] = errno.EBUSY
    config = SerialConfig(baudrate=4800, unsupported_policy=policy, **fields)  # type: ignore[arg-type]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        port = SerialPort(await open_tty(ptys.path_a, config, kernel.facts), config)
        opened_with = [str(warning.message) for warning in warned]
        await port.configure(config.with_changes(baudrate=9600))
        configured_with = [str(warning.message) for warning in warned[len(opened_with) :]]
    assert opened_with == configured_with
    assert len(opened_with) == (1 if policy == "warn" else 0)
    assert all(words in text and text.startswith(f"{ptys.path_a}: ") for text in opened_with)
    assert {field: getattr(port.config, field) for field in fields} == {
        field: getattr(config, field) for field in fields
    }
    assert kernel.rate == 9600
    # Left out means: no parity, one stop bit, no hardware flow control, low latency off, RS-485 as it was.
    assert kernel.cflag == termios.CREAD | termios.CLOCAL | termios.CS8 | termios.HUPCL
    assert not kernel.low_latency
    kernel.calls.clear()
    await port.aclose()
    assert {"TIOCSSERIAL", "TIOCSRS485"}.isdisjoint(kernel.calls)


async def test_refused_control_lines_follow_the_policy(tmp_path: Path, ptys: PtyPair) -> None:
    """L-40, L-129: lines asked for at open follow the policy too, with the errno of the refusal."""
    kernel = FakeKernel(FTDI, tmp_path)
    kernel.refuse["TIOCMBIC"] = errno.EINVAL
    before = kernel.state()
    with pytest.raises(UnsupportedFeatureError, match="setting DTR or RTS at open was refused") as caught:
        await kernel.open(ptys.path_a, dtr_on_open=False)
    assert caught.value.errno == errno.EINVAL
    assert kernel.state() == before
    with pytest.warns(RuntimeWarning, match="setting DTR or RTS"):
        port = await kernel.open(ptys.path_a, dtr_on_open=False, unsupported_policy="warn")
    await port.configure(port.config.with_changes(baudrate=9600))
    await port.aclose()


async def test_a_device_that_vanishes_is_no_missing_feature(tmp_path: Path, ptys: PtyPair) -> None:
    """L-125, L-129: unplugged in the middle of an open or a configure is a disconnect under any policy."""
    kernel = FakeKernel(KEEPER, tmp_path)
    port = await kernel.open(ptys.path_a)

    def unplug(name: str) -> None:
        if name == "TIOCSSERIAL":
            kernel.vanish()

    kernel.notice = unplug
    config = SerialConfig(low_latency=True, unsupported_policy="ignore")
    with pytest.raises(SerialDisconnectedError, match=ptys.path_a):
        await port.configure(config)
    kernel.refuse.clear()
    with pytest.raises(SerialDisconnectedError, match=ptys.path_a):
        await open_tty(ptys.path_a, config, kernel.facts)
    await port.aclose()


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"flow_control": FlowControl(dtr_dsr=True), "stop_bits": 1.5}, "DTR/DSR"),
        ({"stop_bits": 1.5, "parity": "mark"}, "1.5 stop bits"),
    ],
)
async def test_what_linux_never_has_is_judged_before_the_device(fields: dict[str, object], first: str) -> None:
    """L-130, L-32: the first missing feature is reported although there is no device, in a fixed order."""
    with pytest.raises(UnsupportedFeatureError, match=first):
        await SerialPort.open("/dev/no-such-port", **fields)  # type: ignore[arg-type]
    with pytest.raises(PortNotFoundError):
        await SerialPort.open("/dev/no-such-port", unsupported_policy="ignore", **fields)  # type: ignore[arg-type]


async def test_each_missing_feature_is_reported_in_order(ptys: PtyPair) -> None:
    """L-130, L-127: a pty lacks all of them; WARN names each, RAISE the first."""
    everything = {
        "parity": "mark",
        "stop_bits": 1.5,
        "flow_control": FlowControl(dtr_dsr=True),
        "low_latency": True,
        "rs485": RS485Config(),
        "dtr_on_open": True,
    }
    with pytest.warns(RuntimeWarning) as warned:
        port = await SerialPort.open(ptys.path_a, unsupported_policy="warn", **everything)  # type: ignore[arg-type]
    await port.aclose()
    texts = [str(warning.message) for warning in warned]
    assert len(texts) == 6
    order = ["DTR/DSR", "1.5 stop bits", "RS-485", "low latency", "mark/space", "setting DTR or RTS"]
    assert all(words in text for words, text in zip(order, texts, strict=True))


@pytest.mark.parametrize(
    ("driver", "fields"),
    [
        (Driver(name="8-only", drops=termios.CSIZE), {"byte_size": 7}),
        (Driver(name="no-parity", drops=termios.PARENB | termios.PARODD), {"parity": "odd"}),
        (Driver(name="no-parity", drops=termios.PARENB | termios.PARODD), {"parity": "even"}),
        (Driver(name="one-stop", drops=termios.CSTOPB), {"stop_bits": 2}),
        (Driver(name="no-flow", drops=termios.CRTSCTS), {"flow_control": FlowControl(rts_cts=True)}),
        (Driver(name="8-only", drops=termios.CSIZE), {"byte_size": 7, "parity": "mark"}),
        (Driver(name="slow", rate=lambda rate: 9600), {"baudrate": 19_200}),
    ],
    ids=lambda value: value.name if isinstance(value, Driver) else "",
)
async def test_what_is_not_optional_raises_under_any_policy(
    driver: Driver, fields: dict[str, object], tmp_path: Path, ptys: PtyPair
) -> None:
    """L-132, L-46: size, parity, stop bits, flow control, rate; the driver's silence is found by reading back."""
    kernel = FakeKernel(driver, tmp_path)
    before = kernel.state()
    with pytest.raises(UnsupportedConfigurationError, match=ptys.path_a):
        await kernel.open(ptys.path_a, unsupported_policy="ignore", **fields)
    assert kernel.state() == before


async def test_a_size_that_is_refused_is_not_blamed_on_mark_parity(tmp_path: Path, ptys: PtyPair) -> None:
    """L-46, L-129: the error names what the driver did not take."""
    kernel = FakeKernel(Driver(name="8-only", drops=termios.CSIZE), tmp_path)
    with pytest.raises(UnsupportedSettingError, match="byte size"):
        await kernel.open(ptys.path_a, byte_size=7, parity="mark")


@pytest.mark.parametrize(
    ("driver", "asked", "actual"),
    [(FTDI, 123_456, 123_456), (CP210X, 123_456, 123_711), (FTDI, 115_200, 115_200), (KEEPER, 1, 1)],
)
async def test_a_rate_within_three_percent_is_accepted(
    driver: Driver, asked: int, actual: int, tmp_path: Path, ptys: PtyPair
) -> None:
    """L-44, L-179: drivers round custom rates; up to 3 % are accepted."""
    kernel = FakeKernel(driver, tmp_path)
    async with await kernel.open(ptys.path_a, baudrate=asked) as port:
        assert kernel.rate == actual
        assert port.config.baudrate == asked


async def test_a_rate_that_the_driver_replaces_is_refused(tmp_path: Path, ptys: PtyPair) -> None:
    """L-44: a 16550 falls back to 9600; the error names both rates, at open and at configure, and all is put back."""
    kernel = FakeKernel(UART_8250, tmp_path)
    before = kernel.state()
    with pytest.raises(UnsupportedConfigurationError, match=r"1000000.*9600") as caught:
        await kernel.open(ptys.path_a, baudrate=1_000_000)
    assert type(caught.value) is UnsupportedConfigurationError
    assert kernel.state() == before
    async with await kernel.open(ptys.path_a, baudrate=57_600) as port:
        with pytest.raises(UnsupportedConfigurationError):
            await port.configure(SerialConfig(baudrate=230_400, stop_bits=2))
        assert kernel.rate == port.config.baudrate == 57_600


@pytest.mark.parametrize("deviation", [2.9, 3.1])
async def test_the_limit_is_three_percent(deviation: float, tmp_path: Path, ptys: PtyPair) -> None:
    """L-44: below it is a rounding, above it a refusal."""
    kernel = FakeKernel(Driver(name="off", rate=lambda rate: round(rate * (1 - deviation / 100))), tmp_path)
    if deviation > 3:
        with pytest.raises(UnsupportedConfigurationError):
            await kernel.open(ptys.path_a)
    else:
        await (await kernel.open(ptys.path_a)).aclose()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTTY])
async def test_a_rate_that_the_driver_refuses_raises(code: int, tmp_path: Path, ptys: PtyPair) -> None:
    """L-45, L-116, L-132: an errno instead of a rounding; the policy does not soften it."""
    kernel = FakeKernel(FTDI, tmp_path)
    kernel.refuse["TCSETS2"] = code
    with pytest.raises(UnsupportedSettingError, match=ptys.path_a) as caught:
        await kernel.open(ptys.path_a, baudrate=123_456, unsupported_policy="ignore")
    assert caught.value.errno == code
    assert isinstance(caught.value.__cause__, OSError)


def blamed_lines(warned: pytest.WarningsRecorder) -> list[str]:
    """The lines of this file that the warnings point at."""
    assert {warning.filename for warning in warned} == {__file__}
    return [linecache.getline(warning.filename, warning.lineno).strip() for warning in warned]


async def test_the_warning_at_open_points_at_the_caller(ptys: PtyPair) -> None:
    """L-129: at the line that awaits the open, however many of our frames lie between."""
    config = SerialConfig(low_latency=True, unsupported_policy="warn")
    with pytest.warns(RuntimeWarning, match="low latency") as warned:
        port = await SerialPort.open(ptys.path_a, config)
    assert blamed_lines(warned) == ["port = await SerialPort.open(ptys.path_a, config)"]
    await port.aclose()
    with pytest.warns(RuntimeWarning, match="low latency") as warned:
        port = await open_serial_port(ptys.path_a, config)
    assert blamed_lines(warned) == ["port = await open_serial_port(ptys.path_a, config)"]
    await port.aclose()


async def test_the_warning_at_configure_points_at_the_caller(ptys: PtyPair) -> None:
    """L-129: likewise."""
    config = SerialConfig(low_latency=True, unsupported_policy="warn")
    async with await SerialPort.open(ptys.path_a) as port:
        with pytest.warns(RuntimeWarning, match="low latency") as warned:
            await port.configure(config)
    assert blamed_lines(warned) == ["await port.configure(config)"]


def test_the_warning_of_a_blocking_port_points_at_the_caller(ptys: PtyPair) -> None:
    """L-129: although the work is done on the portal's thread."""
    config = SerialConfig(low_latency=True, unsupported_policy="warn")
    with pytest.warns(RuntimeWarning, match="low latency") as warned:
        port = sync.open_serial_port(ptys.path_a, config)
    assert blamed_lines(warned) == ["port = sync.open_serial_port(ptys.path_a, config)"]
    with pytest.warns(RuntimeWarning, match="low latency") as warned:
        port.configure(config)
    assert blamed_lines(warned) == ["port.configure(config)"]
    port.close()


async def test_a_second_exclusive_open_is_busy(ptys: PtyPair) -> None:
    """L-38, L-113, L-132: the lock holds also against root, against this process and under any policy."""
    text = "another port of this process holds the exclusive lock"
    before = descriptors()
    async with await SerialPort.open(ptys.path_a, exclusive=True):
        held = descriptors()
        with pytest.raises(PortBusyError, match=text) as caught:
            await SerialPort.open(ptys.path_a, exclusive=True, unsupported_policy="ignore")
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, ptys.path_a)
        assert not leaked(held)
    async with await SerialPort.open(ptys.path_a, exclusive=True):
        pass
    assert not leaked(before)


async def test_a_lock_taken_by_another_program_is_respected(ptys: PtyPair) -> None:
    """L-38, L-39: anybody's `flock` counts, and an open that does not ask is not refused by it."""
    with raw_fd(ptys.path_a) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(PortBusyError, match="another process or library holds the exclusive lock"):
            await SerialPort.open(ptys.path_a, exclusive=True)
        async with await SerialPort.open(ptys.path_a) as port:
            assert port.is_open


async def test_a_lock_of_a_closed_port_is_not_blamed(ptys: PtyPair) -> None:
    """L-38: after the close of this process's port the lock that is in the way is a stranger's."""
    async with await SerialPort.open(ptys.path_a, exclusive=True):
        pass
    with raw_fd(ptys.path_a) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(PortBusyError, match="another process or library"):
            await SerialPort.open(ptys.path_a, exclusive=True)


async def test_a_child_does_not_take_the_lock_for_its_own(ptys: PtyPair) -> None:
    """L-38: the port that is in the way belongs to the parent."""
    code = """
import os, sys
from anyserial import PortBusyError, sync

port = sync.SerialPort.open(sys.argv[1], exclusive=True)
pid = os.fork()
if pid == 0:
    try:
        sync.SerialPort.open(sys.argv[1], exclusive=True)
    except PortBusyError as exc:
        print(exc, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
port.close()
"""
    with anyio.fail_after(30):
        done = await anyio.run_process([sys.executable, "-c", code, ptys.path_a])
    assert b"another process or library holds the exclusive lock" in done.stdout


_OPEN = """
async def main():
    for exclusive in (False, True):
        try:
            async with await anyserial.open_serial_port(path, anyserial.SerialConfig(exclusive=exclusive)):
                print("open")
        except anyserial.SerialError as exc:
            print(type(exc).__name__, errno.errorcode[exc.errno])

anyio.run(main)
"""


async def test_others_are_refused_while_a_port_is_exclusive(ptys: PtyPair) -> None:
    """L-39, L-114: whether they ask for it or not, unless they are privileged; after the close they are not."""

    async def outsider() -> list[str]:
        return (await anyio.to_thread.run_sync(run_unprivileged, _OPEN, ptys.path_a)).splitlines()

    assert await outsider() == ["open", "open"]
    async with await SerialPort.open(ptys.path_a, exclusive=True):
        assert await outsider() == ["PortBusyError EBUSY"] * 2
    async with await SerialPort.open(ptys.path_a):
        assert await outsider() == ["open", "open"]


async def test_a_driver_without_the_exclusive_flag_uses_the_lock(tmp_path: Path, ptys: PtyPair) -> None:
    """L-39: the lock alone stands, and a flag that was not set is not taken back."""
    kernel = FakeKernel(FTDI, tmp_path)
    kernel.refuse["TIOCEXCL"] = errno.ENOTTY
    async with await kernel.open(ptys.path_a, exclusive=True):
        with pytest.raises(PortBusyError):
            await SerialPort.open(ptys.path_a, exclusive=True)
    assert "TIOCNXCL" not in kernel.calls
    async with await SerialPort.open(ptys.path_a, exclusive=True):
        pass


async def test_a_port_that_is_not_exclusive_leaves_the_flag_alone(tmp_path: Path, ptys: PtyPair) -> None:
    """L-39: neither set nor cleared."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a):
        pass
    assert {"TIOCEXCL", "TIOCNXCL"}.isdisjoint(kernel.calls)


async def test_the_lock_ends_with_the_port(tmp_path: Path, ptys: PtyPair) -> None:
    """L-39, L-69: also while a thread left behind by an exact drain still holds a duplicate of the descriptor."""
    kernel = FakeKernel(XR, tmp_path)
    release = threading.Event()
    kernel.facts.blocking_drain = lambda fd: release.wait(10) and None
    try:
        async with await kernel.open(ptys.path_a, exclusive=True) as port:
            with anyio.move_on_after(0.02):
                await port.drain_exact()
        async with await SerialPort.open(ptys.path_a, exclusive=True):
            pass
    finally:
        release.set()


def test_an_exclusive_port_reopens_while_its_output_leaves(ptys: PtyPair) -> None:
    """L-95, L-39: the open waits for the helper that still holds the flag, also in a process that is not root."""
    said = run_unprivileged(
        """
import threading

async def main():
    kernel = FakeKernel(FTDI, folder)
    port = await kernel.open(path, exclusive=True)
    kernel.queue = 5
    await port.aclose()
    threading.Timer(0.1, setattr, (kernel, "queue", 0)).start()
    async with await kernel.open(path, exclusive=True):
        print("open")

anyio.run(main)
""",
        ptys.path_a,
    )
    assert said == "open\n"


async def test_the_descriptor_is_that_of_the_tty(tmp_path: Path, ptys: PtyPair) -> None:
    """L-26: bytes really go over the pty while the control plane is played."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port, await SerialPort.open(ptys.path_b) as peer:
        assert os.ttyname(port.extra(FileStreamAttribute.fileno)) == os.path.realpath(ptys.path_a)
        await port.send(b"ping")
        assert await peer.receive() == b"ping"
