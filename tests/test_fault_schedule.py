"""The fault schedule: each event at its moment, once, in order, and the same on every event loop."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
import select
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyserial import (
    ConfigurationError,
    LineErrors,
    PortBusyError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
)
from anyserial.testing import FaultAction, FaultEvent, FaultPlan, FiredFault, MockBackend

from .manual_clock import ManualClock
from .support import MORE_THAN_A_LINK_HOLDS, Outcome, all_blocked, parked, take, until, until_stuck

pytestmark = pytest.mark.anyio

A = FaultAction


@contextlib.asynccontextmanager
async def planned(
    *events: FaultEvent, clock: ManualClock | None = None
) -> AsyncIterator[tuple[SerialPort, SerialPort, FaultPlan]]:
    """A port on which `events` are planned, its peer, and the plan."""
    backend, far = MockBackend.pair(clock=clock)
    backend.faults = FaultPlan(schedule=events)
    async with SerialPort(backend, SerialConfig()) as port, SerialPort(far, SerialConfig()) as peer:
        yield port, peer, backend.faults


def indexes(plan: FaultPlan) -> list[int]:
    return [fault.index for fault in plan.fired]


# Values


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("action", {"action": "explode", "on_op": 1}),
        ("action", {"action": None, "on_op": 1}),
        ("direction", {"action": A.EIO, "on_op": 1, "direction": "sideways"}),
        ("optional", {"action": A.EIO, "on_op": 1, "optional": "yes"}),
        ("at_byte", {"action": A.EIO, "at_byte": -1}),
        ("at_byte", {"action": A.EIO, "at_byte": 1.0}),
        ("at_byte", {"action": A.EIO}),
        ("at_byte", {"action": A.EIO, "at_byte": 0, "on_op": 1}),
        ("at_byte", {"action": A.EIO, "at_byte": 0, "direction": "ioctl"}),
        ("on_op", {"action": A.EIO, "on_op": 0}),
        ("on_op", {"action": A.EIO, "on_op": True}),
        ("on_op", {"action": A.EIO, "after": 1.0, "direction": "open"}),
        ("after", {"action": A.EIO, "after": -0.1}),
        ("after", {"action": A.EIO, "after": float("inf")}),
        ("after", {"action": A.EIO, "after": "soon"}),
        ("when_sent", {"action": A.EIO, "when_sent": b""}),
        ("when_sent", {"action": A.EIO, "when_sent": "text"}),
        ("count", {"action": A.EIO, "on_op": 1, "count": 0}),
        ("count", {"action": A.EIO, "on_op": 1, "count": None}),
        ("count", {"action": A.DISCONNECT, "on_op": 1, "count": 2}),
        ("mask", {"action": A.CORRUPT, "at_byte": 0, "mask": 0}),
        ("mask", {"action": A.CORRUPT, "at_byte": 0, "mask": 256}),
        ("mask", {"action": A.DROP, "at_byte": 0, "mask": 1}),
        ("seconds", {"action": A.DELAY, "at_byte": 0}),
        ("seconds", {"action": A.DELAY, "at_byte": 0, "seconds": float("nan")}),
        ("seconds", {"action": A.EIO, "at_byte": 0, "seconds": 1.0}),
        ("errno", {"action": A.EIO, "on_op": 1, "errno": 0}),
        ("errno", {"action": A.EAGAIN, "on_op": 1, "errno": errno.EPERM}),
        ("errno", {"action": A.EIO, "on_op": 1, "errno": 2**31}),
        ("count", {"action": A.EINTR, "on_op": 1, "count": 10_001}),
        ("after", {"action": A.EIO, "after": 10**400}),
        ("seconds", {"action": A.DELAY, "on_op": 1, "seconds": 10**400}),
        ("action", {"action": [], "on_op": 1}),
        ("direction", {"action": A.EIO, "on_op": 1, "direction": []}),
        ("seconds", {"action": A.REPLUG, "on_op": 1, "seconds": -1.0}),
        ("direction", {"action": A.SHORT_WRITE, "on_op": 1, "direction": "read"}),
        ("direction", {"action": A.SHORT_READ, "on_op": 1, "direction": "write"}),
        ("direction", {"action": A.EOF, "at_byte": 0, "direction": "write"}),
        ("direction", {"action": A.CORRUPT, "on_op": 1, "direction": "ioctl"}),
    ],
)
def test_an_impossible_event_is_refused(field: str, values: dict[str, Any]) -> None:
    """L-171: refused where it is made; the text names the field."""
    with pytest.raises(ConfigurationError, match=rf"\b{field}\b"):
        FaultEvent(**values)


def test_events_are_values() -> None:
    """L-171, L-08: frozen, keyword only, equal by value; an action may be given as its word."""
    event = FaultEvent(action="short_write", direction="write", on_op=2)  # type: ignore[arg-type]
    assert event.action is A.SHORT_WRITE
    assert event == FaultEvent(action=A.SHORT_WRITE, direction="write", on_op=2)
    assert len({event, dataclasses.replace(event), dataclasses.replace(event, count=2)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.on_op = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        FaultEvent(A.EIO)  # type: ignore[misc]


def test_a_plan_prints_as_code() -> None:
    """P-63: what a failing test shows can be pasted into a test."""
    plan = FaultPlan(
        eagain_reads=2,
        short_write_max=0,
        disconnected=True,
        paced=False,
        schedule=[FaultEvent(action=A.CORRUPT, at_byte=3, mask=1), FaultEvent(action=A.EIO, when_sent=b"?\r")],
    )
    text = repr(plan)
    assert repr(eval(text)) == text  # our own text
    assert text == (
        "FaultPlan(disconnected=True, eagain_reads=2, paced=False, short_write_max=0, schedule=["
        "FaultEvent(action=FaultAction.CORRUPT, at_byte=3, mask=1), "
        "FaultEvent(action=FaultAction.EIO, when_sent=b'?\\r')])"
    )
    assert repr(FaultPlan()) == "FaultPlan()"


def test_a_schedule_holds_events_only() -> None:
    """L-171: anything else is refused by every way in, and leaves the schedule as it was."""
    with pytest.raises(ConfigurationError, match="schedule"):
        FaultPlan(schedule=["EIO"])  # type: ignore[list-item]
    event = FaultEvent(action=A.EIO, on_op=1)
    plan = FaultPlan(schedule=[event])
    for way in (plan.schedule.append, lambda wrong: plan.schedule.extend([event, wrong])):
        with pytest.raises(ConfigurationError, match="schedule"):
            way("EIO")  # type: ignore[no-untyped-call]
    assert list(plan.schedule) == [event]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eintr_reads", 10_001),
        ("eintr_writes", 3_000_000),
        ("open_errno", 2**31),
        ("configure_errno", 10**30),
        ("ioctl_errno", 10**30),
        ("paced", 2**32),
        ("paced", 10**400),
        ("paced", "fast"),
        ("schedule", None),
        ("schedule", 5),
        ("on_fired", "print"),
    ],
)
def test_an_impossible_field_of_a_plan_is_refused(field: str, value: object) -> None:
    """L-165, L-171: also a value that would do harm only later, when it takes effect."""
    plan = FaultPlan()
    with pytest.raises(ConfigurationError, match=rf"\b{field}\b"):
        setattr(plan, field, value)


def test_anything_but_a_plan_is_refused_as_faults() -> None:
    """L-165: anything else is refused, and the plan before it stays."""
    backend, far = MockBackend.pair()
    plan = backend.faults
    with pytest.raises(ConfigurationError, match="faults must be a FaultPlan, not 5"):
        backend.faults = 5  # type: ignore[assignment]
    assert backend.faults is plan
    backend.close()
    far.close()


def test_a_plan_belongs_to_one_port() -> None:
    """L-171: a plan in use is refused elsewhere, and free again after the close."""
    backend, far = MockBackend.pair()
    plan = backend.faults
    with pytest.raises(ConfigurationError, match="in use"):
        far.faults = plan
    backend.faults = plan
    backend.close()
    far.faults = plan
    assert far.faults is plan
    far.close()


# At a byte


@pytest.mark.parametrize("direction", ["read", "write"])
@pytest.mark.parametrize(
    ("event", "arrives"),
    [
        ({"action": A.CORRUPT}, b"012\xcc4567"),
        ({"action": A.CORRUPT, "mask": 0x01, "count": 2}, b"01225567"),
        ({"action": A.DROP}, b"0124567"),
        ({"action": A.DROP, "count": 5}, b"012"),
        ({"action": A.DUPLICATE}, b"012334567"),
        ({"action": A.DUPLICATE, "count": 2}, b"0123344567"),
    ],
)
async def test_byte_faults_begin_at_the_planned_byte(
    anyio_backend: object, direction: Any, event: dict[str, Any], arrives: bytes
) -> None:
    """L-173: those before it arrive unchanged, those after the count too."""
    async with planned(FaultEvent(direction=direction, at_byte=3, **event)) as (port, peer, plan):
        sender, receiver = (peer, port) if direction == "read" else (port, peer)
        await sender.send(b"01234567")
        await sender.send(b"later")
        assert sender.stats().bytes_sent == 13
        assert await take(receiver, len(arrives) + 5) == arrives + b"later"
        assert [(fault.byte, fault.index) for fault in plan.fired] == [(3, 0)]


ALTERING = st.builds(
    FaultEvent,
    action=st.sampled_from([A.CORRUPT, A.DROP, A.DUPLICATE]),
    at_byte=st.integers(0, 30),
    count=st.integers(1, 5),
)


def altered(data: bytes, events: list[FaultEvent]) -> bytes:
    """What becomes of `data`, byte by byte."""
    arrives = b""
    for offset, byte in enumerate(data):
        piece = bytes([byte])
        for event in events:
            assert event.at_byte is not None
            if event.at_byte <= offset < event.at_byte + event.count:
                if event.action is A.CORRUPT:
                    piece = bytes(byte ^ event.mask for byte in piece)
                else:
                    piece *= 0 if event.action is A.DROP else 2
        arrives += piece
    return arrives


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    events=st.lists(ALTERING, max_size=4),
    direction=st.sampled_from(["read", "write"]),
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    buffer=st.integers(1, 12),
)
async def test_chunks_make_no_difference(
    anyio_backend: object, events: list[FaultEvent], direction: Any, chunks: list[int], buffer: int
) -> None:
    """L-173: however the bytes are cut on their way in and out."""
    events = [dataclasses.replace(event, direction=direction) for event in events]
    async with planned(*events) as (port, peer, plan):
        sender, receiver = (peer, port) if direction == "read" else (port, peer)
        data = bytes(range(sum(chunks)))
        sent = 0
        for size in chunks:
            await sender.send(data[sent : sent + size])
            sent += size
        # Past every fault, so that the last byte arrives.
        await sender.send(bytes(40))
        whole = altered(data + bytes(40), events)
        arrived = b""
        while len(arrived) < len(whole):
            arrived += await receiver.receive(min(buffer, len(whole) - len(arrived)))
        assert arrived == whole
        assert receiver.input_waiting() == 0
        assert sorted(indexes(plan)) == list(range(len(events)))
        assert all(fault.byte == fault.event.at_byte for fault in plan.fired)


async def test_an_error_at_a_byte_fails_that_read(anyio_backend: object) -> None:
    """L-173, L-172: what is before it arrives, then `count` reads fail, then the stream goes on with that byte."""
    async with planned(FaultEvent(action=A.EIO, at_byte=3, count=2)) as (port, peer, plan):
        await peer.send(b"012345")
        assert await port.receive() == b"012"
        for _ in range(2):
            with pytest.raises(SerialDisconnectedError) as caught:
                await port.receive()
            assert caught.value.errno == errno.EIO
        assert await port.receive() == b"345"
        assert [(fault.op, fault.byte) for fault in plan.fired] == [(2, 3)]


async def test_an_error_at_a_sent_byte_keeps_the_progress_exact(anyio_backend: object) -> None:
    """L-173, L-62, C44: the progress is exact, and the errno may be another."""
    event = FaultEvent(action=A.EIO, direction="write", at_byte=3, errno=errno.EPROTO)
    async with planned(event) as (port, peer, _):
        with pytest.raises(SerialError) as caught:
            await port.send(b"012345")
        assert type(caught.value) is SerialError
        assert caught.value.errno == errno.EPROTO
        assert port.stats().bytes_sent == 3
        await port.send(b"345")
        assert await take(peer, 6) == b"012345"


async def test_an_unplug_at_a_byte_disconnects_the_device(anyio_backend: object) -> None:
    """L-173, L-167, P-62: the plan's own field shows it, and clearing it brings the device back."""
    async with planned(FaultEvent(action=A.DISCONNECT, at_byte=3)) as (port, peer, plan):
        await peer.send(b"012345")
        assert await port.receive() == b"012"
        assert not plan.disconnected
        with pytest.raises(SerialDisconnectedError, match="end of file"):
            await port.receive()
        assert plan.disconnected
        with pytest.raises(SerialDisconnectedError):
            await port.send(b"x")
        plan.disconnected = False
        assert await port.receive() == b"345"


async def test_line_errors_at_a_byte_are_counted_by_the_receiver(anyio_backend: object) -> None:
    """L-165, L-86, L-87, L-11: counted by the side that receives, with the byte; the stream is unchanged."""
    kinds = [A.PARITY, A.FRAMING, A.OVERRUN, A.BREAK]
    events = [FaultEvent(action=kind, at_byte=2, count=number) for number, kind in enumerate(kinds, 1)]
    echo = [dataclasses.replace(event, direction="write", count=1) for event in events[:1]]
    async with planned(*events, *echo) as (port, peer, plan):
        await peer.send(b"01234")
        assert await port.receive(2) == b"01"
        assert await port.line_errors() == LineErrors()
        assert await port.receive() == b"234"
        assert await port.line_errors() == LineErrors(parity=1, framing=2, overrun=3, breaks=4)
        assert await peer.line_errors() == LineErrors()
        await port.send(b"01234")
        assert await take(peer, 5) == b"01234"
        assert await peer.line_errors() == LineErrors(parity=1)
        assert indexes(plan) == [0, 1, 2, 3, 4]


async def test_a_fault_of_a_byte_that_never_comes_does_not_fire(anyio_backend: object) -> None:
    """L-172, P-61: what needs a byte has not fired without one."""
    events = [FaultEvent(action=action, at_byte=2) for action in (A.CORRUPT, A.DROP, A.PARITY)]
    async with planned(*events) as (port, peer, plan):
        await peer.send(b"01")
        assert await port.receive() == b"01"
        async with anyio.create_task_group() as tg:
            await parked(port.receive, tg)
            tg.cancel_scope.cancel()
        assert plan.fired == ()


async def test_short_writes_at_a_byte_lose_nothing(anyio_backend: object) -> None:
    """L-173, L-58, C8: the write that begins there takes no more than `count` bytes; nothing is lost."""
    async with planned(FaultEvent(action=A.SHORT_WRITE, direction="write", at_byte=3, count=2)) as (port, peer, _):
        await port.send(b"012345678")
        assert port.stats().write_calls == 3
        assert await take(peer, 9) == b"012345678"


async def test_short_reads_at_a_byte_lose_nothing(anyio_backend: object) -> None:
    """L-173, L-53: the read that begins there returns no more than `count` bytes; nothing is lost."""
    async with planned(FaultEvent(action=A.SHORT_READ, at_byte=3, count=2)) as (port, peer, plan):
        await peer.send(b"012345678")
        assert [await port.receive() for _ in range(3)] == [b"012", b"34", b"5678"]
        assert [(fault.op, fault.byte) for fault in plan.fired] == [(2, 3)]


async def test_a_short_read_counts_duplicated_bytes(anyio_backend: object) -> None:
    """L-173: it counts what the read returns."""
    events = [
        FaultEvent(action=A.DUPLICATE, at_byte=0, count=3),
        FaultEvent(action=A.SHORT_READ, at_byte=0, count=2),
    ]
    async with planned(*events) as (port, peer, _):
        await peer.send(b"012")
        assert await port.receive() == b"00"
        assert await take(port, 4) == b"1122"


async def test_a_short_read_waits_for_bytes(anyio_backend: object) -> None:
    """L-172, P-61: an attempt that finds nothing was not cut short."""
    async with planned(FaultEvent(action=A.SHORT_READ, on_op=1)) as (port, peer, plan):
        async with anyio.create_task_group() as tg:
            reader = await parked(port.receive, tg)
            assert plan.fired == ()
            await peer.send(b"01")
        assert reader.value == b"0"
        assert await port.receive() == b"1"


async def test_an_end_of_file_at_a_byte_loses_nothing(anyio_backend: object) -> None:
    """L-56, L-173: `count` reads end with it; the device is still there, and so are the bytes."""
    async with planned(FaultEvent(action=A.EOF, at_byte=3, count=2)) as (port, peer, plan):
        await peer.send(b"012345")
        assert await port.receive() == b"012"
        for _ in range(2):
            with pytest.raises(SerialDisconnectedError, match="end of file"):
                await port.receive()
        await port.send(b"x")
        assert not plan.disconnected
        assert await port.receive() == b"345"
        assert [(fault.op, fault.byte) for fault in plan.fired] == [(2, 3)]


# At an attempt


async def test_attempts_are_counted_from_one(anyio_backend: object) -> None:
    """L-172, L-167: the k-th attempt of its direction, whether or not data is queued."""
    events = [FaultEvent(action=A.EIO, on_op=2), FaultEvent(action=A.EIO, direction="write", on_op=3)]
    async with planned(*events) as (port, peer, plan):
        await peer.send(b"ab")
        assert await port.receive(1) == b"a"
        with pytest.raises(SerialDisconnectedError):
            await port.receive(1)
        assert await port.receive(1) == b"b"
        await port.send(b"1")
        await port.send(b"2")
        with pytest.raises(SerialDisconnectedError):
            await port.send(b"3")
        await port.send(b"4")
        assert await take(peer, 3) == b"124"
        assert [(fault.event, fault.op) for fault in plan.fired] == [(events[0], 2), (events[1], 3)]


@pytest.mark.parametrize("action", [A.EINTR, A.EAGAIN])
async def test_a_port_retries_interrupted_and_early_attempts(anyio_backend: object, action: FaultAction) -> None:
    """L-55, L-172, C44: `count` attempts in a row, retried unseen in both directions."""
    events = [
        FaultEvent(action=action, on_op=1, count=3),
        FaultEvent(action=action, direction="write", at_byte=0, count=2),
    ]
    async with planned(*events) as (port, peer, plan):
        await peer.send(b"in")
        assert await port.receive() == b"in"
        await port.send(b"out")
        assert await take(peer, 3) == b"out"
        stats = port.stats()
        assert (stats.read_calls, stats.write_calls) == (4, 3)
        assert indexes(plan) == [0, 1]


async def test_a_replug_counts_attempts_at_a_missing_device(anyio_backend: object) -> None:
    """L-167: an attempt at a vanished device counts, and the third one finds it again."""
    events = [FaultEvent(action=A.DISCONNECT, on_op=1), FaultEvent(action=A.REPLUG, on_op=3)]
    async with planned(*events) as (port, peer, plan):
        await peer.send(b"x")
        for _ in range(2):
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
        assert await port.receive() == b"x"
        assert indexes(plan) == [0, 1]


@pytest.mark.parametrize("moment", [{"at_byte": 1}, {"on_op": 2}, {"after": 0.5}, {"when_sent": b"?"}])
async def test_a_replug_waits_for_its_seconds(anyio_backend: object, moment: dict[str, Any]) -> None:
    """L-172, L-174: the device stays away for `seconds`, and is on record as back when it is."""
    events = [FaultEvent(action=A.DISCONNECT, **moment), FaultEvent(action=A.REPLUG, seconds=2, **moment)]
    clock = ManualClock()
    async with planned(*events, clock=clock) as (port, peer, plan):
        await peer.send(b"01")
        assert await port.receive(1) == b"0"
        clock.advance(0.5)
        if "when_sent" in moment:
            await port.send(b"?")
        for seconds in (0.5, 1.0):
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
            clock.advance(seconds)
        assert indexes(plan) == [0]
        clock.advance(0.5)
        assert await port.receive() == b"1"
        assert [(fault.index, fault.time) for fault in plan.fired] == [(0, 0.5), (1, 2.5)]


async def test_control_calls_fail(anyio_backend: object) -> None:
    """L-169, L-172: `configure` and the other control calls have their own attempts, translated as a device's."""
    events = [
        FaultEvent(action=A.EIO, direction="configure", on_op=2, errno=errno.EBUSY),
        FaultEvent(action=A.DISCONNECT, direction="ioctl", on_op=2),
    ]
    async with planned(*events) as (port, _, plan):
        first = SerialConfig(baudrate=9600)
        await port.configure(first)
        with pytest.raises(PortBusyError):
            await port.configure(SerialConfig(baudrate=300))
        assert port.config is first
        await port.modem_lines()
        with pytest.raises(SerialDisconnectedError):
            await port.modem_lines()
        assert plan.disconnected
        assert [(fault.op, fault.event.direction) for fault in plan.fired] == [(2, "configure"), (2, "ioctl")]


def test_an_open_fails() -> None:
    """L-160, L-169: the second attempt finds the device."""
    backend, far = MockBackend.pair()
    backend.faults.schedule.append(FaultEvent(action=A.EIO, direction="open", on_op=1, errno=errno.ENOENT))
    with pytest.raises(OSError) as caught:
        backend.open("/dev/mock", SerialConfig())
    assert caught.value.errno == errno.ENOENT
    assert not backend.is_open
    backend.open("/dev/mock", SerialConfig())
    assert backend.is_open
    backend.close()
    far.close()


# At a time


async def test_an_unplug_wakes_reader_and_writer(anyio_backend: object) -> None:
    """L-174, L-167: at its time, with no clock but the wall's, on every loop."""
    async with planned() as (port, _, plan), anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        writer = Outcome()
        tg.start_soon(writer.record, lambda: port.send(MORE_THAN_A_LINK_HOLDS))
        await until_stuck(port)
        plan.schedule.append(FaultEvent(action=A.DISCONNECT, after=0.0))
        await reader.wait()
        await writer.wait()
        assert isinstance(reader.error, SerialDisconnectedError)
        assert isinstance(writer.error, SerialDisconnectedError)
        assert indexes(plan) == [0]


@pytest.mark.parametrize("action", [A.EIO, A.DISCONNECT])
async def test_a_timed_fault_wakes_a_parked_reader(anyio_backend: object, action: FaultAction) -> None:
    """L-174: neither before its time nor long after."""
    async with planned(FaultEvent(action=action, after=0.1)) as (port, _, plan):
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        assert plan.fired[0].time >= 0.1


async def test_timed_faults_follow_the_clock(anyio_backend: object) -> None:
    """L-174: counted from open; not a moment early, and no thread."""
    clock = ManualClock()
    before = set(threading.enumerate())
    backend, far = MockBackend.pair(clock=clock)
    clock.advance(5)
    backend.open("/dev/mock", SerialConfig())
    backend.faults = FaultPlan(
        schedule=[
            FaultEvent(action=A.DISCONNECT, after=0.1),
            FaultEvent(action=A.REPLUG, after=0.2),
            FaultEvent(action=A.BREAK, after=0.3),
        ]
    )
    async with SerialPort(backend, SerialConfig()) as port, SerialPort(far, SerialConfig()) as peer:
        await port.send(b"x")
        clock.advance(0.1)
        with pytest.raises(SerialDisconnectedError):
            await port.send(b"x")
        clock.advance(0.1)
        await port.send(b"y")
        assert await take(peer, 2) == b"xy"
        assert await port.line_errors() == LineErrors()
        clock.advance(0.1)
        assert await port.line_errors() == LineErrors(breaks=1)
        assert [fault.time for fault in backend.faults.fired] == [0.1, 0.2, 0.3]
        assert set(threading.enumerate()) <= before


async def test_a_timed_error_waits_for_its_attempt(anyio_backend: object) -> None:
    """L-174, L-172: it is the next read that fails; the record says when that was."""
    clock = ManualClock()
    async with planned(FaultEvent(action=A.EIO, after=1), clock=clock) as (port, peer, plan):
        clock.advance(3)
        assert plan.fired == ()
        await peer.send(b"x")
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        assert await port.receive() == b"x"
        (fault,) = plan.fired
        assert fault == FiredFault(event=plan.schedule[0], index=0, op=1, byte=0, time=3.0)


async def test_a_delay_holds_back_received_bytes(anyio_backend: object) -> None:
    """L-173, L-163, L-51: what is before it arrives at once; the rest is not there until its time."""
    clock = ManualClock()
    async with planned(FaultEvent(action=A.DELAY, at_byte=2, seconds=1.5), clock=clock) as (port, peer, plan):
        await peer.send(b"0123")
        assert await port.receive_available() == b"01"
        async with anyio.create_task_group() as tg:
            reader = await parked(port.receive_available, tg)
            assert plan.fired[0].byte == 2
            assert port.input_waiting() == 0
            clock.advance(1.4)
            await all_blocked()
            assert not reader.done
            calls = port.stats().read_calls
            clock.advance(0.1)
            await reader.wait()
        assert reader.value == b"23"
        assert port.stats().read_calls == calls + 1


async def test_a_delay_holds_back_sent_bytes(anyio_backend: object) -> None:
    """L-173, L-164, L-67: send is done, the output waits, drain waits with it."""
    clock = ManualClock()
    event = FaultEvent(action=A.DELAY, direction="write", at_byte=2, seconds=2)
    async with planned(event, clock=clock) as (port, peer, _):
        await port.send(b"0123")
        await port.send(b"45")
        assert (peer.input_waiting(), port.output_waiting()) == (2, 4)
        async with anyio.create_task_group() as tg:
            drain = await parked(port.drain, tg)
            clock.advance(1.9)
            assert (peer.input_waiting(), port.output_waiting()) == (2, 4)
            clock.advance(0.1)
            await drain.wait()
        assert await take(peer, 6) == b"012345"


async def test_a_delay_in_real_time_wakes_a_parked_reader(anyio_backend: object) -> None:
    """L-174: a parked reader is woken when the delay is over."""
    async with planned(FaultEvent(action=A.DELAY, at_byte=0, seconds=0.05)) as (port, peer, _):
        started = anyio.current_time()
        await peer.send(b"x")
        assert await port.receive() == b"x"
        assert anyio.current_time() - started >= 0.049


# When something was sent


@pytest.mark.parametrize("chunks", [[b"READ?\r"], [b"RE", b"AD?", b"\r"], [b"xxREAD", b"?\rtail"], [b"READREAD?\r"]])
async def test_a_pattern_may_straddle_sends(anyio_backend: object, chunks: list[bytes]) -> None:
    """L-172: the fault comes with the pattern's last byte."""
    async with planned(FaultEvent(action=A.DISCONNECT, when_sent=b"READ?\r")) as (port, peer, plan):
        whole = b"".join(chunks)
        with contextlib.suppress(SerialDisconnectedError):
            for chunk in chunks:
                assert plan.fired == ()
                await port.send(chunk)
        assert plan.disconnected
        # Nothing that follows the pattern has left.
        assert port.stats().bytes_sent == whole.index(b"?\r") + 2
        assert await take(peer, port.stats().bytes_sent) == whole[: port.stats().bytes_sent]


async def test_a_pattern_wakes_the_reader(anyio_backend: object) -> None:
    """L-174, L-172: the answer to this request is an error."""
    async with planned(FaultEvent(action=A.EIO, when_sent=b"?")) as (port, _, plan):
        async with anyio.create_task_group() as tg:
            reader = await parked(port.receive, tg)
            await port.send(b"no question")
            await all_blocked()
            assert not reader.done
            await port.send(b"?")
            await reader.wait()
        assert isinstance(reader.error, SerialDisconnectedError)
        assert indexes(plan) == [0]


async def test_byte_faults_begin_after_the_pattern(anyio_backend: object) -> None:
    """L-173: the first byte after it is the first that suffers, also in the same send."""
    event = FaultEvent(action=A.CORRUPT, direction="write", when_sent=b"<", mask=0x20)
    async with planned(event) as (port, peer, _):
        await port.send(b"ab<CDE")
        assert await take(peer, 6) == b"ab<cDE"


async def test_only_later_bytes_can_match(anyio_backend: object) -> None:
    """L-171: what was sent before the event was appended is past."""
    async with planned() as (port, _, plan):
        await port.send(b"RE")
        plan.schedule.append(FaultEvent(action=A.DISCONNECT, when_sent=b"READ"))
        await port.send(b"AD")
        assert plan.fired == ()


# The list


async def test_events_of_one_moment_come_in_order(anyio_backend: object) -> None:
    """L-172: by the order of the list, though one needs a byte, one an attempt, and one neither."""
    events = [
        FaultEvent(action=A.EAGAIN, at_byte=1),
        FaultEvent(action=A.CORRUPT, at_byte=1, mask=0x20),
        FaultEvent(action=A.DUPLICATE, at_byte=1),
        FaultEvent(action=A.EIO, at_byte=1),
        FaultEvent(action=A.EINTR, on_op=1),
        FaultEvent(action=A.EIO, after=1),
        FaultEvent(action=A.DISCONNECT, after=1),
    ]
    clock = ManualClock()
    async with planned(*events, clock=clock) as (port, peer, plan):
        await peer.send(b"ABC")
        assert await port.receive() == b"A"
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        assert await port.receive() == b"bb"
        assert indexes(plan) == [4, 0, 1, 2, 3]
        clock.advance(1)
        assert not plan.disconnected
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        assert indexes(plan) == [4, 0, 1, 2, 3, 5, 6]
        assert plan.disconnected


async def test_an_appended_event_wakes_a_parked_reader(anyio_backend: object) -> None:
    """L-171, L-167: its byte has been reached already; `+=` is a way to append."""
    async with planned() as (port, _, plan), anyio.create_task_group() as tg:
        for action in (A.EIO, A.DISCONNECT):
            reader = await parked(port.receive, tg)
            plan.schedule += [FaultEvent(action=action, at_byte=0)]
            await reader.wait()
            assert isinstance(reader.error, SerialDisconnectedError)
        assert indexes(plan) == [0, 1]


async def test_faults_are_reported_as_they_fire(anyio_backend: object) -> None:
    """L-172, P-61: `on_fired` hears of each one, `pending` holds what has not come."""
    events = [FaultEvent(action=A.EAGAIN, at_byte=1), FaultEvent(action=A.DROP, at_byte=8)]
    async with planned(*events) as (port, peer, plan):
        heard: list[FiredFault] = []
        plan.on_fired = heard.append
        assert plan.pending == tuple(events)
        await peer.send(b"01")
        assert await take(port, 2) == b"01"
        assert heard == list(plan.fired)
        assert plan.pending == (events[1],)
        plan.on_fired = None
        await peer.send(b"23456789")
        assert await take(port, 7) == b"2345679"
        assert (len(heard), len(plan.fired), plan.pending) == (1, 2, ())


async def test_a_listener_that_raises_stops_nothing(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-172: neither its fault nor the time of those that follow; `threading.excepthook` gets what it raised."""
    raised: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))

    def listen(fault: FiredFault) -> None:
        # An outcome of pytest is no `Exception`; on the main thread it goes to the caller.
        on_main = threading.current_thread() is threading.main_thread()
        raise RuntimeError if on_main or fault.index else pytest.fail.Exception

    events = [
        FaultEvent(action=A.BREAK, after=0.2),
        FaultEvent(action=A.BREAK, after=0.21),
        FaultEvent(action=A.DISCONNECT, after=0.22),
    ]
    backend, far = MockBackend.pair()
    backend.faults = FaultPlan(schedule=events)
    backend.faults.on_fired = listen
    async with SerialPort(backend, SerialConfig()) as port, SerialPort(far, SerialConfig()):
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tg:
                waiting = await parked(port.receive, tg)
                await waiting.wait()
        assert isinstance(waiting.error, SerialDisconnectedError)
    assert [fault.index for fault in backend.faults.fired] == [0, 1, 2]
    # The last one is reported by the clock's thread, after it has woken the reader.
    with anyio.fail_after(5):
        while len(raised) < 3:
            await anyio.sleep(0.001)
    assert len(raised) == 3


async def test_a_distant_time_does_not_end_the_near_ones(anyio_backend: object) -> None:
    """L-167, L-171: a moment later than any lock can wait for, and a delay that never ends, on a paced line too."""
    backend, far = MockBackend.pair(paced=True)
    async with SerialPort(backend, SerialConfig()) as port, SerialPort(far, SerialConfig()) as peer:
        backend.faults.schedule = [FaultEvent(action=A.EIO, after=1e300)]
        await peer.send(b"x")
        with anyio.fail_after(5):
            assert await port.receive() == b"x"
        backend.faults.schedule.append(FaultEvent(action=A.DELAY, direction="write", at_byte=0, seconds=1e308))
        await port.send(b"held back")
        assert port.output_waiting() == len(b"held back")
        backend.faults.schedule.append(FaultEvent(action=A.DISCONNECT, after=0))
        with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
            await port.receive()


async def test_a_new_schedule_replaces_pending_faults(anyio_backend: object) -> None:
    """L-171: what has not come by then never comes; what has stays on record."""
    async with planned(FaultEvent(action=A.EIO, on_op=1), FaultEvent(action=A.EIO, on_op=2)) as (port, peer, plan):
        await peer.send(b"x")
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        plan.schedule = [FaultEvent(action=A.CORRUPT, at_byte=0)]
        assert await port.receive() == bytes([ord("x") ^ 0xFF])
        assert [fault.event.action for fault in plan.fired] == [A.EIO, A.CORRUPT]


async def test_the_schedule_comes_before_the_fields(anyio_backend: object) -> None:
    """L-166, P-62: one plan; an attempt that the schedule ends uses up no counter."""
    async with planned(FaultEvent(action=A.EIO, on_op=1)) as (port, peer, plan):
        plan.raise_eio_on_read = True
        plan.eagain_reads = 1
        await peer.send(b"x")
        for left in (True, False):
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
            assert plan.raise_eio_on_read is left
        assert await port.receive() == b"x"
        assert plan.eagain_reads == 0


async def test_many_planned_faults_do_not_spin(anyio_backend: object) -> None:
    """L-168: a reader whose faults are still to come sleeps."""
    events = [
        FaultEvent(action=A.EIO, at_byte=5),
        FaultEvent(action=A.DROP, at_byte=0),
        FaultEvent(action=A.DISCONNECT, after=1000),
        FaultEvent(action=A.EIO, on_op=99),
    ]
    async with planned(*events) as (port, _, _), anyio.create_task_group() as tg:
        await parked(port.receive, tg)
        await anyio.sleep(0.1)
        assert port.stats().read_calls == 1
        assert not is_readable(port)
        tg.cancel_scope.cancel()


# On every loop alike

MOMENTS = [
    {"at_byte": st.integers(0, 12)},
    {"on_op": st.integers(1, 8)},
    {"after": st.sampled_from([0.0, 0.5, 1.0, 2.5])},
    {"when_sent": st.sampled_from([b"\x01", b"\x02\x03", b"\x00\x01\x02"])},
]
BYTE_FAULTS = [
    {"action": st.sampled_from([A.EIO, A.CORRUPT, A.DROP, A.DUPLICATE, A.EINTR, A.EAGAIN]), "count": st.integers(1, 3)},
    {"action": st.sampled_from([A.PARITY, A.FRAMING, A.OVERRUN, A.BREAK]), "count": st.integers(1, 3)},
    {"action": st.sampled_from([A.DISCONNECT, A.REPLUG])},
    {"action": st.sampled_from([A.DELAY, A.REPLUG]), "seconds": st.sampled_from([0.25, 1.0])},
]
READ_FAULTS = [{"action": st.sampled_from([A.EOF, A.SHORT_READ]), "count": st.integers(1, 3)}]
WRITE_FAULTS = [{"action": st.just(A.SHORT_WRITE), "count": st.integers(1, 3)}]


@st.composite
def schedules(draw: st.DrawFn) -> list[FaultEvent]:
    events = []
    for _ in range(draw(st.integers(0, 5))):
        direction = draw(st.sampled_from(["read", "write"]))
        faults = BYTE_FAULTS + (READ_FAULTS if direction == "read" else WRITE_FAULTS)
        fields = draw(st.sampled_from(MOMENTS)) | draw(st.sampled_from(faults))
        events.append(FaultEvent(direction=direction, **{name: draw(value) for name, value in fields.items()}))
    return events


STEPS = st.one_of(
    st.tuples(st.sampled_from(["send", "feed", "receive"]), st.integers(1, 6)),
    st.tuples(st.just("wait"), st.sampled_from([0.25, 1.0])),
    st.tuples(st.just("ask"), st.just(0)),
)


def is_readable(port: SerialPort) -> bool:
    fd = port.extra(FileStreamAttribute.fileno)
    return select.select([fd], [], [], 0)[0] == [fd]


async def receive_in_time(port: SerialPort, size: int, clock: ManualClock) -> object:
    """What a receive gives within five seconds; time passes only while it has nothing to do."""
    end = clock.now() + 5
    seen = port.stats().read_eagain
    reader = Outcome()
    async with anyio.create_task_group() as tg:
        tg.start_soon(reader.record, lambda: port.receive(size))
        while True:
            await until(lambda: reader.done or port.stats().read_eagain > seen)  # noqa: B023  awaited here
            while not (reader.done or is_readable(port)) and clock.now() < end:
                clock.advance(0.25)
            if reader.done or not is_readable(port):
                break
            seen = port.stats().read_eagain
        tg.cancel_scope.cancel()
    if reader.error is not None:
        raise reader.error
    return reader.value


async def play(events: list[FaultEvent], steps: list[tuple[str, float]]) -> list[object]:
    """Everything that a run of `steps` shows, with time that passes as they say."""
    clock = ManualClock()
    log: list[object] = []
    sent = 0
    async with planned(*events, clock=clock) as (port, peer, plan):
        for step, amount in steps:
            try:
                match step:
                    case "send" | "feed":
                        sent += int(amount)
                        sender = port if step == "send" else peer
                        await sender.send(bytes(range(sent - int(amount), sent)))
                    case "receive":
                        log.append(await receive_in_time(port, int(amount), clock))
                    case "wait":
                        clock.advance(amount)
                    case _:
                        log += [port.input_waiting(), port.output_waiting(), await port.line_errors()]
            except SerialError as exc:
                log.append((type(exc), exc.errno))
        clock.advance(100)
        arrived = await take(peer, peer.input_waiting())
        return [*log, arrived, plan.fired, plan.disconnected, port.stats(), await peer.line_errors()]


@settings(deadline=None, max_examples=100)
@given(events=schedules(), steps=st.lists(STEPS, max_size=12))
def test_every_loop_shows_the_same(events: list[FaultEvent], steps: list[tuple[str, float]]) -> None:
    """L-175, L-100: results, errors, bytes, counters and the record of what fired."""
    pytest.importorskip("trio")
    pytest.importorskip("uvloop")
    first, *others = (
        anyio.run(play, events, steps, backend=name, backend_options=options)
        for name, options in (("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {}))
    )
    assert others == [first, first]


PAGE = (Path(__file__).parents[1] / "docs" / "mock.md").read_text("utf-8")


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_the_examples_run(code: str) -> None:
    """L-157, L-175: what the page about the mock shows is so."""
    exec(code, {})
