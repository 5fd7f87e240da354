"""Every async test runs on the three loops, in at most twenty seconds; `ports` runs it on a mock and on a pty link."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import settings

from anyserial import SerialPort
from anyserial.testing import PtyPair

from .support import LINKS, ON_WINDOWS, device_pair, open_pair

#: Whether the tests that take long run too, and Hypothesis takes as many examples as it usually does.
_IS_GATE = "ANYSERIAL_GATE" in os.environ
# A machine that is busy elsewhere may take long over one example; pytest-timeout bounds the test as a whole.
settings.register_profile("anyserial", deadline=None, max_examples=100 if _IS_GATE else 25)
settings.load_profile("anyserial")

_needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
_needs_trio = pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="trio is not installed")
_LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    *([] if ON_WINDOWS else [pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=_needs_uvloop)]),
    pytest.param(("trio", {}), id="trio", marks=_needs_trio),
]
_BOUND = 20.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "posix(reason): why this is not run on Windows; a module with it is not even imported there"
    )
    config.addinivalue_line("markers", "gate(reason): what takes long, and runs where ANYSERIAL_GATE is set")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """On Windows a module with the mark `posix` is skipped without being imported."""
    reason = why_posix_only(module_path) if ON_WINDOWS else None
    if reason is None:
        return None
    module: _PosixModule = _PosixModule.from_parent(parent, path=module_path)
    module.reason = reason
    return module


class _PosixModule(pytest.Module):
    reason = ""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        raise pytest.skip.Exception(self.reason, allow_module_level=True)


def why_posix_only(module: Path) -> str | None:
    """The reason in `pytestmark = pytest.mark.posix(reason)`, or in a list of marks."""
    for statement in ast.parse(module.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=value):
                for node in ast.walk(value):
                    match node:
                        case ast.Call(func=ast.Attribute(attr="posix"), args=[ast.Constant(value=str(reason))]):
                            return f"not for Windows: {reason}"
    return None


# Not function scoped, so that Hypothesis accepts it: nothing in it changes from example to example.
@pytest.fixture(params=_LOOPS, scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop under the test: asyncio, uvloop or trio."""
    backend: tuple[str, dict[str, Any]] = request.param
    name, options = backend
    # The first loop of uvloop makes a pipe for signals that lives as long as the process; tests count descriptors.
    anyio.run(anyio.sleep, 0, backend=name, backend_options=options)
    return backend


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that hangs fails where it waits, instead of hanging the run."""
    posix = item.get_closest_marker("posix")
    if ON_WINDOWS and posix is not None:
        item.add_marker(pytest.mark.skip(f"not for Windows: {posix.args[0]}"))
    gate = item.get_closest_marker("gate")
    if gate is not None and not _IS_GATE:
        item.add_marker(pytest.mark.skip(f"{gate.args[0]}: make coverage, or set ANYSERIAL_GATE"))
    if not isinstance(item, pytest.Function) or item.get_closest_marker("anyio") is None:
        return
    # Hypothesis calls the inner test once per example, and the bound is for one of them.
    hypothesis = getattr(item.obj, "hypothesis", None)
    test = item.obj if hypothesis is None else hypothesis.inner_test
    if not inspect.iscoroutinefunction(test) or hasattr(test, "_bounded"):
        return

    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        with anyio.fail_after(_BOUND):
            await test(*args, **kwargs)

    bounded._bounded = True  # type: ignore[attr-defined]
    if hypothesis is None:
        item.obj = bounded
    else:
        hypothesis.inner_test = bounded


@pytest.fixture(params=LINKS)
async def ports(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open ports that face each other, once in memory and once on a pair of the system's."""
    async with open_pair(request.param) as pair:
        yield pair


@pytest.fixture(params=LINKS[:1] if ON_WINDOWS else LINKS)
async def polled_ports(
    request: pytest.FixtureRequest, anyio_backend: object
) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """As `ports`, but only such that try a transfer, wait and try again; a COM port starts one and waits."""
    async with open_pair(request.param) as pair:
        yield pair


@pytest.fixture
async def mock_ports(anyio_backend: object) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open mock ports that face each other."""
    async with open_pair("mock") as pair:
        yield pair


@pytest.fixture
async def pty_ports(anyio_backend: object) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open ports on a pair of pseudo-terminals; on Windows, of COM ports."""
    async with open_pair(LINKS[1]) as pair:
        yield pair


@pytest.fixture
def ptys() -> Iterator[PtyPair]:
    """A pair of joined pseudo-terminals that nobody has opened yet; on Windows, of COM ports."""
    with device_pair() as pair:
        yield pair
