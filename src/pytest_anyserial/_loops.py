"""Which event loops a test runs on, and whether it really does.

Loops are chosen through the value of AnyIO's `anyio_backend` fixture. What a test id says is compared with what runs.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, NamedTuple, cast

import pytest

from ._options import LOOPS, chosen_loops, missing_loop

#: Values of `anyio_backend`.
_BACKENDS: dict[str, Any] = {
    "asyncio": "asyncio",
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": "trio",
}
#: Modules whose handlers of a signal end a test.
_ALARMS = ("pytest_timeout", "pytest_anyserial._mutation.limits")


class Loop(NamedTuple):
    """A loop, in the words of test ids; `word` is None for a loop that only its owner can name."""

    library: str
    word: str | None
    implementation: str = ""


def parameters(config: pytest.Config, backends: Mapping[str, Any] = _BACKENDS, elsewhere: str = "") -> list[Any]:
    """One pytest parameter per loop; a loop that is not installed, or not in `backends`, is skipped with a reason."""
    marked: list[Any] = []
    for name in chosen_loops(config) or LOOPS:
        reason = missing_loop(name) or (elsewhere if name not in backends else None)
        marks = () if reason is None else pytest.mark.skip(reason=reason)
        marked.append(pytest.param(backends.get(name), id=name, marks=marks))
    return marked


def claimed(backend: Any) -> Loop:
    """The loop that a value of `anyio_backend` stands for."""
    if isinstance(backend, str):
        return Loop(backend, backend)
    match backend:
        case (str() as name, dict()):
            options = cast("dict[str, Any]", backend[1])
        case _:
            # AnyIO refuses it when it makes the loop.
            return Loop(type(backend).__name__, None)
    if name != "asyncio":
        return Loop(name, name)
    factory = options.get("loop_factory")
    if factory is not None:
        return Loop(name, getattr(factory, "stands_for", None))
    return Loop(name, "uvloop" if options.get("use_uvloop") else "asyncio")


def _in_trio() -> bool:
    # Trio as a guest runs inside another loop, so it is asked first.
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_task()


def running() -> Loop:
    """The loop that runs the calling task."""
    if _in_trio():
        return Loop("trio", "trio")
    kind = type(asyncio.get_running_loop())
    package: str = getattr(kind, "stands_for", kind.__module__.partition(".")[0])
    word = "uvloop" if package == "winloop" else package
    return Loop("asyncio", word, f"{kind.__module__}.{kind.__qualname__}")


def scheduler() -> Callable[[Callable[[], object]], object]:
    """How to have the running loop call something, also from outside of it."""
    if _in_trio():
        call: Callable[[Callable[[], object]], object] = sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon
        return call
    return asyncio.get_running_loop().call_soon_threadsafe


@contextmanager
def outcomes_reach(end: Callable[[BaseException], None]) -> Generator[None]:
    """Within the block, hand to `end` what a signal handler raised and the loop kept to itself.

    uvloop gives every exception but KeyboardInterrupt to its exception handler, so the failure that pytest-timeout
    raises from SIGALRM would be a line of log, and the test would go on waiting.
    """
    if _in_trio():
        yield
        return
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        if isinstance(exception, pytest.fail.Exception):
            end(exception)
        elif handler is not None:
            handler(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(handler)


def comes_from_a_signal(exc: BaseException) -> bool:
    """Whether Ctrl-C or pytest-timeout raised it, wherever the main thread was, and not what pytest had called."""
    if isinstance(exc, pytest.fail.Exception):
        frames = traceback.walk_tb(exc.__traceback__)
        return any(frame.f_globals.get("__name__") in _ALARMS for frame, _ in frames)
    return isinstance(exc, KeyboardInterrupt)


def check(backend: Any, item: pytest.Item) -> None:
    """Fail unless the calling task runs on the loop that `backend`, and so the test id, stands for."""
    __tracebackhide__ = True
    claim, fact = claimed(backend), running()
    if claim.library == fact.library and claim.word in (None, fact.word):
        return
    actual = fact.word if not fact.implementation else f"{fact.word} ({fact.implementation})"
    pytest.fail(
        f"this test stands for {claim.word or claim.library}, but runs on {actual}.\n{_cause(item)}",
        pytrace=False,
    )


def _cause(item: pytest.Item) -> str:
    alive = {
        f"{definition.argname!r} ({definition.scope} scope)"
        for test in item.session.items
        if isinstance(test, pytest.Function)
        for definitions in test._fixtureinfo.name2fixturedefs.values()
        for definition in definitions
        if definition.scope != "function"
        and definition.cached_result is not None
        and (isasyncgenfunction(definition.func) or iscoroutinefunction(definition.func))
    }
    if alive:
        return (
            f"AnyIO keeps its event loop while an async fixture of wider scope is alive: {', '.join(sorted(alive))}. "
            "Let that fixture take 'anyio_backend' as an argument, so that it is set up again for each loop, "
            "or give it function scope."
        )
    return (
        "Another plugin or a loop policy has chosen the loop. Remove it for this test, or say which loop runs with a "
        "fixture 'anyio_backend' of your own."
    )


def taken_over(node: pytest.Function) -> str | None:
    """The mark that has another plugin run this test; None when AnyIO does."""
    for mark, module in (("asyncio", "pytest_asyncio.plugin"), ("trio", "pytest_trio.plugin")):
        if node.get_closest_marker(mark) is not None and is_active(node.config, module):
            return mark
    return None


def mode_of_pytest_asyncio(config: pytest.Config) -> str:
    """`auto` or `strict`."""
    mode: str = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
    return mode


def is_active(config: pytest.Config, module: str) -> bool:
    """Whether a plugin is registered, under whatever name."""
    return module in sys.modules and config.pluginmanager.is_registered(sys.modules[module])
