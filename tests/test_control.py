"""Lines, break, queues: typed answers, translated refusals, and a turn for other tasks in every call."""

from __future__ import annotations

import errno
import math
import time

import anyio
import pytest

from anyserial import (
    ControlLines,
    LineErrors,
    ModemLines,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedFeatureError,
)
from anyserial.testing import MockBackend

from .support import (
    AWAITABLES,
    RECEIVERS,
    WIRED,
    assert_checkpoint,
    assert_raises_when_cancelled,
    faulty_pair,
    parked,
    take,
    until,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]
CONTROLS = ["modem_lines", "control_lines", "line_errors", "set_control_lines", "send_break", "drain", "drain_exact"]
QUEUES = ["reset_input_buffer", "reset_output_buffer"]


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in RECEIVERS])
async def test_every_call_yields(mock_ports: Ports, name: str) -> None:
    """L-88, L-101: other tasks get a turn, also when the work does not wait."""
    port, _ = mock_ports
    await assert_checkpoint(lambda: AWAITABLES[name](port))


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in [*RECEIVERS, *WIRED]])
async def test_every_call_yields_on_a_tty(pty_ports: Ports, name: str) -> None:
    """L-88, L-101: the same on a kernel device."""
    port, _ = pty_ports
    await assert_checkpoint(lambda: AWAITABLES[name](port))


@pytest.mark.parametrize("name", list(AWAITABLES))
async def test_every_call_raises_in_a_cancelled_scope(ports: Ports, name: str) -> None:
    """L-101, L-106, E17: a cancelled caller learns it from whichever method it calls, `aclose` included."""
    port, peer = ports
    await peer.send(b"xyz")
    await assert_raises_when_cancelled(lambda: AWAITABLES[name](port))


@pytest.mark.parametrize("name", ["send_eof", "aclose"])
async def test_silent_calls_on_a_closed_port_yield(mock_ports: Ports, name: str) -> None:
    """L-63, L-91, L-96, L-101: a second close and an end of file after close are silent checkpoints."""
    port, _ = mock_ports
    await port.aclose()
    await assert_checkpoint(lambda: AWAITABLES[name](port))
    await assert_raises_when_cancelled(lambda: AWAITABLES[name](port))


def test_the_table_of_methods_is_complete() -> None:
    """L-23, C42: whatever coroutine method a port gains is covered by the tests over all of them."""
    import inspect

    public = {
        name
        for name, member in inspect.getmembers(SerialPort, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "open"
    }
    assert public == set(AWAITABLES)


async def until_asserted(backend: MockBackend) -> None:
    """Wait for the break to begin; it is set before the first wait, so a turn or two of the loop will do."""
    while not backend.break_asserted:
        await anyio.lowlevel.checkpoint()


async def test_break_is_held_for_its_duration(anyio_backend: object) -> None:
    """L-81, L-165, E33: asserted, held, released (libuv rounds to milliseconds); the peer counts one break."""
    async with faulty_pair() as (port, peer, backend):
        started = time.monotonic()
        async with anyio.create_task_group() as tg:
            tg.start_soon(port.send_break, 0.05)
            await until_asserted(backend)
        assert time.monotonic() - started >= 0.045
        assert not backend.break_asserted
        assert (await peer.line_errors()).breaks == 1
        await assert_checkpoint(lambda: port.send_break(0))
        assert (await peer.line_errors()).breaks == 2


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("duration", [-0.1, -math.inf, math.inf, math.nan])
async def test_a_break_needs_a_finite_duration(mock_ports: Ports, duration: float, closed: bool) -> None:
    """L-81, L-49: anything else is a `ValueError` that says so, also on a closed port."""
    port, peer = mock_ports
    if closed:
        await port.aclose()
    with pytest.raises(ValueError, match="non-negative"):
        await port.send_break(duration)
    assert (await peer.line_errors()).breaks == 0


async def test_a_cancelled_break_is_released(anyio_backend: object) -> None:
    """L-81, E6, E34: the line does not stay in break."""
    async with faulty_pair() as (port, _, backend):
        with anyio.move_on_after(0.02) as scope:
            await port.send_break(10)
        assert scope.cancelled_caught
        assert not backend.break_asserted


async def test_a_close_during_a_break_releases_it(anyio_backend: object) -> None:
    """L-81, L-93: released by the teardown; the break call itself raises nothing."""
    async with faulty_pair() as (port, _, backend), anyio.create_task_group() as tg:
        tg.start_soon(port.send_break, 0.1)
        await until_asserted(backend)
        await port.aclose()
        assert not backend.break_asserted


async def test_a_break_ended_by_close_and_cancel_raises_only_cancel(anyio_backend: object) -> None:
    """L-81, L-106, E35: the line is gone when the release is due, and only the cancellation is seen."""
    async with faulty_pair() as (port, _, backend):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(port.send_break, 10)
                await until_asserted(backend)
                await port.aclose()
                scope.cancel()
        assert scope.cancelled_caught


async def test_a_failed_end_of_a_break_raises_unless_cancelled(anyio_backend: object) -> None:
    """L-81, E35: swallowed behind a cancellation, an error of its own otherwise."""
    async with faulty_pair() as (port, _, backend):
        for cut in (True, False):
            duration = 10 if cut else 0.3
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tg:
                    breaker = await parked(lambda: port.send_break(duration), tg)  # noqa: B023 - it has begun
                    backend.faults.ioctl_errno = errno.EIO
                    if cut:
                        scope.cancel()
                    tg.start_soon(breaker.wait)
            backend.faults.ioctl_errno = None
            assert scope.cancelled_caught is cut
            assert isinstance(breaker.error, SerialDisconnectedError) is not cut


async def test_control_lines_show_as_modem_lines_of_the_peer(mock_ports: Ports) -> None:
    """L-82, L-83, L-162: RTS shows as CTS, DTR as DSR and CD; lines start low; `None` leaves one alone."""
    port, peer = mock_ports
    assert await peer.modem_lines() == ModemLines(cts=False, dsr=False, ri=False, cd=False)
    assert await port.control_lines() == ControlLines(rts=False, dtr=False)
    await port.set_control_lines(rts=True)
    assert await peer.modem_lines() == ModemLines(cts=True, dsr=False, ri=False, cd=False)
    await port.set_control_lines(dtr=True)
    assert await peer.modem_lines() == ModemLines(cts=True, dsr=True, ri=False, cd=True)
    assert await port.control_lines() == ControlLines(rts=True, dtr=True)
    await port.set_control_lines(rts=False, dtr=None)
    assert await peer.modem_lines() == ModemLines(cts=False, dsr=True, ri=False, cd=True)
    assert await peer.control_lines() == ControlLines(rts=False, dtr=False)


@pytest.mark.parametrize("name", ["modem_lines", "control_lines", "line_errors"])
async def test_answers_are_fresh_objects(mock_ports: Ports, name: str) -> None:
    """L-82: a snapshot, not a view."""
    port, _ = mock_ports
    assert await AWAITABLES[name](port) is not await AWAITABLES[name](port)


async def test_setting_no_line_makes_no_system_call(anyio_backend: object) -> None:
    """L-83, L-101: no system call is made, so none can fail; it is a checkpoint all the same."""
    async with faulty_pair() as (port, _, backend):
        backend.faults.ioctl_errno = errno.EIO
        await assert_checkpoint(port.set_control_lines)


@pytest.mark.posix("a device without modem lines")
@pytest.mark.parametrize("name", WIRED)
async def test_lines_and_counters_of_a_pty_are_unsupported(pty_ports: Ports, name: str) -> None:
    """L-82, L-86, L-117: lines and counters are a missing feature, named with the path."""
    port, _ = pty_ports
    with pytest.raises(UnsupportedFeatureError, match=port.path) as caught:
        await AWAITABLES[name](port)
    assert isinstance(caught.value, NotImplementedError)
    assert type(caught.value) is UnsupportedFeatureError


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOTTY, UnsupportedFeatureError),
        (errno.EINVAL, UnsupportedFeatureError),
        (errno.EIO, SerialDisconnectedError),
        (errno.ENOMEM, SerialError),
    ],
)
@pytest.mark.parametrize("name", [*CONTROLS, *QUEUES, "input_waiting", "output_waiting"])
async def test_no_refusal_is_a_bare_os_error(
    anyio_backend: object, name: str, code: int, expected: type[SerialError]
) -> None:
    """L-85, L-117, L-118, L-119, L-120, L-121, L-122, L-169: every control call translates, with errno and path."""
    async with faulty_pair() as (port, _, backend):
        backend.faults.ioctl_errno = code
        with pytest.raises(expected, match=port.path) as caught:
            if name in AWAITABLES:
                await AWAITABLES[name](port)
            else:
                getattr(port, name)()
        assert type(caught.value) is expected
        assert caught.value.errno == code
        assert caught.value.filename == port.path


async def test_unread_input_can_be_dropped(ports: Ports) -> None:
    """L-84, L-85: the queue is empty afterwards, and what comes later arrives."""
    port, peer = ports
    await peer.send(b"old")
    await until(lambda: port.input_waiting() == 3)
    await port.reset_input_buffer()
    assert port.input_waiting() == 0
    await peer.send(b"new")
    assert await take(port, 3) == b"new"


async def test_queues_can_be_reset_under_a_parked_reader(ports: Ports) -> None:
    """L-84: neither reset takes a guard, and the reader stays parked."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        await port.reset_input_buffer()
        await port.reset_output_buffer()
        assert not reader.done
        await peer.send(b"x")
        await reader.wait()
    assert reader.value == b"x"


async def test_unsent_output_can_be_dropped(anyio_backend: object) -> None:
    """L-84, L-85: what has not left the queue never arrives."""
    async with faulty_pair(SerialConfig(baudrate=300), paced=True) as (port, peer, _):
        await port.send(bytes(1000))
        assert port.output_waiting() > 900
        await port.reset_output_buffer()
        assert port.output_waiting() == 0
        with anyio.move_on_after(0.1):
            await take(peer, 100)
        assert peer.stats().bytes_received < 100


@pytest.mark.parametrize("name", ["input_waiting", "output_waiting"])
async def test_queue_depths_are_plain_calls(ports: Ports, name: str) -> None:
    """L-85: an int at once; closed, it is an error."""
    port, _ = ports
    assert getattr(port, name)() == 0
    await port.aclose()
    with pytest.raises(SerialClosedError, match="serial port is closed"):
        getattr(port, name)()


async def test_line_errors_start_at_zero(mock_ports: Ports) -> None:
    """L-82, L-86: counts since open."""
    port, _ = mock_ports
    assert await port.line_errors() == LineErrors()
