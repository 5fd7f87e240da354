"""Control calls: settings, lines, queues, drain, break. A backend runs at most one of them at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .._backends.readiness import checkpoint, checkpoint_if_cancelled
from ..config import SerialConfig, seconds_per_byte
from .calls import Call
from .core import PortCore

_T = TypeVar("_T")


class Control:
    """The control calls of a port; each reports its result or failure to the meter."""

    def __init__(self, core: PortCore) -> None:
        self._core = core
        self._backend = core.backend
        self._meter = core.meter

    async def waiting(
        self, name: str, operation: Callable[[], Awaitable[_T]], *, call: Call | None = None, **arguments: object
    ) -> _T:
        """Make a call that may wait for the device."""
        with self._meter.failures_of(name, **arguments), call or self._core.asking:
            await checkpoint()
            result = await self._core.in_turn(operation)
        self._meter.note(name, result, **arguments)
        return result

    async def at_once(self, name: str, operation: Callable[[], object], **arguments: object) -> None:
        """Make a call that never waits for the device, but is a checkpoint."""
        with self._meter.failures_of(name, **arguments), self._core.asking:
            await checkpoint()
            self._core.state.require_open()
            operation()
        self._meter.note(name, **arguments)

    async def discard(self, name: str, operation: Callable[[], Awaitable[None] | None]) -> None:
        """Make a call that waits only if the device is remote."""

        async def drop() -> None:
            pending = operation()
            if pending is not None:
                await pending

        await self.waiting(name, drop)

    def ask(self, name: str, operation: Callable[[], int]) -> int:
        """Make a call that neither waits nor is a checkpoint."""
        with self._meter.failures_of(name), self._core.asking:
            result = operation()
        self._meter.note(name, result)
        return result

    async def configure(self, config: SerialConfig) -> None:
        core = self._core

        async def apply() -> None:
            applied = config
            if config.exclusive is not core.config.exclusive:
                applied = config.with_changes(exclusive=core.config.exclusive)
            await self._backend.configure(applied)
            core.config = applied

        await self.waiting("configure", apply, call=core.setting, config=config)

    async def set_lines(self, rts: bool | None, dtr: bool | None) -> None:
        if rts is None and dtr is None:
            await self.at_once("set_control_lines", bool, rts=rts, dtr=dtr)
        else:
            set_them = self._backend.set_lines
            await self.waiting("set_control_lines", lambda: set_them(rts=rts, dtr=dtr), rts=rts, dtr=dtr)

    async def drain(self) -> None:
        with self._meter.failures_of("drain"):
            await self._core.finishing.exclusively(self._until_sent)
        self._meter.note("drain")

    async def drain_exact(self) -> None:
        state = self._core.state

        async def wait() -> None:
            await self._until_sent()
            state.require_open()
            await self._backend.drain_hardware()
            # A backend's wait returns without an error if the port is closed meanwhile.
            state.require_open()

        with self._meter.failures_of("drain_exact"):
            await self._core.finishing.exclusively(wait)
        self._meter.note("drain_exact")

    async def _until_sent(self) -> None:
        await checkpoint()
        while pending := self._output_waiting():
            estimate = pending * seconds_per_byte(self._core.config)
            await anyio.sleep(min(max(estimate, 0.001), 0.05))

    def _output_waiting(self) -> int:
        with self._core.asking:
            return self._backend.output_waiting()

    async def send_break(self, duration: float) -> None:
        core, backend = self._core, self._backend

        async def hold_the_line() -> None:
            await checkpoint_if_cancelled()
            try:
                # Set the mark first, because Ctrl-C may come as soon as the line is held.
                core.break_on = True
                backend.set_break(True)
                self._meter.note("send_break", duration=duration)
                await anyio.sleep(duration)
            except BaseException:
                core.end_break()
                raise
            # If the port was closed meanwhile, its teardown has ended the break.
            if not core.state.closed:
                core.break_on = False
                backend.set_break(False)

        with self._meter.failures_of("send_break", duration=duration):
            await core.finishing.exclusively(hold_the_line)
