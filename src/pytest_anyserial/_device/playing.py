"""Run a far end on the loop of the test, on a loop in a thread, or within a block of the test."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.from_thread import start_blocking_portal

from .blocked import BlockedLoop
from .device import SerialDevice, SyncSerialDevice
from .dialogue import Dialogue
from .far_end import FarEnd, Responder
from .opening import wait_until_opened
from .script import SerialScript, SyncSerialScript
from .service import Service
from .steps import shown

if TYPE_CHECKING:
    from anyserial import SerialConfig, SerialPort

    from .._links.link import SerialLink
    from .._test import SerialTest
    from .._wire import Channel
    from .expectation import SerialExpectation


@asynccontextmanager
async def play_script(link: SerialLink, port: SerialPort) -> AsyncGenerator[SerialScript]:
    """Run a script on `port`, end B, within an `async with` block; its verdict is raised at the end of the block."""
    dialogue = dialogue_of(link)
    async with _on_this_loop(dialogue, link, port) as far_end:
        yield SerialScript(dialogue, far_end)


@asynccontextmanager
async def play_device(link: SerialLink, port: SerialPort) -> AsyncGenerator[SerialDevice]:
    """Run a device like `play_script`."""
    service = service_of(link)
    async with _on_this_loop(service, link, port) as far_end:
        yield SerialDevice(service, far_end)


@contextmanager
def play_script_in_thread(link: SerialLink, config: SerialConfig) -> Generator[SyncSerialScript]:
    """Run a script on end B within a `with` block, for a test without a loop."""
    dialogue = dialogue_of(link)
    with _in_thread(dialogue, link, config) as far_end:
        yield SyncSerialScript(dialogue, far_end)


@contextmanager
def play_device_in_thread(link: SerialLink, config: SerialConfig) -> Generator[SyncSerialDevice]:
    """Run a device like `play_script_in_thread`."""
    service = service_of(link)
    with _in_thread(service, link, config) as far_end:
        yield SyncSerialDevice(service, far_end)


@asynccontextmanager
async def play_in_block(responder: Responder, link: SerialLink, port: SerialPort) -> AsyncGenerator[FarEnd]:
    """Run within an `async with` block of the test, and raise the error, if any, at the end of the block."""
    __tracebackhide__ = True
    error: BaseException | None = None
    test = link._test
    scope = anyio.CancelScope()
    far_end = test.block = _far_end(responder, link, port, scope.cancel)
    with scope:
        async with far_end.playing():
            # Keep the exception, because a task group would wrap it in an exception group.
            try:
                yield far_end
                await far_end.settle()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as exc:
                error = exc
    if error is not None:
        raise error
    far_end.raise_verdict(AssertionError)
    test.block = None


@asynccontextmanager
async def _on_this_loop(responder: Responder, link: SerialLink, port: SerialPort) -> AsyncGenerator[FarEnd]:
    test = link._test

    def end_body() -> None:
        test.interrupt()
        # The body may wait for a worker thread, in which the driver waits for its blocking port.
        test.close_ports(only_blocking=True)

    def release() -> None:
        test.close_ports(only_blocking=True)
        if link._wiring.bench is None and not link._ports:
            # Another library or program has the pty open, and notices only a hang-up.
            link.unplug()

    far_end = test.far_end = _far_end(responder, link, port, end_body)
    async with far_end.playing():
        with BlockedLoop(port, release).watching(far_end, virtual=test.clock is not None):
            yield far_end
            if test.passed:
                await far_end.settle()
    # If the test has failed by itself, only that failure is reported.
    if test.passed:
        far_end.raise_verdict()


@contextmanager
def _in_thread(responder: Responder, link: SerialLink, config: SerialConfig) -> Generator[FarEnd]:
    test = link._test

    @asynccontextmanager
    async def playing() -> AsyncGenerator[FarEnd]:
        async with link.opened("peer", config) as port:
            far_end = _far_end(responder, link, port, lambda: _end_blocking_body(test, link))
            async with far_end.playing():
                yield far_end

    with (
        start_blocking_portal("asyncio", name=f"anyserial {responder.name}") as portal,
        portal.wrap_async_context_manager(playing()) as far_end,
    ):
        far_end.portal = portal
        test.far_end = far_end
        yield far_end
        if test.passed:
            portal.call(far_end.settle)
    if test.passed:
        far_end.raise_verdict()


def _end_blocking_body(test: SerialTest, link: SerialLink) -> None:
    """End calls that wait for a reply that cannot come: close the ports, and hang up on those of other libraries."""
    test.close_ports()
    if link._wiring.bench is None:
        link.unplug()


def _far_end(responder: Responder, link: SerialLink, port: SerialPort, on_settled: Callable[[], object]) -> FarEnd:
    return FarEnd(
        responder,
        port,
        bytes_sent=link._bytes_sent,
        is_end_a_closed=link._is_end_a_closed,
        wait_opened=lambda far_end, over: wait_until_opened(link, far_end, over),
        on_settled=on_settled,
        mark=link.transcript.mark,
        virtual=link._test.clock is not None,
    )


def dialogue_of(link: SerialLink) -> Dialogue:
    """Return an empty script that marks its progress on the timeline."""
    mark = link.transcript.mark

    def note(step: SerialExpectation) -> None:
        mark("met", functools.partial(step.timeline_text, step.times_met))
        if dialogue.channel is not None:
            dialogue.channel.met(step.requests[-1])

    dialogue = Dialogue(strict=link._test.needs.script_strict, on_met=note)
    dialogue.channel = _channel(link)
    return dialogue


def service_of(link: SerialLink) -> Service:
    """Return a device without a handler that marks its requests on the timeline."""
    mark = link.transcript.mark

    def note(request: bytes) -> None:
        mark("met", functools.partial(shown, request))
        if service.channel is not None:
            service.channel.met(request)

    service = Service(on_request=note)
    service.channel = _channel(link)
    return service


def _channel(link: SerialLink) -> Channel | None:
    return None if link._test.wire is None else link._test.wire.channel(link._test)
