"""The mock: an ordinary port in memory that misbehaves exactly as told."""

from __future__ import annotations

import errno
import time

import anyio
import pytest

from anyserial import (
    Capability,
    ConfigurationError,
    LineErrors,
    PortBusyError,
    SerialCapabilities,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    sync,
)
from anyserial.testing import FaultPlan, MockBackend, PtyPair, faults_of, mock_pair, serial_port_pair

from .support import (
    MORE_THAN_A_LINK_HOLDS,
    descriptors,
    faulty_pair,
    leaked,
    parked,
    take,
    until_stuck,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


def test_a_pair_needs_no_loop(anyio_backend: tuple[str, dict[str, object]]) -> None:
    """L-157, C40, C41: made outside, used inside, on whichever loop comes first."""
    name, options = anyio_backend
    before = descriptors()
    a, b = serial_port_pair()

    async def main() -> None:
        async with a, b:
            await a.send(b"hello")
            assert await b.receive(5) == b"hello"
            await b.send(b"back")
            assert await a.receive(5) == b"back"

    anyio.run(main, backend=name, backend_options=options)
    assert not leaked(before)


async def test_the_faults_of_a_port_are_live(anyio_backend: object) -> None:
    """P-121: those of either end, which act on that end from then on."""
    a, b = serial_port_pair()
    async with a, b:
        plan = faults_of(a)
        assert plan is faults_of(a) is not faults_of(b)
        plan.raise_eio_on_read = True
        await b.send(b"x")
        with pytest.raises(SerialDisconnectedError):
            await a.receive()
        assert await a.receive() == b"x"
        faults_of(b).disconnected = True
        with pytest.raises(SerialDisconnectedError):
            await b.send(b"x")
    assert faults_of(a) is plan


async def test_the_faults_of_a_port_are_those_of_its_backend(anyio_backend: object) -> None:
    """P-121: also of a plan that was put in later, and of a port that was opened by its path."""
    with mock_pair() as pair:
        async with await SerialPort.open(pair.path_a) as port:
            faults_of(port).short_write_max = 1
            await port.send(b"abc")
            assert port.stats().write_calls >= 3
    async with faulty_pair() as (port, _, backend):
        backend.faults = plan = FaultPlan(parity_errors=1)
        assert faults_of(port) is plan


def test_a_blocking_port_has_the_same_faults() -> None:
    """P-121: the plan of the mock behind it."""
    with mock_pair() as pair, sync.open_serial_port(pair.path_a) as port:
        faults_of(port).ioctl_errno = errno.EIO
        with pytest.raises(SerialDisconnectedError):
            port.modem_lines(timeout=5)


async def test_only_a_mock_port_has_faults(anyio_backend: object, ptys: PtyPair) -> None:
    """P-121: the error names the port, or the type of what is none."""
    async with await SerialPort.open(ptys.path_a) as port:
        with pytest.raises(TypeError, match=f"{ptys.path_a} is no mock port"):
            faults_of(port)
    with sync.open_serial_port(ptys.path_a) as blocking, pytest.raises(TypeError, match="is no mock port"):
        faults_of(blocking)
    with pytest.raises(TypeError, match="takes a port, not FaultPlan"):
        faults_of(FaultPlan())  # type: ignore[arg-type]


async def test_a_pair_has_names_and_configs(anyio_backend: object) -> None:
    """L-157: each end has its own; the defaults are those of a port."""
    config = SerialConfig(baudrate=9600)
    a, b = serial_port_pair(config_a=config, path_a="/dev/left", path_b="/dev/right")
    async with a, b:
        assert (a.path, b.path) == ("/dev/left", "/dev/right")
        assert a.config is config
        assert b.config == SerialConfig()
    c, d = serial_port_pair()
    async with c, d:
        assert (c.path, d.path) == ("/dev/mockA", "/dev/mockB")


async def test_a_mock_states_its_capabilities(mock_ports: Ports) -> None:
    """L-158, L-126: the mock's column of the table."""
    yes, no, maybe = Capability.SUPPORTED, Capability.UNSUPPORTED, Capability.UNKNOWN
    assert mock_ports[0].capabilities == SerialCapabilities(
        platform="mock",
        backend="mock",
        custom_baudrate=yes,
        mark_space_parity=yes,
        one_point_five_stop_bits=yes,
        xon_xoff=maybe,
        rts_cts=maybe,
        dtr_dsr=maybe,
        modem_lines=yes,
        break_signal=yes,
        exclusive_access=no,
        low_latency=no,
        rs485=no,
        input_waiting=yes,
        output_waiting=yes,
        port_discovery=no,
    )


async def test_a_bare_pair_carries_data(anyio_backend: object) -> None:
    """L-160: `pair()` is enough; no open is needed."""
    backend, far = MockBackend.pair()
    async with SerialPort(backend, SerialConfig()) as port, SerialPort(far, SerialConfig()) as peer:
        await port.send(b"hello")
        assert await peer.receive() == b"hello"


def test_open_records_its_arguments() -> None:
    """L-159, L-160: path and config; open between `open` and `close`; once."""
    backend, far = MockBackend.pair()
    config = SerialConfig(baudrate=9600)
    assert not backend.is_open
    assert backend.last_config is None
    backend.open("/dev/else", config)
    assert backend.is_open
    assert backend.path == "/dev/else"
    assert backend.last_config is config
    with pytest.raises(RuntimeError):
        backend.open("/dev/else", config)
    for _ in range(2):
        backend.close()
        far.close()
    assert not backend.is_open


def test_a_planned_open_failure_raises_until_it_is_cleared() -> None:
    """L-169: the errno is raised while it is set; the device can be opened once it is cleared."""
    backend, far = MockBackend.pair()
    backend.faults.open_errno = errno.EBUSY
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            backend.open("/dev/mock", SerialConfig())
        assert caught.value.errno == errno.EBUSY
        assert not isinstance(caught.value, PortBusyError)
        assert not backend.is_open
    backend.faults.open_errno = None
    backend.open("/dev/mock", SerialConfig())
    assert backend.is_open
    backend.close()
    far.close()


async def test_the_input_queue_is_exact(mock_ports: Ports) -> None:
    """L-163: the depth does not change by looking, and is not capped at a buffer's size."""
    port, peer = mock_ports
    async with anyio.create_task_group() as tg:
        tg.start_soon(peer.send, MORE_THAN_A_LINK_HOLDS)
        await until_stuck(peer)
        for _ in range(2):
            assert port.input_waiting() + peer.output_waiting() == peer.stats().bytes_sent
        assert port.input_waiting() > 65_536
        waiting = port.input_waiting()
        await port.receive(1000)
        assert port.stats().bytes_received == 1000
        assert port.input_waiting() >= waiting - 1000
        tg.cancel_scope.cancel()


async def test_many_small_messages_fit(mock_ports: Ports) -> None:
    """L-163, L-164: room is counted in bytes, not in messages, so one-byte sends do not fill it sooner."""
    port, peer = mock_ports
    for _ in range(2000):
        await port.send(b"x")
    assert await take(peer, 2000) == b"x" * 2000


async def test_read_faults_come_in_order(anyio_backend: object) -> None:
    """L-166, L-56: EIO once, parity errors, end of file, EINTR, EAGAIN, data."""
    async with faulty_pair() as (port, peer, backend):
        await peer.send(b"data")
        faults = backend.faults = FaultPlan(
            raise_eio_on_read=True, parity_errors=2, disconnected=True, eintr_reads=1, eagain_reads=1
        )
        with pytest.raises(SerialDisconnectedError) as caught:
            await port.receive()
        assert "parity" not in str(caught.value)
        assert not faults.raise_eio_on_read
        for left in (1, 0):
            with pytest.raises(SerialDisconnectedError, match="parity") as caught:
                await port.receive()
            assert caught.value.errno == errno.EIO
            assert faults.parity_errors == left
        with pytest.raises(SerialDisconnectedError, match="end of file"):
            await port.receive()
        assert (faults.eintr_reads, faults.eagain_reads) == (1, 1)
        faults.disconnected = False
        assert await port.receive() == b"data"
        assert (faults.eintr_reads, faults.eagain_reads) == (0, 0)
        assert (await port.line_errors()).parity == 2


async def test_write_faults_come_in_order(anyio_backend: object) -> None:
    """L-166: EPIPE while unplugged, then EINTR, EAGAIN, short writes, data."""
    async with faulty_pair() as (port, peer, backend):
        faults = backend.faults = FaultPlan(disconnected=True, eintr_writes=1, eagain_writes=1, short_write_max=2)
        for _ in range(2):
            with pytest.raises(SerialDisconnectedError) as caught:
                await port.send(b"data")
            assert caught.value.errno == errno.EPIPE
        assert (faults.eintr_writes, faults.eagain_writes) == (1, 1)
        faults.disconnected = False
        before = port.stats()
        await port.send(b"data")
        assert (faults.eintr_writes, faults.eagain_writes) == (0, 0)
        assert port.stats().write_calls - before.write_calls == 4
        assert port.stats().write_eagain - before.write_eagain == 1
        assert await take(peer, 4) == b"data"


@pytest.mark.parametrize("fault", ["raise_eio_on_read", "disconnected", "parity_errors"])
async def test_a_read_ending_fault_wakes_a_parked_reader(anyio_backend: object, fault: str) -> None:
    """L-167: faults act although nothing is queued."""
    async with faulty_pair() as (port, _, backend), anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        setattr(backend.faults, fault, 1 if fault == "parity_errors" else True)
        await reader.wait()
        assert isinstance(reader.error, SerialDisconnectedError)


async def test_a_new_plan_wakes_a_parked_reader(anyio_backend: object) -> None:
    """L-167: a plan that is assigned is a plan that was changed."""
    async with faulty_pair() as (port, _, backend), anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        backend.faults = FaultPlan(disconnected=True)
        await reader.wait()
        assert isinstance(reader.error, SerialDisconnectedError)


async def test_a_plan_that_ends_nothing_leaves_the_reader_parked(anyio_backend: object) -> None:
    """L-167, L-55: an injected EAGAIN is retried unseen."""
    async with faulty_pair() as (port, peer, backend), anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        backend.faults.eagain_reads = 2
        await peer.send(b"x")
        await reader.wait()
        assert reader.value == b"x"


async def test_a_stalled_line_parks_the_sender(anyio_backend: object) -> None:
    """L-168: no more than 200 attempts a second, cancellable, and on it goes when the stall ends."""
    async with faulty_pair() as (port, peer, backend):
        backend.faults.short_write_max = 0
        started = time.monotonic()
        with anyio.move_on_after(0.3) as scope:
            await port.send(b"stalled")
        took = time.monotonic() - started
        assert scope.cancelled_caught
        assert port.stats().bytes_sent == 0
        assert 1 <= port.stats().write_calls <= 200 * took + 1
        async with anyio.create_task_group() as tg:
            sender = await parked(lambda: port.send(b"flows"), tg)
            backend.faults.short_write_max = 2
            await sender.wait()
        assert await take(peer, 5) == b"flows"


async def test_a_stalled_line_can_still_be_read(anyio_backend: object) -> None:
    """L-168, L-61: the other direction works."""
    async with faulty_pair() as (port, peer, backend), anyio.create_task_group() as tg:
        backend.faults.short_write_max = 0
        await parked(lambda: port.send(b"stalled"), tg)
        await peer.send(b"x")
        assert await port.receive() == b"x"
        tg.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("field", "value"),
    [("short_write_max", -1), ("eagain_reads", -1), ("parity_errors", 1.5), ("disconnected", "yes")],
)
def test_an_impossible_plan_is_refused(field: str, value: object) -> None:
    """L-168: refused where it is made and where it is changed, naming the field."""
    with pytest.raises(ConfigurationError, match=field):
        FaultPlan(**{field: value})  # type: ignore[arg-type]
    plan = FaultPlan()
    with pytest.raises(ConfigurationError, match=field):
        setattr(plan, field, value)
    assert getattr(plan, field) == getattr(FaultPlan(), field)


def test_a_plan_has_no_other_fields() -> None:
    """L-171: a misspelt fault is an error, not a plan that never happens."""
    with pytest.raises(TypeError):
        FaultPlan(eagain_read=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        FaultPlan().eagain_read = 1  # type: ignore[attr-defined]


async def test_line_errors_are_those_of_the_receiving_side(anyio_backend: object) -> None:
    """L-165, L-86: the breaks of the peer and the injected parity errors; the peer counts nothing."""
    async with faulty_pair() as (port, peer, backend):
        backend.faults.parity_errors = 1
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        await peer.send_break(0)
        assert await port.line_errors() == LineErrors(parity=1, breaks=1)
        assert await peer.line_errors() == LineErrors()


async def test_lines_fall_when_the_peer_closes(mock_ports: Ports) -> None:
    """L-162, L-170: a cable without a far end carries no level."""
    port, peer = mock_ports
    await peer.set_control_lines(rts=True, dtr=True)
    assert (await port.modem_lines()).cts
    await peer.aclose()
    lines = await port.modem_lines()
    assert (lines.cts, lines.dsr, lines.cd) == (False, False, False)
