"""What the library says to the log: events at DEBUG, under seven names, and never a byte of payload."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyserial import (
    RS485Config,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    UnsupportedFeatureError,
    list_serial_ports,
    sync,
)
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import PtyPair

from .kernel import KEEPER, XR, FakeKernel
from .support import faulty_pair

pytestmark = [pytest.mark.anyio, pytest.mark.posix("the log of a tty")]

LOGGERS = {"anyserial", *(f"anyserial.{part}" for part in ("open", "config", "io", "close", "discovery", "sync"))}
SECRET = b"payload-\xde\xad\xbe\xef"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here is the same on every event loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def everything_is_captured(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="anyserial")


def said(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    """The messages of one logger, each of which must be at DEBUG, under a name of the list."""
    assert {record.name for record in caplog.records if record.name.startswith("anyserial")} <= LOGGERS
    ours = [record for record in caplog.records if record.name.startswith("anyserial")]
    assert {record.levelno for record in ours} <= {logging.DEBUG}
    return [record.getMessage() for record in ours if record.name == logger]


async def test_open_settings_and_close_are_logged(ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-176: open, settings applied and close, each with the path."""
    async with await SerialPort.open(ptys.path_a, baudrate=9600) as port:
        await port.configure(SerialConfig(baudrate=19_200))
    assert said(caplog, "anyserial.open") == [f"{ptys.path_a}: open at 9600 baud"]
    applied = said(caplog, "anyserial.config")
    assert all(f"baudrate={rate}" in text for rate, text in zip((9600, 19_200), applied, strict=True))
    assert said(caplog, "anyserial.close") == [f"{ptys.path_a}: closed"]


async def test_a_left_out_feature_is_logged(tmp_path: Path, ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-176, L-131: under IGNORE the log is the only place that says what was left out."""
    kernel = FakeKernel(KEEPER, tmp_path)
    kernel.refuse["TIOCSSERIAL"] = errno.EPERM
    async with await kernel.open(ptys.path_a, low_latency=True, unsupported_policy="ignore"):
        pass
    assert any("without low latency" in text for text in said(caplog, "anyserial.config"))


async def test_a_rollback_is_logged_with_its_reason(
    tmp_path: Path, ptys: PtyPair, caplog: pytest.LogCaptureFixture
) -> None:
    """L-176: with its reason."""
    kernel = FakeKernel(KEEPER, tmp_path)
    kernel.refuse["TIOCSRS485"] = errno.ENOTTY
    async with await kernel.open(ptys.path_a) as port:
        with pytest.raises(UnsupportedFeatureError):
            await port.configure(SerialConfig(rs485=RS485Config()))
    assert any("rolling back after" in text and "RS-485" in text for text in said(caplog, "anyserial.config"))


async def test_an_adjusted_struct_is_logged(tmp_path: Path, ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-180, L-176: under IGNORE what the driver made different is in the log."""
    kernel = FakeKernel(XR, tmp_path)
    wanted = RS485Config(delay_before_send=0.01)
    async with await kernel.open(ptys.path_a, rs485=wanted, unsupported_policy="ignore"):
        pass
    assert any("delay_before_send is 0 ms" in text for text in said(caplog, "anyserial.config"))


async def test_a_disconnect_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """L-176: however many calls find the device gone."""
    async with faulty_pair() as (port, _, backend):
        backend.faults.disconnected = True
        for _ in range(3):
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
        (text,) = said(caplog, "anyserial.io")
        assert text.startswith(f"{port.path}: disconnected")


async def test_suppressed_errors_of_a_close_are_logged(
    tmp_path: Path, ptys: PtyPair, caplog: pytest.LogCaptureFixture
) -> None:
    """L-176, L-93: each is told, with the path."""
    kernel = FakeKernel(KEEPER, tmp_path)
    port = await kernel.open(ptys.path_a, low_latency=True, rs485=RS485Config(), exclusive=True)
    kernel.vanish()
    await port.aclose()
    texts = said(caplog, "anyserial.close")
    assert len(texts) == 4
    assert all(text.startswith(f"{ptys.path_a}: ") for text in texts)
    assert sum("Input/output error" in text for text in texts) == 3


async def test_output_lost_with_the_device_is_logged(
    tmp_path: Path, ptys: PtyPair, caplog: pytest.LogCaptureFixture
) -> None:
    """L-176, L-95: the helper that waited for it says so."""
    kernel = FakeKernel(KEEPER, tmp_path)
    port = await kernel.open(ptys.path_a)
    kernel.queue = 5
    await port.aclose()
    kernel.vanish()
    async with await SerialPort.open(ptys.path_a):
        pass
    assert any("output is lost" in text for text in said(caplog, "anyserial.close"))


async def test_discovery(caplog: pytest.LogCaptureFixture) -> None:
    """L-176: how many ports were found, and by which means."""
    count = len(await list_serial_ports())
    assert said(caplog, "anyserial.discovery") == [f"native: {count} ports"]


async def test_a_failed_metadata_lookup_is_logged(
    tmp_path: Path, ptys: PtyPair, caplog: pytest.LogCaptureFixture
) -> None:
    """L-35, L-176: whatever the lookup raises is in the log, and the port opens without."""
    kernel = FakeKernel(KEEPER, tmp_path)

    def lookup(path: str) -> None:
        raise RuntimeError(path)

    backend = await open_tty(ptys.path_a, SerialConfig(), kernel.facts, lookup)
    assert backend.port_info is None
    backend.close()
    assert any("RuntimeError" in text for text in said(caplog, "anyserial.open"))


def test_use_of_the_portal_is_logged(ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-176: who shares the portal's thread, and until when."""
    with sync.open_serial_port(ptys.path_a):
        pass
    assert [text.partition(",")[0] for text in said(caplog, "anyserial.sync")] == ["portal taken", "portal given back"]


async def test_payload_is_never_logged(ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-177: in no spelling, on no path that moves bytes or fails to."""
    async with await SerialPort.open(ptys.path_a) as port, await SerialPort.open(ptys.path_b) as peer:
        await port.send(SECRET)
        await port.send_buffer(SECRET)
        await peer.receive_available()
        await port.drain_exact()
        ptys.unplug()
        with pytest.raises(SerialDisconnectedError):
            while True:
                await port.send(SECRET)
    assert_no_payload(caplog, ptys)


def test_blocking_ports_log_no_payload(ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-177: nor does a call that ran out of time."""
    with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
        port.send(SECRET)
        assert peer.receive_available()
        with pytest.raises(TimeoutError):
            peer.receive(timeout=0)
        with pytest.raises(TimeoutError):
            port.send(SECRET * 1_000_000, timeout=0)
        port.reset_output_buffer()
    assert_no_payload(caplog, ptys)


def assert_no_payload(caplog: pytest.LogCaptureFixture, ptys: PtyPair) -> None:
    """As text, as an escape, in hexadecimal or as numbers."""
    assert caplog.records
    # The folder's name is made of random letters.
    folder = os.path.dirname(ptys.path_a)
    for record in caplog.records:
        text = (record.getMessage() + repr(record.args) + str(record.exc_info)).replace(folder, "")
        assert not any(part in text for part in ("payload", "xde", "dead", "222, 173", "7061796c"))


_HANDLERS = """
import logging, anyserial, anyserial.sync, anyserial.testing

loggers = {name: logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("anyserial")}
print([name for name, logger in loggers.items() if logger.level])
print(*(f"{name}: {type(handler).__name__}" for name, logger in loggers.items() for handler in logger.handlers))
print(logging.root.handlers)
"""


def test_the_package_adds_only_a_null_handler() -> None:
    """L-177: no other handler, no level; the root logger stays the program's."""
    done = subprocess.run([sys.executable, "-c", _HANDLERS], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("[]\nanyserial: NullHandler\n[]\n", "")


@contextlib.contextmanager
def level_checks() -> Iterator[list[str]]:
    """Names each call of a logger's methods in this thread."""
    methods = {getattr(logging.Logger, name).__code__: name for name in ("isEnabledFor", "debug", "info", "warning")}
    found: list[str] = []

    def watch(frame, event, arg):
        if event == "call" and frame.f_code in methods:
            found.append(methods[frame.f_code])

    sys.setprofile(watch)
    try:
        yield found
    finally:
        sys.setprofile(None)


async def test_the_data_path_costs_at_most_one_level_check(ptys: PtyPair, caplog: pytest.LogCaptureFixture) -> None:
    """L-177: per call, with logging disabled."""
    caplog.set_level(logging.WARNING, logger="anyserial")
    async with await SerialPort.open(ptys.path_a) as port, await SerialPort.open(ptys.path_b) as peer:
        with level_checks() as found:
            logging.getLogger("anyserial").debug("the watch works")
        assert found
        for call in (lambda: port.send(b"x"), lambda: peer.receive(1)):
            with level_checks() as found:
                await call()
            assert len(found) <= 1
