"""Virtual time on a loop that the project chooses: add a clock to the options of its `anyio_backend`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Final, cast

import pytest

from .._loops import claimed
from .clock import SerialClock, Source, source_of
from .virtual_loop import LoopTime

#: Loop factories that can be replaced by a virtual one, because only the time differs.
_REPLACEABLE: Final = (None, asyncio.new_event_loop, asyncio.SelectorEventLoop)


def with_virtual_time(backend: Any) -> tuple[tuple[str, dict[str, Any]], Source]:
    """Return an `anyio_backend` whose loop has virtual time, and the source of that time; other options are kept.

    Raises:
        Skipped: The time of that loop cannot be replaced.
    """
    name, options = cast("tuple[str, dict[str, Any]]", (backend, {}) if isinstance(backend, str) else backend)
    source = source_of((name, options))
    if source is not None:
        return (name, options), source
    if name == "trio":
        from trio.testing import MockClock

        clock = MockClock(autojump_threshold=0)
        return (name, {**options, "clock": clock}), clock
    loop = claimed(backend).word
    if loop == "uvloop":
        pytest.skip("serial_clock needs asyncio or trio: uvloop takes its time from libuv")
    if options.get("loop_factory") not in _REPLACEABLE:
        pytest.skip("serial_clock needs asyncio's own loop, and 'anyio_backend' names another loop_factory")
    time = LoopTime()
    return (name, {**options, "loop_factory": time}), time


class ProjectBackend:
    """A plugin that is registered during one test with `serial_clock`: adds the clock to its `anyio_backend`."""

    def __init__(self, definition: pytest.FixtureDef[Any], use: Callable[[SerialClock], None]) -> None:
        self._definition = definition
        self._use = use
        self._project: Any = None
        if definition.cached_result is not None and definition.cached_result[2] is None:
            # The fixture has a wider scope, and an earlier test has set it up.
            self._install_clock()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        value = yield
        if fixturedef is self._definition:
            self._install_clock()
        return value

    def restore(self) -> None:
        """Restore the value of the project for other tests."""
        if self._definition.cached_result is not None and self._project is not None:
            self._replace(self._project)

    def _install_clock(self) -> None:
        assert self._definition.cached_result is not None
        self._project = self._definition.cached_result[0]
        backend, source = with_virtual_time(self._project)
        self._use(SerialClock(source))
        self._replace(backend)

    def _replace(self, value: object) -> None:
        # For each request, pytest reads the value of a fixture from its `cached_result`.
        cached: Any = self._definition.cached_result
        self._definition.cached_result = (value, *cached[1:])
