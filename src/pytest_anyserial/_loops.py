"""Which event loops a test runs on, and whether it really does.

Loops are chosen through the value of AnyIO's `anyio_backend` fixture. What a test id says is compared with what runs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, NamedTuple

import pytest

from ._names import choice

#: Test id to value of `anyio_backend`.
BACKENDS: dict[str, Any] = {
    "asyncio": "asyncio",
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": "trio",
}


class Loop(NamedTuple):
    """A loop, in the words of test ids; `word` is None for a loop that only its owner can name."""

    library: str
    word: str | None
    implementation: str = ""


def chosen(config: pytest.Config) -> tuple[str, ...]:
    """The loops asked for, or none for "all that there are".

    Raises:
        pytest.UsageError: One is unknown or not installed.
    """
    names = choice(config, "loop", BACKENDS)
    for name in names:
        reason = missing(name)
        if reason is not None:
            raise pytest.UsageError(f"event loop {name!r} was asked for, but {reason}")
    return names


def missing(name: str) -> str | None:
    """Why this loop cannot run here, and what to do; None when it can."""
    if name == "asyncio" or importlib.util.find_spec(name) is not None:
        return None
    return f"{name} is not installed: pip install 'anyserial[{name}]'"


def parameters(config: pytest.Config) -> list[Any]:
    """One pytest parameter per loop; a loop that is not installed is a visible skip."""
    marked: list[Any] = []
    for name in chosen(config) or BACKENDS:
        reason = missing(name)
        marks = () if reason is None else pytest.mark.skip(reason=reason)
        marked.append(pytest.param(BACKENDS[name], id=name, marks=marks))
    return marked


def claimed(backend: Any) -> Loop:
    """What a value of `anyio_backend` stands for."""
    pair: tuple[str, dict[str, Any]] = (backend, {}) if isinstance(backend, str) else backend
    name, options = pair
    if name != "asyncio":
        return Loop(name, name)
    if options.get("loop_factory") is not None:
        return Loop(name, None)
    return Loop(name, "uvloop" if options.get("use_uvloop") else "asyncio")


def running() -> Loop:
    """What runs the calling task."""
    # Trio as a guest runs inside another loop, so it is asked first.
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        return Loop("trio", "trio")
    kind = type(asyncio.get_running_loop())
    package = kind.__module__.partition(".")[0]
    word = "uvloop" if package == "winloop" else package
    return Loop("asyncio", word, f"{kind.__module__}.{kind.__qualname__}")


def scheduler() -> Callable[[Callable[[], object]], object]:
    """How to have the running loop call something, also from outside of it."""
    if running().library == "trio":
        scheduler: Callable[[Callable[[], object]], object] = (
            sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon
        )
        return scheduler
    return asyncio.get_running_loop().call_soon_threadsafe


def check(backend: Any, item: pytest.Item) -> None:
    """Fail unless the calling task runs on the loop that `backend`, and so the test id, stands for."""
    __tracebackhide__ = True
    claim, fact = claimed(backend), running()
    if claim.library == fact.library and claim.word in (None, fact.word):
        return
    actual = fact.word if not fact.implementation else f"{fact.word} ({fact.implementation})"
    pytest.fail(
        f"{item.nodeid} stands for {claim.word or claim.library}, but runs on {actual}.\n{_cause(item)}",
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
    """Which other plugin runs this test and what to do about it; None when AnyIO does."""
    plugins, config = node.config.pluginmanager, node.config
    if plugins.has_plugin("asyncio"):
        if node.get_closest_marker("asyncio") is not None:
            if _asyncio_auto(config):
                return "pytest-asyncio in auto mode. Set asyncio_mode = strict and mark its own tests"
            return "pytest-asyncio. Remove the mark 'asyncio' from this test"
        if _asyncio_auto(config):
            return "pytest-asyncio in auto mode. Set asyncio_mode = strict and mark its own tests"
    if plugins.has_plugin("trio"):
        if config.getini("trio_mode"):
            return "pytest-trio with trio_mode. Switch trio_mode off and mark its own tests with 'trio'"
        if node.get_closest_marker("trio") is not None:
            return "pytest-trio. Remove the mark 'trio' from this test"
    return None


def _asyncio_auto(config: pytest.Config) -> bool:
    mode: object = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
    return mode == "auto"
