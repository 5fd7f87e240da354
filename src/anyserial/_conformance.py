"""The contract of a connected pair of ports, as checks for any backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from .config import SerialConfig
from .exceptions import SerialClosedError
from .stream import SerialPort

MakePair: TypeAlias = Callable[[SerialConfig], AbstractAsyncContextManager[tuple[SerialPort, SerialPort]]]
_Body: TypeAlias = Callable[[SerialPort, SerialPort], Awaitable[None]]


class _Check(NamedTuple):
    rules: str
    needs: frozenset[str]
    body: _Body


_checks: Final[list[_Check]] = []

#: Seconds for one check, which are enough for a real line at 9600 baud.
_BOUND: Final = 10.0


def _check(rules: str, *needs: str) -> Callable[[_Body], _Body]:
    def register(body: _Body) -> _Body:
        _checks.append(_Check(rules, frozenset(needs), body))
        return body

    return register


async def check_port_pair(make_pair: MakePair, *, lacks: Collection[str] = ()) -> None:
    """Check a pair of connected ports against the contract of `SerialPort`.

    Args:
        make_pair: `async with make_pair(config) as (port, peer)` gives two open ports whose data lines are crossed.
            It is called once per check.
        lacks: Features that the link does not have, such as `modem_lines`, `break_signal`, `line_errors`. Checks that
            need them are left out.

    Raises:
        AssertionError: The first check that fails; the text names the rule.
    """
    for rules, needs, body in _checks:
        if needs.isdisjoint(lacks):
            async with make_pair(SerialConfig()) as (port, peer):
                try:
                    with anyio.fail_after(_BOUND):
                        await body(port, peer)
                except Exception as exc:
                    purpose = (body.__doc__ or "").strip()
                    raise AssertionError(f"{rules}: {purpose} Failed with {type(exc).__name__}: {exc}") from exc


async def _receive_exactly(port: SerialPort, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += await port.receive(count - len(data))
    return bytes(data)


async def _until_waiting(port: SerialPort, count: int) -> None:
    while port.input_waiting() < count:
        await anyio.sleep(0.001)


async def _raises(kind: type[BaseException], call: Callable[[], Awaitable[object]]) -> BaseException:
    try:
        await call()
    except kind as exc:
        return exc
    raise AssertionError(f"no {kind.__name__} was raised")


@_check("L-47, L-58")
async def _all_values(port: SerialPort, peer: SerialPort) -> None:
    """Every byte value passes unchanged in both directions."""
    data = bytes(range(256))
    for sender, receiver in ((port, peer), (peer, port)):
        await sender.send(data)
        assert await _receive_exactly(receiver, len(data)) == data


@_check("L-47, L-52")
async def _limits(port: SerialPort, peer: SerialPort) -> None:
    """A receive returns at most its limit, and the rest stays queued."""
    await peer.send(b"0123456789")
    await _until_waiting(port, 10)
    assert await port.receive(4) == b"0123"
    assert port.input_waiting() == 6
    assert await port.receive(100) == b"456789"


@_check("L-48")
async def _arguments(port: SerialPort, peer: SerialPort) -> None:
    """Limits of 0 and unusable buffers are refused before any wait."""
    await _raises(ValueError, lambda: port.receive(0))
    await _raises(ValueError, lambda: port.receive_into(bytearray()))
    await _raises(ValueError, lambda: port.receive_available(limit=0))
    await _raises(TypeError, lambda: port.receive_into(memoryview(b"read-only")))


@_check("L-50")
async def _into(port: SerialPort, peer: SerialPort) -> None:
    """receive_into fills the caller's buffer from its start and leaves the rest alone."""
    buffer = bytearray(b"........")
    await peer.send(b"abc")
    await _until_waiting(port, 3)
    assert await port.receive_into(buffer) == 3
    assert buffer == b"abc....."


@_check("L-51", "input_waiting")
async def _available(port: SerialPort, peer: SerialPort) -> None:
    """receive_available returns everything queued, or the limit, with one read."""
    data = bytes(1000)
    await peer.send(data)
    await _until_waiting(port, len(data))
    reads = port.stats().read_calls
    assert await port.receive_available(limit=300) == data[:300]
    assert await port.receive_available() == data[300:]
    assert port.stats().read_calls - reads == 2


@_check("L-57, L-61")
async def _guards(port: SerialPort, peer: SerialPort) -> None:
    """A second receiver is refused; a waiting receiver does not disturb a sender."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(port.receive)
        await anyio.wait_all_tasks_blocked()
        await _raises(anyio.BusyResourceError, lambda: port.receive())
        await _raises(anyio.BusyResourceError, lambda: port.receive_available())
        await port.send(b"still possible")
        tasks.cancel_scope.cancel()
    assert await _receive_exactly(peer, 14) == b"still possible"


@_check("L-58, L-61")
async def _bulk(port: SerialPort, peer: SerialPort) -> None:
    """More than any queue holds passes in both directions at once, against slow readers."""
    data = bytes(range(256)) * 64

    async def read(receiver: SerialPort) -> None:
        await checkpoint()
        assert await _receive_exactly(receiver, len(data)) == data

    async with anyio.create_task_group() as tasks:
        for sender, receiver in ((port, peer), (peer, port)):
            tasks.start_soon(sender.send, data)
            tasks.start_soon(read, receiver)


@_check("L-59, L-60")
async def _payloads(port: SerialPort, peer: SerialPort) -> None:
    """Any buffer can be sent; an empty one sends nothing."""
    await port.send(b"")
    await port.send_buffer(memoryview(b"a.b.c.")[::2])
    assert await _receive_exactly(peer, 3) == b"abc"
    assert peer.input_waiting() == 0


@_check("L-63, L-65")
async def _drain(port: SerialPort, peer: SerialPort) -> None:
    """Draining waits for the queue and leaves both directions usable."""
    await port.send(b"x" * 100)
    await port.drain()
    assert port.output_waiting() == 0
    await port.send_eof()
    await port.send_eof()
    assert await _receive_exactly(peer, 100) == b"x" * 100
    await peer.send(b"y")
    assert await port.receive() == b"y"


@_check("L-64")
async def _stats(port: SerialPort, peer: SerialPort) -> None:
    """The totals count every byte once, and are readable after close."""
    before = port.stats().bytes_sent, peer.stats().bytes_received
    await port.send(b"12345")
    await _receive_exactly(peer, 5)
    await port.aclose()
    assert (port.stats().bytes_sent - before[0], peer.stats().bytes_received - before[1]) == (5, 5)


@_check("L-70, L-72, L-74")
async def _configure(port: SerialPort, peer: SerialPort) -> None:
    """`config` is the very object last applied, and `configure` does not disturb a waiting reader."""
    config = port.config.with_changes(baudrate=57_600)
    received: list[bytes] = []

    async def read() -> None:
        received.append(await _receive_exactly(peer, 5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        for end in (port, peer):
            await end.configure(config)
            assert end.config is config
        await port.send(b"after")
    assert received == [b"after"]


@_check("L-70, L-101, L-104")
async def _cut_configure(port: SerialPort, peer: SerialPort) -> None:
    """A cancelled configure is done completely or not at all, and does not block a later one."""
    original = port.config
    for turns in range(6):
        before = port.config
        config = before.with_changes(baudrate=9600 if turns % 2 else 57_600)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(port.configure, config)
            for _ in range(turns):
                await checkpoint()
            tasks.cancel_scope.cancel()
        assert port.config is config or port.config is before
        await port.configure(config)
        assert port.config is config
        await peer.configure(config)
        await port.send(b"after")
        assert await _receive_exactly(peer, 5) == b"after"
    for end in (port, peer):
        await end.configure(original)


@_check("L-70")
async def _control_in_turn(port: SerialPort, peer: SerialPort) -> None:
    """Control calls of several tasks do not disturb one another: each is done, and the config is one of theirs."""
    configs = [port.config.with_changes(baudrate=rate) for rate in (9600, 57_600, 115_200)]
    async with anyio.create_task_group() as tasks:
        for config in configs:
            tasks.start_soon(port.configure, config)
    assert port.config in configs
    await peer.configure(port.config)
    await port.send(b"after")
    assert await _receive_exactly(peer, 5) == b"after"


@_check("L-84, L-85", "input_waiting")
async def _reset(port: SerialPort, peer: SerialPort) -> None:
    """reset_input_buffer drops queued bytes, and none that arrive later."""
    await peer.send(b"stale")
    await _until_waiting(port, 5)
    await port.reset_input_buffer()
    assert port.input_waiting() == 0
    await port.reset_output_buffer()
    await peer.send(b"fresh")
    assert await _receive_exactly(port, 5) == b"fresh"


@_check("L-92, L-96, L-97")
async def _close(port: SerialPort, peer: SerialPort) -> None:
    """A waiting reader gets SerialClosedError on close, later calls raise it too, and closing again does nothing."""
    outcome: list[BaseException] = []

    async def read() -> None:
        outcome.append(await _raises(SerialClosedError, lambda: port.receive()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        await port.aclose()
    assert outcome
    assert not port.is_open
    await port.aclose()
    await port.send_eof()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: port.receive(),
        lambda: port.receive_into(bytearray(1)),
        lambda: port.receive_available(),
        lambda: port.send(b"x"),
        lambda: port.send(b""),
        lambda: port.drain(),
        lambda: port.configure(port.config),
        lambda: port.send_break(0),
        lambda: port.modem_lines(),
        lambda: port.control_lines(),
        lambda: port.set_control_lines(),
        lambda: port.line_errors(),
        lambda: port.reset_input_buffer(),
        lambda: port.reset_output_buffer(),
    ]
    for call in calls:
        await _raises(SerialClosedError, call)


@_check("L-101, L-106")
async def _checkpoints(port: SerialPort, peer: SerialPort) -> None:
    """In a cancelled scope every call is cancelled, and has neither received nor sent anything."""
    await peer.send(b"kept")
    await _until_waiting(port, 4)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: port.receive(),
        lambda: port.receive_available(),
        lambda: port.send(b"never"),
        lambda: port.drain(),
        lambda: port.configure(port.config),
        lambda: port.reset_input_buffer(),
    ]
    for call in calls:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught
    assert await _receive_exactly(port, 4) == b"kept"
    assert peer.input_waiting() == 0


@_check("L-102, L-104")
async def _cancellation(port: SerialPort, peer: SerialPort) -> None:
    """Receives that are cancelled at many points lose no byte, and the port stays usable."""
    data = bytes(range(256)) * 4
    received = bytearray()

    async def send() -> None:
        for start in range(0, len(data), 7):
            await peer.send(data[start : start + 7])
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        turn = 0
        while len(received) < len(data):
            turn += 1
            with anyio.move_on_after(turn % 5 * 0.0002):
                received += await port.receive(1 + turn % 13)
    assert received == data


@_check("L-82, L-83", "modem_lines", "control_lines")
async def _lines(port: SerialPort, peer: SerialPort) -> None:
    """RTS appears as the peer's CTS, and a call without arguments leaves it unchanged."""
    for level in (True, False):
        await port.set_control_lines(rts=level)
        await port.set_control_lines()
        assert (await port.control_lines()).rts is level
        with anyio.fail_after(1):
            while (await peer.modem_lines()).cts is not level:
                await anyio.sleep(0.001)


@_check("L-81, L-86", "break_signal", "line_errors")
async def _break(port: SerialPort, peer: SerialPort) -> None:
    """The peer counts a break, and data passes afterwards."""
    before = (await peer.line_errors()).breaks
    await port.send_break(0.05)
    with anyio.fail_after(1):
        while (await peer.line_errors()).breaks == before:
            await anyio.sleep(0.001)
    await peer.reset_input_buffer()
    await port.send(b"ok")
    assert (await _receive_exactly(peer, 2))[-2:] == b"ok"
