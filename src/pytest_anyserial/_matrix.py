"""Which instances of a test there are: one for each link that has what it needs, times one for each event loop.

Both are added as `parametrize` marks on the test's definition. A mark takes precedence over the parameters of a
fixture, where a second `metafunc.parametrize` for AnyIO's `anyio_backend` would collide with them.
"""

from __future__ import annotations

import dataclasses
from inspect import iscoroutinefunction
from typing import Any, Literal

import pytest

from . import _fixtures, _loops
from ._fixtures import ASYNC, MOCK_ONLY, NAMES, PEERS
from ._links import WIRINGS, Wiring
from ._marker import needs_of
from ._matching import Unmet, match
from ._names import HARDWARE, chosen_links, is_hardware, is_strict


def used(node: pytest.Function) -> frozenset[str]:
    """The fixtures of ours that a test uses, itself or through others; not a project's own of the same name."""
    return frozenset(name for name in NAMES.intersection(node.fixturenames) if _leads_to_ours(node, name))


def is_async(node: pytest.Function) -> bool:
    """Whether the test body is a coroutine function, also under Hypothesis."""
    return iscoroutinefunction(getattr(getattr(node.obj, "hypothesis", None), "inner_test", node.obj))


def generate(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that uses our fixtures.

    Raises:
        pytest.UsageError: A mark or an option is wrong.
    """
    node = metafunc.definition
    needs = needs_of(node)
    fixtures = used(node)
    if not fixtures:
        return
    if fixtures & PEERS:
        needs = dataclasses.replace(needs, peer=True)
    links, unmet = match(needs, _selected(metafunc.config), mock_only=bool(fixtures & MOCK_ONLY))
    loops = _loops_of(metafunc, fixtures)
    if unmet is not None:
        names = ["serial_link"] if loops is None else ["serial_link", "anyio_backend"]
        values = [unmet, *[None] * (len(names) - 1)]
        marks = () if is_a_failure(unmet, metafunc.config) else pytest.mark.skip(reason=unmet.reason)
        _mark(metafunc, names, [pytest.param(*values, id="unmet", marks=marks)], "function")
        return
    _mark(metafunc, ["serial_link"], [_parameter(link, metafunc.config) for link in links], "function")
    if loops is not None:
        # The scope of AnyIO's fixture: tests are grouped by loop within their module.
        _mark(metafunc, ["anyio_backend"], loops, "module")


def unmet(item: pytest.Function) -> Unmet | None:
    """Why there is no link for this instance of a test; None when there is one."""
    link = item.callspec.params["serial_link"]
    return link if isinstance(link, Unmet) else None


def is_a_failure(unmet: Unmet, config: pytest.Config) -> bool:
    """Whether a need that no link meets is a failure in this run, and not just a skip."""
    return is_strict(config) and not unmet.excused


def _selected(config: pytest.Config) -> dict[str, Wiring]:
    hardware = config.stash.get(HARDWARE, None)
    known: dict[str, Wiring] = WIRINGS if hardware is None else {**WIRINGS, **hardware.wirings}
    return {name: known[name] for name in chosen_links(config)}


def _parameter(link: Wiring, config: pytest.Config) -> Any:
    # For xdist's `--dist loadgroup`: tests that would wait for each other's lease go to one worker.
    grouped = is_hardware(link.name) and config.pluginmanager.has_plugin("xdist")
    return pytest.param(link.name, id=link.name, marks=pytest.mark.xdist_group(link.name) if grouped else ())


def _leads_to_ours(node: pytest.Function, name: str) -> bool:
    for definition in reversed(_definitions(node, name)):
        if definition.func.__module__ == _fixtures.__name__:
            return True
        if name not in definition.argnames:
            return False
    return False


def _definitions(node: pytest.Function, name: str) -> Any:
    """The definitions of a fixture that this test sees, the closest last."""
    known = node._fixtureinfo.name2fixturedefs.get(name)
    return known or node.session._fixturemanager.getfixturedefs(name, node) or ()


def _loops_of(metafunc: pytest.Metafunc, fixtures: frozenset[str]) -> list[Any] | None:
    """The loops to add; None for a test that needs none, or that has an `anyio_backend` of the project's own."""
    node = metafunc.definition
    if not fixtures & ASYNC and (not is_async(node) or _loops.taken_over(node)):
        return None
    definitions = _definitions(node, "anyio_backend")
    if not definitions:
        raise pytest.UsageError(
            "serial fixtures run on AnyIO's pytest plugin, which is switched off: remove -p no:anyio"
        )
    if "anyio_backend" not in metafunc.fixturenames:
        metafunc.fixturenames.append("anyio_backend")
        node._fixtureinfo.name2fixturedefs["anyio_backend"] = definitions
    if definitions[-1].func.__module__ != "anyio.pytest_plugin" or any(
        "anyio_backend" in _argnames(mark) for mark in node.iter_markers("parametrize")
    ):
        return None
    if "serial_clock" in fixtures:
        from . import _clock

        reason = "serial_clock needs asyncio or trio: uvloop keeps the time of libuv"
        return _loops.parameters(metafunc.config, _clock.backends(), reason)
    return _loops.parameters(metafunc.config)


def _argnames(mark: pytest.Mark) -> list[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _mark(metafunc: pytest.Metafunc, names: list[str], values: list[Any], scope: Literal["module", "function"]) -> None:
    # An override of a fixture of ours hides the fixtures below it from pytest before 9.1.
    metafunc.fixturenames.extend(name for name in names if name not in metafunc.fixturenames)
    metafunc.definition.add_marker(pytest.mark.parametrize(names, values, indirect=True, scope=scope))
