"""A blocking call gives what the async call gives: the same values, the same exceptions, the same counters."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import SerialConfig, SerialPort, SerialStreamAttribute, open_serial_port, sync
from anyserial.testing import MockBackend, PtyPair

from .support import AWAITABLES, LINKS
from .sync_support import KINDS, Background, WithoutDescriptor, faulty_pair, open_pair, over, provider, until

CALLS: dict[str, Callable[[Any], Any]] = {
    **{name: call for name, call in AWAITABLES.items() if name != "aclose"},
    "receive everything": lambda port: port.receive(),
    "receive_available up to a limit": lambda port: port.receive_available(limit=3),
    "receive_into a part of a buffer": lambda port: port.receive_into(memoryview(bytearray(9))[2:4]),
    "send nothing": lambda port: port.send(b""),
    "send items of two bytes": lambda port: port.send_buffer(memoryview(b"abcd").cast("H")),
    "send every other byte": lambda port: port.send_buffer(memoryview(b"abcd")[::2]),
    "set no line": lambda port: port.set_control_lines(),
    "receive no bytes": lambda port: port.receive(0),
    "receive less than no bytes": lambda port: port.receive(-1),
    "receive_into nothing": lambda port: port.receive_into(bytearray()),
    "receive_into what is read-only": lambda port: port.receive_into(b"123"),
    "receive_into what is scattered": lambda port: port.receive_into(memoryview(bytearray(8))[::2]),
    "receive_available up to nothing": lambda port: port.receive_available(limit=0),
    "send text": lambda port: port.send("text"),
    "send_break backwards": lambda port: port.send_break(-1),
    "send_break for ever": lambda port: port.send_break(math.inf),
    "send_break of no length": lambda port: port.send_break(math.nan),
    "configure with nothing": lambda port: port.configure(None),
}
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "input_waiting": lambda port: port.input_waiting(),
    "output_waiting": lambda port: port.output_waiting(),
    "stats": lambda port: port.stats(),
    "path": lambda port: port.path,
    "is_open": lambda port: port.is_open,
    "config": lambda port: port.config,
    "capabilities": lambda port: port.capabilities,
    "port_info": lambda port: port.port_info,
    "attributes": lambda port: set(port.extra_attributes),
    "extra path": lambda port: port.extra(FileStreamAttribute.path),
    "extra config": lambda port: port.extra(SerialStreamAttribute.config),
    "extra with default": lambda port: port.extra(SerialStreamAttribute.port_info, None),
    "extra without": lambda port: port.extra(SerialStreamAttribute.port_info),
}


def unplug(backend: MockBackend) -> None:
    backend.faults.disconnected = True


def fail_reads(backend: MockBackend) -> None:
    backend.faults.raise_eio_on_read = True


def refuse(backend: MockBackend) -> None:
    backend.faults.ioctl_errno = errno.ENOTTY
    backend.faults.configure_errno = errno.EINVAL


def interrupt_often(backend: MockBackend) -> None:
    backend.faults.eintr_reads = backend.faults.eintr_writes = backend.faults.eagain_writes = 2


# What was done to the port's backend before the call.
MISHAPS: dict[str, Callable[[MockBackend], object]] = {
    "well": lambda backend: None,
    "unplugged": unplug,
    "failing": fail_reads,
    "refusing": refuse,
    "interrupted": interrupt_often,
}


def facts(exc: Exception | None) -> tuple[object, ...]:
    """Everything about an exception that a caller can see."""
    if exc is None:
        return ()
    seen = (type(exc), str(exc), getattr(exc, "errno", None), getattr(exc, "filename", None), exc.__suppress_context__)
    return (*seen, facts(exc.__cause__) if isinstance(exc.__cause__, Exception) else ())


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as exc:
        return facts(exc)


def aftermath(port: Any) -> dict[str, object]:
    return {name: outcome(lambda ask=ask: ask(port)) for name, ask in QUESTIONS.items()}


def async_outcome(name: str, mishap: str, *, closed: bool) -> tuple[object, object]:
    async def main() -> tuple[object, object]:
        near, far = MockBackend.pair()
        async with SerialPort(near, SerialConfig()) as port, SerialPort(far, SerialConfig()) as peer:
            await peer.send(b"data!")
            MISHAPS[mishap](near)
            if closed:
                await port.aclose()
            try:
                result = await CALLS[name](port)
            except Exception as exc:
                result = facts(exc)
            return result, aftermath(port)

    return anyio.run(main)


def sync_outcome(kind: str, name: str, mishap: str, *, closed: bool) -> tuple[object, object]:
    near, far = MockBackend.pair()
    backend = near if kind == "mock" else WithoutDescriptor(near)
    with provider() as portals, over(backend, portals) as port, over(far, portals) as peer:
        peer.send(b"data!")
        MISHAPS[mishap](near)
        if closed:
            port.close()
        return outcome(lambda: CALLS[name](port)), aftermath(port)


def without_descriptor(seen: Any) -> Any:
    result, answers = seen
    return result, {**answers, "attributes": answers["attributes"] - {FileStreamAttribute.fileno}}


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_ends_alike(name: str, mishap: str) -> None:
    """L-147, L-49: value or exception, with its text, errno, file name and cause, and all that the port says then."""
    expected = async_outcome(name, mishap, closed=False)
    assert sync_outcome("mock", name, mishap, closed=False) == expected
    assert sync_outcome("loop", name, mishap, closed=False) == without_descriptor(expected)


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_port_answers_alike(name: str) -> None:
    """L-96, L-147, L-154: bad arguments first, then `SerialClosedError`; `send_eof` is silent."""
    expected = async_outcome(name, "well", closed=True)
    assert sync_outcome("mock", name, "well", closed=True) == expected
    assert sync_outcome("loop", name, "well", closed=True) == expected


@pytest.mark.parametrize("unplugged", [False, True], ids=["plugged", "unplugged"])
@pytest.mark.parametrize("name", CALLS)
def test_a_tty_answers_alike(ptys: PtyPair, name: str, unplugged: bool) -> None:
    """L-147, L-125: real system calls too, features a pty lacks and a line that hung up included."""

    async def asynchronous() -> object:
        async with await open_serial_port(ptys.path_a) as port, await open_serial_port(ptys.path_b) as peer:
            await peer.send(b"data!")
            while port.input_waiting() < 5:
                await anyio.sleep(0.001)
            if unplugged:
                ptys.unplug()
            try:
                return await CALLS[name](port)
            except Exception as exc:
                return facts(exc)

    expected = anyio.run(asynchronous)
    # New devices, without the bytes that were left unread.
    ptys.unplug()
    ptys.replug()
    with sync.SerialPort.open(ptys.path_a) as port, sync.SerialPort.open(ptys.path_b) as peer:
        peer.send(b"data!")
        until(lambda: port.input_waiting() == 5)
        if unplugged:
            ptys.unplug()
        assert outcome(lambda: CALLS[name](port)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_works_in_every_signature(kind: str) -> None:
    """C45, A27, L-47, L-58: open, send, receive, in every signature."""
    with open_pair(kind) as (port, peer):
        port.send(b"*IDN?\n")
        assert peer.receive(6, timeout=5) == b"*IDN?\n"
        port.send_buffer(bytearray(b"abc"))
        buffer = bytearray(8)
        assert peer.receive_into(buffer, timeout=5) == 3
        assert buffer == b"abc\0\0\0\0\0"
        port.send(b"x" * 1000)
        until(lambda: peer.input_waiting() == 1000)
        assert peer.receive_available(limit=999) == b"x" * 999
        assert peer.receive_available() == b"x"


def test_a_timeout_takes_one_line(ptys: PtyPair) -> None:
    """C45: the first lines of the documentation."""
    with sync.SerialPort.open(ptys.path_a, baudrate=9600) as port, sync.SerialPort.open(ptys.path_b) as echo:
        port.send(b"hello")
        echo.send(echo.receive(64, timeout=5.0))
        assert port.receive(64, timeout=5.0) == b"hello"
        assert port.config == SerialConfig(baudrate=9600)
    assert not port.is_open


def test_control_calls_return_what_the_async_port_returns() -> None:
    """L-142, L-70: what goes through the loop returns what the async port returns."""
    with faulty_pair() as (port, peer, backend):
        config = SerialConfig(baudrate=9600)
        port.configure(config)
        assert port.config is config
        assert backend.last_config is config
        port.set_control_lines(rts=True)
        assert (port.control_lines().rts, port.control_lines().dtr) == (True, False)
        assert (peer.modem_lines().cts, peer.modem_lines().dsr) == (True, False)
        port.send_break(0.001)
        assert peer.line_errors().breaks == 1
        peer.send(b"unread")
        port.reset_input_buffer()
        assert port.input_waiting() == 0


@pytest.mark.posix("a mock that is waited for on the calling thread")
def test_bytes_need_no_loop() -> None:
    """L-146: they move on the calling thread, also while the loop has no time; everything else waits for the loop."""
    with provider() as portals, portals as portal:
        near, far = MockBackend.pair()
        with over(near, portals) as port, over(far, portals) as peer:
            free = threading.Event()
            blocked = portal.start_task_soon(free.wait)
            try:
                port.send(b"ping")
                assert peer.receive(timeout=5) == b"ping"
                drained = Background(port.drain)
                port.send(b"pong")
                assert peer.receive_available(timeout=5) == b"pong"
                assert not blocked.done()
                assert not drained.done
            finally:
                free.set()
            drained.result()


def test_bytes_of_a_device_need_no_loop() -> None:
    """L-146, W-07: nor do those of a tty or a COM port."""
    with open_pair(LINKS[1]) as (port, peer), sync.portal_provider() as portal:
        free = threading.Event()
        blocked = portal.start_task_soon(free.wait)
        try:
            port.send(b"x", timeout=5)
            assert peer.receive(timeout=5) == b"x"
            assert not blocked.done()
        finally:
            free.set()


def test_held_bytes_come_first_also_after_a_request() -> None:
    """L-102, L-146: what a backend keeps for the port cannot be polled for, and is received without new bytes."""

    class Sipping(MockBackend):
        """Takes all that is queued and hands out one byte at a time."""

        def try_read(self, view: memoryview) -> int | None:
            if not self._held:
                room = memoryview(bytearray(64))
                self.hold(room[: super().try_read(room) or 0])
            return super().try_read(view[:1])

    near, far = Sipping.pair()
    with provider() as portals, over(near, portals) as port, over(far, portals) as peer:
        peer.send(b"abc")
        for answer in (b"a", b"b", b"c"):
            port.send(b"?")
            assert port.receive(timeout=5) == answer


def test_a_dialogue_reads_only_the_available_bytes(ptys: PtyPair) -> None:
    """L-146: after a request the answer is waited for; a read that finds nothing is not made each time."""
    with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
        for _ in range(10):
            peer.send(b"x")
            assert Background(lambda: port.receive(timeout=5)).result() == b"x"
            receiving = Background(lambda: peer.receive(timeout=5))
            port.send(b"y")
            assert receiving.result() == b"y"
        # Not read_eagain: a COM port starts a read and then waits for its end, which counts as one that had to wait.
        assert peer.stats().read_calls <= 10 + 2


def test_open_takes_a_config_or_fields_not_both(ptys: PtyPair) -> None:
    """L-143, L-21, L-20: a config by position or by keyword, or its fields, but not both."""
    config = SerialConfig(baudrate=9600)
    for arguments in ([config], {}), ([], {"config": config}), ([], {"baudrate": 9600}):
        with sync.SerialPort.open(ptys.path_a, *arguments[0], **arguments[1]) as port:
            assert port.config == config
    with pytest.raises(ValueError, match="either a config or config fields"):
        sync.SerialPort.open(ptys.path_a, config, baudrate=9600)
    with pytest.raises(TypeError, match="baud"):
        sync.SerialPort.open(ptys.path_a, baud=9600)
    with sync.open_serial_port(ptys.path_a, config=config) as port:
        assert port.config is config
    with sync.open_serial_port(ptys.path_a) as port:
        assert port.config == SerialConfig()


def test_a_connectable_connects_again_and_again(ptys: PtyPair) -> None:
    """L-20, P-123: each time a new port; nothing happens before."""
    connectable = sync.SerialConnectable(path=ptys.path_a, config=SerialConfig(baudrate=9600))
    with connectable.connect() as first, connectable.connect(timeout=20) as second:
        assert first is not second
        assert {first.config, second.config} == {connectable.config}
    missing = sync.SerialConnectable(path="/dev/there-is-none")
    assert missing.config == SerialConfig()
    with pytest.raises(FileNotFoundError):
        missing.connect()


@pytest.mark.parametrize("path", ["/dev/there-is-none", "/dev/null", "/dev"])
def test_an_open_fails_alike(path: str) -> None:
    """L-147, L-36, L-37: the same error as from the async port."""

    async def asynchronous() -> object:
        try:
            return await open_serial_port(path)
        except OSError as exc:
            return facts(exc)

    assert outcome(lambda: sync.open_serial_port(path)) == anyio.run(asynchronous)
