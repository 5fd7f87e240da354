"""Every async test runs on the three loops, in at most twenty seconds; `ports` runs it on a mock and on a pty link."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import settings

from anyserial import SerialPort
from anyserial.testing import PtyPair, pty_pair

from .support import open_pair

# A machine that is busy elsewhere may take long over one example; pytest-timeout bounds the test as a whole.
settings.register_profile("anyserial", deadline=None)
settings.load_profile("anyserial")

_needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
_needs_trio = pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="trio is not installed")
_LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=_needs_uvloop),
    pytest.param(("trio", {}), id="trio", marks=_needs_trio),
]
_BOUND = 20.0

#: Modules of this folder that also run on Windows; the others need ptys, descriptors or Linux.
_PORTABLE = frozenset((Path(__file__).parent / "windows" / "portable.txt").read_text(encoding="ascii").split())


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """On Windows, collect only what is known to run there."""
    if sys.platform != "win32":
        return None
    name = collection_path.relative_to(Path(__file__).parent).as_posix()
    if collection_path.is_dir():
        return None if name == "." or any(module.startswith(f"{name}/") for module in _PORTABLE) else True
    return None if name in _PORTABLE or not collection_path.name.startswith("test_") else True


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


_needs_ptys = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@pytest.fixture(params=["mock", pytest.param("pty", marks=_needs_ptys)])
async def ports(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open ports that face each other, once in memory and once on pseudo terminals."""
    async with open_pair(request.param) as pair:
        yield pair


@pytest.fixture
async def mock_ports(anyio_backend: object) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open mock ports that face each other."""
    async with open_pair("mock") as pair:
        yield pair


@pytest.fixture
async def pty_ports(anyio_backend: object) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open ports on a pair of pseudo terminals."""
    _skip_without_ptys()
    async with open_pair("pty") as pair:
        yield pair


@pytest.fixture
def ptys() -> Iterator[PtyPair]:
    """A pair of joined pseudo terminals that nobody has opened yet."""
    _skip_without_ptys()
    with pty_pair() as pair:
        yield pair


def _skip_without_ptys() -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals")
