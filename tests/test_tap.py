"""A listener hears what a port does, whichever way the port was opened; it changes nothing for the port's user."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from anyserial import (
    ControlLines,
    SerialClosedError,
    SerialConfig,
    SerialConnectable,
    SerialDisconnectedError,
    SerialPort,
    open_serial_port,
    sync,
)
from anyserial.testing import (
    MockBackend,
    MockPair,
    OpenedPort,
    PortListener,
    mock_pair,
    serial_port_pair,
    watch_ports,
)

from . import sync_support
from .support import MORE_THAN_A_LINK_HOLDS, parked, take, until_stuck

Event = tuple[Any, ...]


class Log(PortListener):
    """What a listener was told, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def received(self, data: memoryview, /) -> None:
        self.events.append(("received", bytes(data)))

    def send_begins(self) -> None:
        self.events.append(("begins",))

    def sent(self, data: memoryview, /) -> None:
        self.events.append(("sent", bytes(data)))

    def send_ends(self) -> None:
        self.events.append(("ends",))

    def called(self, call: str, arguments: Mapping[str, Any], result: Any, /) -> None:
        self.events.append((call, dict(arguments), result))

    def failed(self, call: str, arguments: Mapping[str, Any], error: OSError, /) -> None:
        self.events.append(("failed", call, dict(arguments), type(error)))

    def closed(self) -> None:
        self.events.append(("closed",))


class Watcher:
    """The ports that were opened, each with a log of its own."""

    def __init__(self) -> None:
        self.opened: list[OpenedPort] = []
        self.logs: list[Log] = []

    def __call__(self, opened: OpenedPort) -> None:
        self.opened.append(opened)
        self.logs.append(Log())
        opened.tap(self.logs[-1])

    @property
    def events(self) -> list[Event]:
        """Of the only port."""
        (log,) = self.logs
        return log.events


@pytest.fixture
def pair() -> Iterator[MockPair]:
    """Two ends that open by path."""
    with mock_pair() as made:
        yield made


@contextmanager
def watching() -> Iterator[Watcher]:
    watcher = Watcher()
    with watch_ports(watcher):
        yield watcher


SEND = [("begins",), ("sent", b"hello"), ("ends",)]


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["function", "class", "connectable", "backend"])
async def test_a_listener_gets_the_events_of_a_port_from_its_open(pair: MockPair, way: str) -> None:
    """R-30: by its path in each way, and when it is made from a backend."""
    with watching() as watcher:
        if way == "function":
            port = await open_serial_port(pair.path_a, SerialConfig(baudrate=9600))
        elif way == "class":
            port = await SerialPort.open(pair.path_a, baudrate=9600)
        elif way == "connectable":
            port = await SerialConnectable(path=pair.path_a, config=SerialConfig(baudrate=9600)).connect()
        else:
            backend, far = MockBackend.pair()
            port = SerialPort(backend, SerialConfig(baudrate=9600))
    async with port:
        await port.send(b"hello")
    assert watcher.events == [*SEND, ("closed",)]
    (opened,) = watcher.opened
    assert (opened.path, opened.config.baudrate, opened.is_blocking) == (port.path, 9600, False)
    assert opened.capabilities is port.capabilities
    assert opened.port_info is None
    assert opened.callers[0].name == "test_a_listener_gets_the_events_of_a_port_from_its_open"
    if way == "backend":
        far.close()


def test_a_blocking_port_reports_each_event_once(pair: MockPair) -> None:
    """R-30: as itself, not also as the async port behind it."""
    with watching() as watcher, sync.open_serial_port(pair.path_a) as port:
        port.send(b"hello")
        port.set_control_lines(rts=True)
    assert watcher.events == [*SEND, ("set_control_lines", {"rts": True, "dtr": None}, None), ("closed",)]
    (opened,) = watcher.opened
    assert opened.is_blocking
    assert opened.callers[0].name == "test_a_blocking_port_reports_each_event_once"


@pytest.mark.anyio
async def test_a_listener_gets_both_ports_of_a_pair() -> None:
    """R-30: a large send is heard in the pieces that the kernel took, a received piece as its caller gets it."""
    with watching() as watcher:
        port, peer = serial_port_pair()
    async with port, peer:
        data = bytes(range(256)) * 4096
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(port.send, data)
            assert await take(peer, len(data)) == data
        buffer = bytearray(2)
        await port.send_buffer(memoryview(b"a.b.c.")[::2])
        assert await peer.receive_into(buffer) == 2
        assert await peer.receive_available() == b"c"
        await port.send(b"")
    near, far = (log.events for log in watcher.logs)
    assert near[0] == ("begins",)
    assert b"".join(event[1] for event in near if event[0] == "sent") == data + b"abc"
    assert near[-4:] == [("begins",), ("sent", b"abc"), ("ends",), ("closed",)]
    assert b"".join(event[1] for event in far if event[0] == "received") == data + b"abc"
    assert far[-3:] == [("received", b"ab"), ("received", b"c"), ("closed",)]


@pytest.mark.anyio
async def test_a_listener_gets_control_calls_with_their_results() -> None:
    """R-30: arguments by name, answers, and a break when it begins."""
    with watching() as watcher:
        port, peer = serial_port_pair()
    async with port, peer:
        config = port.config.with_changes(baudrate=9600)
        await port.configure(config)
        await port.set_control_lines(rts=True, dtr=False)
        lines = await port.modem_lines()
        assert await port.control_lines() == ControlLines(rts=True, dtr=False)
        errors = await port.line_errors()
        assert (port.input_waiting(), port.output_waiting()) == (0, 0)
        await port.drain()
        await port.send_break(0)
        await port.reset_input_buffer()
        await port.reset_output_buffer()
    assert watcher.logs[0].events == [
        ("configure", {"config": config}, None),
        ("set_control_lines", {"rts": True, "dtr": False}, None),
        ("modem_lines", {}, lines),
        ("control_lines", {}, ControlLines(rts=True, dtr=False)),
        ("line_errors", {}, errors),
        ("input_waiting", {}, 0),
        ("output_waiting", {}, 0),
        ("drain", {}, None),
        ("send_break", {"duration": 0}, None),
        ("reset_input_buffer", {}, None),
        ("reset_output_buffer", {}, None),
        ("closed",),
    ]


@pytest.mark.anyio
async def test_a_listener_gets_the_errors_that_the_caller_gets(pair: MockPair) -> None:
    """R-30: a vanished device, a closed port, a setting that was refused; each of them once."""
    with watching() as watcher:
        port = await open_serial_port(pair.path_a)
    config = port.config
    pair.faults_a.configure_errno = errno.EIO
    with pytest.raises(SerialDisconnectedError):
        await port.configure(config)
    pair.unplug()
    with pytest.raises(SerialDisconnectedError):
        await port.receive()
    with pytest.raises(SerialDisconnectedError):
        await port.modem_lines()
    with pytest.raises(SerialDisconnectedError):
        await port.send(b"lost")
    await port.aclose()
    with pytest.raises(SerialClosedError):
        await port.receive()
    with pytest.raises(SerialClosedError):
        port.input_waiting()
    assert watcher.events == [
        ("failed", "configure", {"config": config}, SerialDisconnectedError),
        ("failed", "receive", {}, SerialDisconnectedError),
        ("failed", "modem_lines", {}, SerialDisconnectedError),
        ("begins",),
        ("ends",),
        ("failed", "send", {}, SerialDisconnectedError),
        ("closed",),
        ("failed", "receive", {}, SerialClosedError),
        ("failed", "input_waiting", {}, SerialClosedError),
    ]


@pytest.mark.anyio
async def test_a_listener_gets_the_result_of_a_cancelled_call(pair: MockPair) -> None:
    """R-30, L-64, L-102: what the kernel took is sent, what the caller did not get is not received."""
    with watching() as watcher:
        port = await open_serial_port(pair.path_a)
    async with port:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(port.receive)
            await parked(lambda: port.send(MORE_THAN_A_LINK_HOLDS), tasks)
            await until_stuck(port)
            tasks.cancel_scope.cancel()
        taken = port.stats().bytes_sent
    assert 0 < taken < len(MORE_THAN_A_LINK_HOLDS)
    assert watcher.events[0] == ("begins",)
    assert watcher.events[-2:] == [("ends",), ("closed",)]
    assert sum(len(event[1]) for event in watcher.events[1:-2]) == taken


@pytest.mark.anyio
async def test_a_listener_gets_a_close_before_the_calls_it_ends(pair: MockPair) -> None:
    """R-30: the cause first."""
    with watching() as watcher:
        port = await open_serial_port(pair.path_a)
    async with anyio.create_task_group() as tasks:
        receiving = await parked(port.receive, tasks)
        await port.aclose()
        await receiving.wait()
    assert watcher.events == [("closed",), ("failed", "receive", {}, SerialClosedError)]


@pytest.mark.parametrize("kind", sync_support.KINDS)
def test_blocking_and_async_ports_report_the_same_events(kind: str) -> None:
    """R-30: with and without a descriptor; a timeout is a failure."""
    with watching() as watcher, sync_support.open_pair(kind) as (port, peer):
        port.send(b"hello")
        assert sync_support.take(peer, 5) == b"hello"
        with pytest.raises(TimeoutError):
            peer.receive(timeout=0)
        with pytest.raises(TimeoutError):
            peer.receive_available(timeout=0)
        with pytest.raises(TimeoutError):
            peer.receive_into(bytearray(1), timeout=0)
        with pytest.raises(TimeoutError):
            port.send(MORE_THAN_A_LINK_HOLDS, timeout=0.1)
        taken = port.stats().bytes_sent - 5
        config = port.config
        port.configure(config)
        waiting = sync_support.receiving(port)
        port.close()
        assert isinstance(waiting.error(), SerialClosedError)
    near, far = (log.events for log in watcher.logs)
    assert near[:4] == [*SEND, ("begins",)]
    pieces, rest = near[4:-5], near[-5:]
    assert sum(len(event[1]) for event in pieces) == taken > 0
    assert rest == [
        ("ends",),
        ("failed", "send", {}, TimeoutError),
        ("configure", {"config": config}, None),
        ("closed",),
        ("failed", "receive", {}, SerialClosedError),
    ]
    assert b"".join(event[1] for event in far if event[0] == "received") == b"hello"
    assert [event for event in far if event[0] != "received"] == [
        *[("failed", "receive", {}, TimeoutError)] * 3,
        ("closed",),
    ]


@pytest.mark.anyio
async def test_listeners_come_and_go(pair: MockPair) -> None:
    """R-30: each hears what passes while it is attached, in the order of attachment."""
    opened: list[OpenedPort] = []
    first, second = Log(), Log()
    with watch_ports(opened.append):
        port = await open_serial_port(pair.path_a)
    async with port:
        await port.send(b"a")
        detach_first = opened[0].tap(first)
        await port.send(b"b")
        detach_second = opened[0].tap(second)
        await port.send(b"c")
        detach_first()
        detach_first()
        await port.send(b"d")
        detach_second()
        await port.send(b"e")
    sent = [[event[1] for event in log.events if event[0] == "sent"] for log in (first, second)]
    assert sent == [[b"b", b"c"], [b"c", b"d"]]


@pytest.mark.anyio
async def test_a_listener_overrides_only_the_methods_it_needs(pair: MockPair) -> None:
    """R-30: the other methods of `PortListener` do nothing."""

    class Closes(PortListener):
        count = 0

        def closed(self) -> None:
            self.count += 1

    listener = Closes()
    with watch_ports(lambda opened: opened.tap(listener)):
        port = await open_serial_port(pair.path_a)
    await port.send(b"x")
    await port.modem_lines()
    await port.aclose()
    await port.aclose()
    with pytest.raises(SerialClosedError):
        await port.receive()
    assert listener.count == 1


@pytest.mark.anyio
async def test_watches_nest_and_end(pair: MockPair) -> None:
    """R-30: a port is seen by each watch that is open, and by none that has ended."""
    outer: list[OpenedPort] = []
    inner: list[OpenedPort] = []
    with watch_ports(outer.append), watch_ports(inner.append):
        async with await open_serial_port(pair.path_a):
            pass
    async with await open_serial_port(pair.path_a):
        pass
    assert (len(outer), len(inner)) == (1, 1)


@pytest.mark.anyio
async def test_a_listener_gets_the_bytes_that_the_caller_has(pair: MockPair) -> None:
    """R-30: what a listener keeps of them costs no copy; a buffer that may change is never given so."""

    class Keeper(PortListener):
        def __init__(self) -> None:
            self.kept: list[tuple[str, object]] = []

        def received(self, data: memoryview, /) -> None:
            self.kept.append(("received", data.obj if type(data.obj) is bytes else None))

        def sent(self, data: memoryview, /) -> None:
            self.kept.append(("sent", data.obj if type(data.obj) is bytes else None))

    keeper = Keeper()
    with watch_ports(lambda opened: opened.tap(keeper)):
        port = await open_serial_port(pair.path_a)
    async with port, await open_serial_port(pair.path_b) as peer:
        hello = b"hello"
        await port.send(hello)
        await port.send_buffer(bytearray(hello))
        got: list[object] = []
        for receive in (port.receive, port.receive_available):
            await peer.send(b"answer")
            got.append(await receive())
        await peer.send(b"answer")
        await port.receive_into(bytearray(6))
    assert [kind for kind, _ in keeper.kept] == ["sent", "sent", "received", "received", "received"]
    whole = [data for _, data in keeper.kept]
    assert whole[0] is hello
    assert whole[1] is whole[4] is None
    assert whole[2] is got[0]
    assert whole[3] is got[1]


@pytest.mark.parametrize("call", ["receive", "receive_available"])
def test_a_listener_gets_the_bytes_of_a_blocking_caller(pair: MockPair, call: str) -> None:
    """R-30: as on a loop."""

    class Keeper(PortListener):
        def received(self, data: memoryview, /) -> None:
            self.kept = data.obj

    keeper = Keeper()
    with watch_ports(lambda opened: opened.tap(keeper)):
        port = sync.open_serial_port(pair.path_a)
    with port, sync.open_serial_port(pair.path_b) as peer:
        peer.send(b"answer")
        assert getattr(port, call)() is keeper.kept
