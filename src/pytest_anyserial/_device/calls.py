"""The methods that scripts and devices share: send unprompted, once or repeatedly, and wait for the open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from anyio.from_thread import BlockingPortal

from .. import _loops
from .._text import caller
from .far_end import FarEnd
from .steps import SerialRepeat, UnpromptedSend, WaitForOpen, as_bytes, seconds


class StepQueue(Protocol):
    """A script or device that takes further steps."""

    def add(self, step: UnpromptedSend | SerialRepeat | WaitForOpen, /) -> None:
        """Append a step, which is performed once every earlier required step has happened."""
        ...


class FarEndCalls:
    """The methods of both scripts and devices."""

    def __init__(self, queue: StepQueue, far_end: FarEnd) -> None:
        self._steps = queue
        self._far_end = far_end
        self._call_on_loop = _caller(far_end.portal)

    def send(self, data: bytes, /, *, after: float = 0.0) -> None:
        """Send bytes unprompted, once every earlier required step has happened.

        A pause of `after` seconds then passes in the background, so replies do not wait for it.
        """
        step = UnpromptedSend(as_bytes("unasked data", data), seconds("after", after))
        self._do(lambda: self._steps.add(step))

    def every(self, interval: float, data: bytes | Callable[[], bytes], /) -> SerialRepeat:
        """Send bytes every `interval` seconds, once every earlier required step has happened.

        They are sent in the background until the test is over, or until you call `stop()` of the result. In virtual
        time they are sent at most 20,000 times, because otherwise a test that hangs would never end.

        Args:
            interval: Seconds before the first send and between two sends.
            data: The bytes, or a function that makes them for each send.
        """
        if not seconds("interval", interval):
            raise ValueError("interval must be more than 0 s")
        given = data if callable(data) else as_bytes("unasked data", data)
        step = SerialRepeat(float(interval), given, caller(1))
        self._do(lambda: self._steps.add(step))
        return step

    def on_open(self) -> None:
        """Perform the steps after this one only once the other side has opened its port.

        A driver that empties its input queue when it opens the port then loses nothing. If the port is open already,
        the steps continue at once.
        """
        step = WaitForOpen(caller(1))
        self._do(lambda: self._steps.add(step))

    def _do(self, work: Callable[[], object]) -> None:
        """Run `work` on the loop of the far end. A fixture may call this while the loop does not run."""
        if self._far_end.portal is not None:
            self._far_end.portal.call(work)
        else:
            work()
        self._call_on_loop(self._far_end.notify)

    async def _wait(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition, at most `timeout` seconds.

        Raises:
            AssertionError: The condition did not become true.
        """
        __tracebackhide__ = True
        with anyio.move_on_after(timeout):
            await self._far_end.wait_until(lambda: condition() or self._far_end.is_over)
        if not condition():
            raise AssertionError(self._far_end.verdict() or self._unfinished(timeout))

    def _unfinished(self, timeout: float) -> str:
        return f"the far end was still answering after {timeout:g} s"


class BlockingCalls(FarEndCalls):
    """The same for a test without a loop, where the far end runs on a loop in its own thread."""

    def _call(self, wait: Callable[[], Awaitable[None]]) -> None:
        __tracebackhide__ = True
        assert self._far_end.portal is not None
        errors: list[AssertionError] = []

        async def run() -> None:
            try:
                await wait()
            except AssertionError as exc:
                errors.append(exc)

        self._far_end.portal.call(run)
        if errors:
            raise AssertionError(str(errors[0]))


def _caller(portal: BlockingPortal | None) -> Callable[[Callable[[], object]], object]:
    return _loops.scheduler() if portal is None else portal.call
