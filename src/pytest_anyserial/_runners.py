"""Serial tests beside plugins that take every async test: AnyIO runs ours, with their fixtures; the others stay theirs.

pytest-asyncio in auto mode and pytest-trio with `trio_mode` decide by `inspect.iscoroutinefunction`. While one of them
looks, the function of a serial test is a plain stand-in; what it did to the fixtures is undone while ours are set up.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from . import _library, _loops
from ._keys import GUARD, RUNNING
from ._names import NAMES, STANDS_FOR

_PYTEST_ASYNCIO = "pytest_asyncio.plugin"


def attach(config: pytest.Config) -> None:
    """Register what is needed beside the plugins of this run; nothing if none of them takes tests."""
    if _loops.is_active(config, _PYTEST_ASYNCIO):
        # Registered last, so that its wrappers are the outermost.
        config.pluginmanager.register(_BesideAsyncio(), "pytest_anyserial beside pytest-asyncio")
    if _loops.is_active(config, "pytest_trio.plugin") and config.getini("trio_mode"):
        config.pluginmanager.register(_BesideTrio(), "pytest_anyserial beside pytest-trio")


class _BesideAsyncio:
    def __init__(self) -> None:
        self._hidden: list[tuple[pytest.Function, Any]] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Generator[None, object, object]:
        """Keep pytest-asyncio from marking the definition, and from multiplying it by its loop factories."""
        if not NAMES.isdisjoint(metafunc.fixturenames) and _is_ours(metafunc.definition):
            self._hide(metafunc.definition)
        try:
            return (yield)
        finally:
            self._show()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pycollect_makeitem(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._show()

    @pytest.hookimpl(specname="pytest_pycollect_makeitem", wrapper=True, trylast=True)
    def pytest_anyserial_hide_items(self) -> Generator[None, object, object]:
        made = yield
        for item in _each(made):
            if isinstance(item, pytest.Function) and hasattr(item, "callspec") and _is_ours(item):
                self._hide(item)
                _forget_event_loop(item.fixturenames, item.obj)
        return made

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with ExitStack() as stack:
            if isinstance(item, pytest.Function) and _is_ours(item):
                for definitions in item._fixtureinfo.name2fixturedefs.values():
                    for definition in definitions:
                        stack.enter_context(_as_written(definition))
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse a test whose fixture of wider scope is alive already, on the loop that set it up."""
        if not isinstance(item, pytest.Function) or not _is_ours(item):
            return
        for name, definitions in item._fixtureinfo.name2fixturedefs.items():
            definition = definitions[-1]
            if (
                definition.scope != "function"
                and definition.cached_result is not None
                and _is_async(definition.func)
                and "anyio_backend" not in definition.argnames
                and _takes_all(item.config)
            ):
                pytest.fail(
                    f"fixture {name!r} is alive on pytest-asyncio's loop, not on this test's: an earlier test has set "
                    f"it up, with {definition.scope} scope. Give it function scope, or write one for serial tests.",
                    pytrace=False,
                )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Let AnyIO set up the async fixtures of a serial test, on the loop of the test."""
        item: pytest.Function | None = request.config.stash.get(RUNNING, None)
        if item is None or not item.stash[GUARD].is_on_a_loop:
            return (yield)
        if not _is_async(fixturedef.func):
            return (yield)
        if fixturedef.scope != "function" and "anyio_backend" not in fixturedef.argnames and _takes_all(item.config):
            # The next test may be pytest-asyncio's, or on another loop.
            item.addfinalizer(functools.partial(fixturedef.finish, request=request))  # type: ignore[arg-type]
        with _set_up_by_anyio(fixturedef, request):
            return (yield)

    def _hide(self, node: pytest.Function) -> None:
        self._hidden.append((node, node.obj))
        node.obj = _stand_in(node.obj)

    def _show(self) -> None:
        while self._hidden:
            node, function = self._hidden.pop()
            node.obj = function


class _BesideTrio:
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, object, object]:
        """Take the mark off again that `trio_mode` puts on every async test."""
        ours = [item for item in items if isinstance(item, pytest.Function) and _is_ours(item)]
        try:
            return (yield)
        finally:
            for item in ours:
                item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "trio"]


def _takes_all(config: pytest.Config) -> bool:
    return _loops.mode_of_pytest_asyncio(config) == "auto"


def _is_ours(node: pytest.Function) -> bool:
    """Whether AnyIO is to run a test: it is async, uses a fixture of ours, and is not marked for another plugin."""
    if NAMES.isdisjoint(node.fixturenames if isinstance(node, pytest.Item) else ()):
        return False
    try:
        _library.require_for_run()
    except pytest.UsageError:
        # Said when the test is generated.
        return False
    from ._matrix import generate

    return generate.is_async(node) and bool(generate.used(node)) and not _loops.taken_over(node)


def _stand_in(function: Callable[..., object]) -> Callable[..., object]:
    # Without the attributes: Hypothesis's lead to a coroutine function.
    @functools.wraps(function, updated=())
    def stand_in(*args: Any, **kwargs: Any) -> object:
        return function(*args, **kwargs)

    setattr(stand_in, STANDS_FOR, function)
    return stand_in


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _each(made: Any) -> Iterator[object]:
    yield from made if isinstance(made, list) else (made,)


def _forget_event_loop(names: list[str], function: Callable[..., object]) -> None:
    """Leave out what only a wrapped fixture asks for; see `_as_written`."""
    if "event_loop" in names and "event_loop" not in inspect.signature(function).parameters:
        names.remove("event_loop")


@contextmanager
def _as_written(fixturedef: Any) -> Generator[None]:
    """A fixture without the wrapper that pytest-asyncio before 1.1 puts around it at collection.

    Before 1.0 the wrapper also asks for a fixture `event_loop`, which in the end closes whatever loop it finds.
    """
    function, names = fixturedef.func, fixturedef.argnames
    if getattr(function, "__globals__", {}).get("__name__") != _PYTEST_ASYNCIO or not hasattr(function, "__wrapped__"):
        yield
        return
    fixturedef.func = function.__wrapped__
    parameters = inspect.signature(fixturedef.func).parameters
    fixturedef.argnames = tuple(name for name in names if name in parameters)
    try:
        yield
    finally:
        fixturedef.func, fixturedef.argnames = function, names


@contextmanager
def _set_up_by_anyio(fixturedef: object, request: object) -> Generator[None]:
    """AnyIO's wrapper of the hook, around all others: whichever comes first has the fixture."""
    wrapper = sys.modules["anyio.pytest_plugin"].pytest_fixture_setup(fixturedef, request)
    next(wrapper)
    try:
        yield
    finally:
        wrapper.close()
