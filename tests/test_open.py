"""Opening a port: what it touches, what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import stat
import subprocess
import sys
import termios
import threading
from pathlib import Path

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import (
    Capability,
    ConfigurationError,
    FlowControl,
    PortNotFoundError,
    SerialConfig,
    SerialConnectable,
    SerialError,
    SerialPort,
    SerialStreamAttribute,
    UnsupportedFeatureError,
    UnsupportedSettingError,
    list_serial_ports,
    open_serial_port,
    sync,
)
from anyserial._backends.posix.linux import LinuxFacts
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import PtyPair, mock_pair

from .support import descriptors, leaked, queued, raw_fd, until

pytestmark = [pytest.mark.anyio, pytest.mark.posix("termios")]


async def test_an_open_port_has_its_path_and_config(ptys: PtyPair) -> None:
    """L-20, C3, C39: without a config the defaults apply; the path is kept as given."""
    async with await open_serial_port(ptys.path_a) as port:
        assert port.is_open
        assert port.path == ptys.path_a
        assert port.config == SerialConfig()
        assert port.port_info is None


async def test_the_config_given_is_the_config_of_the_port(ptys: PtyPair) -> None:
    """L-20, C12: `port.config` is the object that was passed."""
    config = SerialConfig(baudrate=57_600)
    async with await open_serial_port(ptys.path_a, config) as port:
        assert port.config is config


async def test_fields_and_a_config_object_open_alike(ptys: PtyPair) -> None:
    """L-21, C12: `SerialPort.open(path, field=...)` builds the config itself."""
    async with await SerialPort.open(ptys.path_a, baudrate=57_600, stop_bits=2) as port:
        assert port.config == SerialConfig(baudrate=57_600, stop_bits=2)
    async with await SerialPort.open(ptys.path_a, SerialConfig(baudrate=4800)) as port:
        assert port.config == SerialConfig(baudrate=4800)


async def test_config_and_fields_together_are_refused(ptys: PtyPair) -> None:
    """L-21: one or the other."""
    with pytest.raises(ValueError, match="config"):
        await SerialPort.open(ptys.path_a, SerialConfig(), baudrate=9600)


async def test_an_unknown_field_is_refused(ptys: PtyPair) -> None:
    """L-21, C13: a misspelt field is a `TypeError` that names it."""
    with pytest.raises(TypeError, match="baud_rate"):
        await SerialPort.open(ptys.path_a, baud_rate=9600)


@pytest.mark.parametrize(("field", "value"), [("baudrate", 0), ("parity", "X"), ("read_chunk_size", 1)])
async def test_bad_values_are_refused_before_the_device_is_touched(field: str, value: object) -> None:
    """L-13, L-15, L-30: the error names field and value, also when there is no such device."""
    with pytest.raises(ConfigurationError) as caught:
        await SerialPort.open("/dev/no-such-port", **{field: value})  # type: ignore[arg-type]
    assert field in str(caught.value)
    assert repr(value) in str(caught.value)


async def test_nothing_happens_before_the_open_is_awaited(ptys: PtyPair) -> None:
    """L-30: making the coroutine opens nothing."""
    before = descriptors()
    calls = [open_serial_port(ptys.path_a), SerialPort.open("/dev/no-such-port")]
    assert not leaked(before)
    for call in calls:
        call.close()


async def test_a_connectable_does_nothing_until_it_connects(ptys: PtyPair) -> None:
    """L-20, P-123: construction does no I/O, each `connect()` opens a new port with the config."""
    missing = SerialConnectable(path="/dev/no-such-port")
    assert missing.config == SerialConfig()
    with pytest.raises(PortNotFoundError):
        await missing.connect()
    connectable = SerialConnectable(path=ptys.path_a, config=SerialConfig(baudrate=9600))
    assert isinstance(connectable, anyio.abc.ByteStreamConnectable)
    async with await connectable.connect() as first, await connectable.connect() as second:
        assert first is not second
        assert first.config == second.config == SerialConfig(baudrate=9600)


async def test_a_port_needs_a_backend() -> None:
    """L-22: anything else is a `TypeError`."""
    with pytest.raises(TypeError, match=r"(?i)backend"):
        SerialPort("/dev/ttyUSB0", SerialConfig())  # type: ignore[arg-type]


async def test_the_descriptor_neither_blocks_nor_is_inherited(ptys: PtyPair) -> None:
    """L-31, L-108, E14: `O_RDWR`, `O_NONBLOCK` and close-on-exec."""
    async with await open_serial_port(ptys.path_a) as port:
        fd = port.extra(FileStreamAttribute.fileno)
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        assert flags & os.O_NONBLOCK
        assert flags & os.O_ACCMODE == os.O_RDWR
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


_CHILD = """
import grp, os, sys, anyio, anyserial

async def main():
    async with await anyserial.open_serial_port(sys.argv[1]):
        try:
            os.open("/dev/tty", os.O_RDWR)
        except OSError:
            print("no controlling terminal")

# Loads all that a loop needs, while this process may still read every folder of its Python.
anyio.run(anyio.to_thread.run_sync, int)
if "unprivileged" in sys.argv and os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    anyio.run(main)
except anyserial.SerialError as exc:
    print(type(exc).__name__, exc)
"""


def open_in_child(path: str, *options: str) -> str:
    """Open `path` in a session leader without a terminal, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, path, *options],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=15,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_port_does_not_become_the_controlling_terminal(ptys: PtyPair) -> None:
    """L-31: a session leader without a terminal stays without one (`O_NOCTTY`)."""
    assert open_in_child(ptys.path_a) == "no controlling terminal\n"


def test_a_denied_open_names_the_group_that_gives_access(ptys: PtyPair) -> None:
    """L-115, L-124, C46: the error names the path, the owning group and the command to join it."""
    node = os.path.realpath(ptys.path_a)
    os.chmod(node, 0)
    group = grp.getgrgid(os.stat(node).st_gid).gr_name
    said = open_in_child(node, "unprivileged")
    assert said.startswith("PortPermissionError")
    assert node in said
    assert f"'{group}'" in said
    assert f"usermod -aG {group}" in said


async def test_a_missing_device_is_not_found() -> None:
    """L-37, L-112, L-120: `PortNotFoundError` is a `FileNotFoundError` and carries errno and path."""
    before = descriptors()
    with pytest.raises(PortNotFoundError, match="/dev/no-such-port") as caught:
        await open_serial_port("/dev/no-such-port")
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "/dev/no-such-port"
    assert isinstance(caught.value.__cause__, OSError)
    assert not leaked(before)


async def test_a_path_through_a_file_is_a_serial_error() -> None:
    """L-119, L-121: an errno without a class of its own is exactly a `SerialError` that names the path."""
    with pytest.raises(SerialError, match="/dev/null/port") as caught:
        await open_serial_port("/dev/null/port")
    assert type(caught.value) is SerialError
    assert caught.value.errno == errno.ENOTDIR


async def test_a_dangling_link_is_a_missing_device(tmp_path: Path) -> None:
    """L-37: the error names the link that was given."""
    link = tmp_path / "port"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(PortNotFoundError, match=str(link)):
        await open_serial_port(str(link))


@pytest.mark.parametrize("kind", ["null device", "regular file", "directory"])
async def test_a_path_that_is_no_tty_is_refused(kind: str, tmp_path: Path) -> None:
    """L-36, L-33: `UnsupportedSettingError` says "not a serial device" and the path; no descriptor stays."""
    file = tmp_path / "file"
    file.write_bytes(b"untouched")
    path = {"null device": "/dev/null", "regular file": str(file), "directory": str(tmp_path)}[kind]
    before = descriptors()
    with pytest.raises(UnsupportedSettingError, match="not a serial device") as caught:
        await open_serial_port(path)
    assert path in str(caught.value)
    assert caught.value.filename == path
    assert not leaked(before)
    assert file.read_bytes() == b"untouched"


def dirty(fd: int) -> None:
    """Leave every kind of cooked setting behind, as a login shell or another program might."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(fd)
    iflag |= termios.ICRNL | termios.IXON | termios.IXANY | termios.ISTRIP | termios.INPCK | termios.PARMRK
    oflag |= termios.OPOST | termios.ONLCR
    lflag |= termios.ICANON | termios.ECHO | termios.ISIG
    cc[termios.VMIN], cc[termios.VTIME], cc[termios.VINTR] = b"\x07", b"\x09", b"\x7e"
    termios.tcsetattr(fd, termios.TCSANOW, [iflag, oflag, cflag | termios.CSTOPB, lflag, ispeed, ospeed, cc])


async def test_the_line_is_raw_after_any_previous_settings(ptys: PtyPair) -> None:
    """L-42, L-43, E44, E45: attributes are built from a defined state; unrelated control characters stay."""
    with raw_fd(ptys.path_a) as fd:
        dirty(fd)
        async with await open_serial_port(ptys.path_a):
            iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(fd)
    assert (iflag, oflag, lflag) == (0, 0, 0)
    assert cflag & termios.CSIZE == termios.CS8
    assert cflag & (termios.CREAD | termios.CLOCAL) == termios.CREAD | termios.CLOCAL
    assert cflag & termios.HUPCL
    assert not cflag & (termios.PARENB | termios.PARODD | termios.CSTOPB | termios.CRTSCTS)
    assert ispeed == ospeed == termios.B115200
    assert (cc[termios.VMIN], cc[termios.VTIME]) in [(1, 0), (b"\x01", b"\x00")]
    assert (cc[termios.VSTART], cc[termios.VSTOP]) == (b"\x11", b"\x13")
    assert cc[termios.VINTR] == b"\x7e"


async def test_each_setting_has_its_bits(ptys: PtyPair) -> None:
    """L-42: flow control, stop bits and hang-up show in the attributes; all flow controls combine."""
    flow = FlowControl(xon_xoff=True, rts_cts=True)
    config = SerialConfig(baudrate=9600, stop_bits=2, flow_control=flow, hangup_on_close=False)
    async with await open_serial_port(ptys.path_a, config) as port:
        iflag, _, cflag, _, _, ospeed, _ = termios.tcgetattr(port.extra(FileStreamAttribute.fileno))
    assert iflag == termios.IXON | termios.IXOFF
    assert cflag & termios.CRTSCTS
    assert cflag & termios.CSTOPB
    assert not cflag & termios.HUPCL
    assert ospeed == termios.B9600


@pytest.mark.parametrize("config", [{"parity": "even"}, {"byte_size": 7}, {"parity": "odd", "byte_size": 5}])
async def test_a_failed_open_restores_the_device(ptys: PtyPair, config: dict[str, object]) -> None:
    """L-33, L-46: a pty refuses sizes and parity; the error says so, and device and process are as before."""
    with raw_fd(ptys.path_a) as fd:
        dirty(fd)
        attributes, before = termios.tcgetattr(fd), descriptors()
        with pytest.raises(UnsupportedSettingError, match=ptys.path_a):
            await SerialPort.open(ptys.path_a, baudrate=4800, **config)  # type: ignore[arg-type]
        assert termios.tcgetattr(fd) == attributes
        assert not leaked(before)


async def test_lines_asked_for_at_open_follow_the_policy(ptys: PtyPair) -> None:
    """L-40, L-126: a device without control lines refuses, warns or stays silent, as the policy says."""
    before = descriptors()
    with pytest.raises(UnsupportedFeatureError, match=ptys.path_a):
        await SerialPort.open(ptys.path_a, dtr_on_open=True)
    assert not leaked(before)
    with pytest.warns(RuntimeWarning):
        port = await SerialPort.open(ptys.path_a, rts_on_open=False, unsupported_policy="warn")
    await port.aclose()
    async with await SerialPort.open(ptys.path_a, rts_on_open=False, unsupported_policy="ignore") as port:
        assert port.config.rts_on_open is False


@pytest.mark.parametrize("flush", [True, False])
async def test_old_input_is_dropped_only_on_request(ptys: PtyPair, flush: bool) -> None:
    """L-41: `flush_on_open` empties the queues; without it, what came before the open is received."""
    with raw_fd(ptys.path_a) as fd:
        async with await open_serial_port(ptys.path_b) as peer:
            await peer.send(b"early")
            await until(lambda: queued(fd) == 5)
            async with await SerialPort.open(ptys.path_a, flush_on_open=flush) as port:
                assert port.input_waiting() == (0 if flush else 5)


async def test_an_open_in_a_cancelled_scope_opens_nothing(ptys: PtyPair) -> None:
    """L-34, E8: open is a checkpoint; the cancelled caller leaves no descriptor behind."""
    before = descriptors()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await open_serial_port(ptys.path_a)
    assert scope.cancelled_caught
    await until(lambda: not leaked(before))


async def test_an_open_that_is_cut_short_leaks_nothing(ptys: PtyPair) -> None:
    """L-34, A11, E8, E23: wherever the deadline falls, the device is closed by whichever side is last."""
    before = descriptors()
    outcomes = set()
    for step in range(40):
        with anyio.move_on_after(step * 0.0001) as scope:
            async with await open_serial_port(ptys.path_a) as port:
                await port.receive()
        outcomes.add(scope.cancelled_caught)
        await until(lambda: not leaked(before))
    assert outcomes == {True}


async def test_several_opens_coexist(ptys: PtyPair) -> None:
    """L-39: without `exclusive` a device can be opened more than once."""
    async with await open_serial_port(ptys.path_a), await open_serial_port(ptys.path_a) as second:
        assert second.is_open


async def test_a_pseudo_terminal_is_recognised(ptys: PtyPair) -> None:
    """L-127: what a pty lacks is UNSUPPORTED; what it has is not."""
    async with await open_serial_port(ptys.path_a) as port:
        found = port.capabilities
    lacking = ["modem_lines", "mark_space_parity", "low_latency", "rs485", "break_signal"]
    assert {getattr(found, name) for name in lacking} == {Capability.UNSUPPORTED}
    assert found.input_waiting is Capability.SUPPORTED
    assert found.custom_baudrate is Capability.SUPPORTED
    assert found.backend == found.platform == "linux"


async def test_a_port_has_typed_attributes(ptys: PtyPair) -> None:
    """L-96: path, descriptor, capabilities and config are there; a pty has no port info."""
    async with await open_serial_port(ptys.path_a) as port:
        assert port.extra(FileStreamAttribute.path) == Path(ptys.path_a)
        assert stat.S_ISCHR(os.fstat(port.extra(FileStreamAttribute.fileno)).st_mode)
        assert port.extra(SerialStreamAttribute.capabilities) is port.capabilities
        assert port.extra(SerialStreamAttribute.config) is port.config
        with pytest.raises(anyio.TypedAttributeLookupError):
            port.extra(SerialStreamAttribute.port_info)
        assert port.extra(SerialStreamAttribute.port_info, None) is None
        assert set(port.extra_attributes) == {
            FileStreamAttribute.path,
            FileStreamAttribute.fileno,
            SerialStreamAttribute.capabilities,
            SerialStreamAttribute.config,
        }


@pytest.mark.parametrize("kind", ["pty", "mock"])
async def test_a_path_object_is_a_path(ptys: PtyPair, kind: str) -> None:
    """L-20: wherever a path is given; what the port says is text."""
    with mock_pair(path_a=Path("/dev/path-a"), path_b=Path("/dev/path-b")) as memory:
        given = Path(ptys.path_a if kind == "pty" else memory.path_a)
        for connect in (
            lambda: open_serial_port(given),
            lambda: SerialPort.open(given),
            SerialConnectable(path=given).connect,
        ):
            async with await connect() as port:
                assert port.path == str(given)
        with sync.open_serial_port(given) as port:
            assert port.path == str(given)


async def test_a_path_with_a_nul_is_not_found(anyio_backend: object) -> None:
    """L-37, L-121: not the `ValueError` of the system call."""
    with pytest.raises(PortNotFoundError, match="NUL"):
        await open_serial_port("/dev/tty\0USB0")


async def test_a_cancelled_open_brings_the_settings_back(ptys: PtyPair) -> None:
    """L-34, L-33: though the cancellation came when they had been applied, and the device is open elsewhere."""
    applied, may_end = threading.Event(), threading.Event()

    def lookup(_: str) -> None:
        applied.set()
        may_end.wait(10)

    with raw_fd(ptys.path_a) as other:
        before = termios.tcgetattr(other)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_tty, ptys.path_a, SerialConfig(baudrate=1200), LinuxFacts(), lookup)
            await until(applied.is_set)
            assert termios.tcgetattr(other) != before
            tasks.cancel_scope.cancel()
        may_end.set()
        await until(lambda: termios.tcgetattr(other) == before)


async def test_an_open_waits_for_one_that_was_given_up(ptys: PtyPair) -> None:
    """L-38, L-34: the retry after a timeout does not find the device busy with this process's own first try."""
    config = SerialConfig(exclusive=True)
    applied, may_end = threading.Event(), threading.Event()

    def lookup(_: str) -> None:
        applied.set()
        may_end.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_tty, ptys.path_a, config, LinuxFacts(), lookup)
        await until(applied.is_set)
        tasks.cancel_scope.cancel()
    for _ in range(3):
        # Given up as well: none of them may wait for itself, or for the others in a circle.
        with anyio.move_on_after(0.01):
            await open_serial_port(ptys.path_a, config)
    async with anyio.create_task_group() as tasks:

        async def retry() -> None:
            async with await open_serial_port(ptys.path_a, config):
                pass

        tasks.start_soon(retry)
        await anyio.sleep(0.02)
        may_end.set()


async def test_an_open_needs_none_of_the_programs_threads(ptys: PtyPair) -> None:
    """L-34: AnyIO has forty for all calls of a program, and they may all be busy."""
    release = threading.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(int(anyio.to_thread.current_default_thread_limiter().total_tokens)):
            tasks.start_soon(anyio.to_thread.run_sync, release.wait)
        try:
            await anyio.sleep(0.05)
            with anyio.fail_after(10):
                async with await open_serial_port(ptys.path_a):
                    pass
                await list_serial_ports()
        finally:
            release.set()
