"""Generate the instances of a test: one for each link that meets its requirements and each event loop.

Both are added as `parametrize` marks on the test's definition. A mark takes precedence over the parameters of a
fixture, where a second `metafunc.parametrize` for AnyIO's `anyio_backend` would collide with them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from inspect import iscoroutinefunction
from typing import Any, Literal, NamedTuple, NoReturn

import pytest

from .. import _loops
from .._facts import Needs
from .._links.base import Wiring, wiring_of
from .._names import ASYNC, FAR_ENDS, MOCK_ONLY, MODULE, NAMES, PEERS, STANDS_FOR, on_loop
from .._options import REPLAY, chosen_links, is_hardware, is_strict
from .marker import check_parameters, needs_of
from .matching import Unmet, match


class Decision(NamedTuple):
    """The needs, links and marks that the instances of a test were generated from."""

    needs: Needs
    mock_only: bool
    links: tuple[str, ...]
    marks: tuple[pytest.Mark, ...]


#: Keyed by the id of a test's parent and the test's name without parameters.
_DECISIONS: pytest.StashKey[dict[tuple[str, str], Decision]] = pytest.StashKey()
#: The mark that chooses the loops of a definition, and its replacement if the project chooses them.
_LOOPS_MARK: pytest.StashKey[tuple[pytest.Mark, pytest.Mark | None]] = pytest.StashKey()


def used(node: pytest.Item) -> frozenset[str]:
    """Return our fixtures that a test uses, also indirectly; a project's own fixture of that name does not count."""
    names: Any = getattr(node, "fixturenames", ())
    return frozenset(name for name in NAMES.intersection(names) if _depends_on_ours(node, name))


def is_async(node: pytest.Function) -> bool:
    """Whether the test body is a coroutine function, also under Hypothesis."""
    function = getattr(node.obj, STANDS_FOR, node.obj)
    return iscoroutinefunction(getattr(getattr(function, "hypothesis", None), "inner_test", function))


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
        needs = needs._replace(peer=True)
    if "serial_bus" in fixtures:
        needs = needs._replace(bus=True)
    check_parameters(node)
    if is_async(node):
        # The test requests these at run time; plugins that inspect its fixtures find them here.
        known = node._fixtureinfo.name2fixturedefs
        for name in fixtures & FAR_ENDS:
            known[on_loop(name)] = definitions_of(node, on_loop(name))
    mock_only = bool(fixtures & MOCK_ONLY)
    links, unmet = match(needs, selected(metafunc.config), mock_only=mock_only)
    loops = _loops_of(metafunc, fixtures | {"serial_clock"} if in_virtual_time(node, fixtures) else fixtures)
    decisions = node.config.stash.setdefault(_DECISIONS, {})
    decisions[_key(node)] = Decision(needs, mock_only, tuple(link.name for link in links), _marks(node))
    if unmet is not None:
        names = ["serial_link"] if loops is None else ["serial_link", "anyio_backend"]
        values = [unmet, *[None] * (len(names) - 1)]
        marks = () if is_a_failure(unmet, metafunc.config) else pytest.mark.skip(reason=unmet.reason)
        mark = _mark(metafunc, names, [pytest.param(*values, id="unmet", marks=marks)], "function")
        if loops is not None:
            alone = _parametrize(names[:1], [pytest.param(unmet, id="unmet", marks=marks)], "function")
            node.stash[_LOOPS_MARK] = mark, alone
        return
    _mark(metafunc, ["serial_link"], [_parameter(link, metafunc.config) for link in links], "function")
    if loops is not None:
        # The scope of AnyIO's fixture: tests are grouped by loop within their module.
        node.stash[_LOOPS_MARK] = _mark(metafunc, ["anyio_backend"], loops, "module"), None


def in_virtual_time(node: pytest.Function, fixtures: frozenset[str]) -> bool:
    """Whether a test is to replay a recording in virtual time, and can do so."""
    config = node.config
    return (
        config.getoption("--serial-replay-pace") == "virtual"
        and chosen_links(config) == (REPLAY,)
        and is_async(node)
        and not fixtures & {*PEERS, *MOCK_ONLY, "sync_serial_port"}
        and not _loops.taken_over(node)
    )


def defer_loops_to_other_plugins(metafunc: pytest.Metafunc) -> None:
    """Withdraw the loops if a `pytest_generate_tests` of the project has chosen some."""
    node = metafunc.definition
    if _LOOPS_MARK in node.stash and any("anyio_backend" in call.params for call in metafunc._calls):
        ours, rest = node.stash[_LOOPS_MARK]
        place = node.own_markers.index(ours)
        node.own_markers[place : place + 1] = [] if rest is None else [rest]
        del node.stash[_LOOPS_MARK]


def keep_loops(items: Iterable[pytest.Item]) -> None:
    """Add the loop to the fixtures of async tests.

    pytest keeps only fixtures that it finds from the arguments of the test. Before pytest 9.1 an override of one of our
    fixtures ends that search, and `serial_path` alone does not lead to a loop. AnyIO replaces tests with the mark
    `anyio` that have no loop.
    """
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and decision_for(item) is not None
            and "anyio_backend" not in item.fixturenames
            and is_async(item)
            and not _loops.taken_over(item)
        ):
            item.fixturenames.insert(0, "anyio_backend")


def decision_for(item: pytest.Function) -> Decision | None:
    """Return the decision that an item was generated from; None for an item that another plugin has made."""
    decisions = item.config.stash.get(_DECISIONS, None)
    return None if decisions is None else decisions.get(_key(item))


def needs_at_collection(item: pytest.Function) -> Needs | None:
    """Return the needs that an item was generated from; None if its marks have changed since."""
    decision = decision_for(item)
    if decision is None:
        return None
    marks = _marks(item)
    same = len(marks) == len(decision.marks) and all(map(operator.is_, marks, decision.marks))
    return decision.needs if same else None


def unmet(item: pytest.Function) -> Unmet | None:
    """Return why there is no link for this instance of a test; None if there is one."""
    link = item.callspec.params["serial_link"]
    return link if isinstance(link, Unmet) else None


def is_a_failure(unmet: Unmet, config: pytest.Config) -> bool:
    """Whether a requirement that no link meets is a failure in this run; otherwise it is a skip."""
    return is_strict(config) and not unmet.excused


def fail_unmet(unmet: Unmet) -> NoReturn:
    """End a test that has no link: it is blocked if the bench is the reason, else it fails."""
    __tracebackhide__ = True
    if unmet.blocked is None:
        pytest.fail(unmet.reason, pytrace=False)
    # Imported late, because only a bench can block a test.
    from .._bench.blocked import blocked_outcome

    raise blocked_outcome(unmet.reason, unmet.blocked)


def selected(config: pytest.Config) -> dict[str, Wiring]:
    """The links of this run, by name."""
    return {name: wiring_of(name, config) for name in chosen_links(config)}


def definitions_of(node: Any, name: str) -> Any:
    """The definitions of a fixture that this test sees, the closest last."""
    known = node._fixtureinfo.name2fixturedefs.get(name)
    return known or node.session._fixturemanager.getfixturedefs(name, node) or ()


def _marks(node: pytest.Function) -> tuple[pytest.Mark, ...]:
    return tuple(node.iter_markers("anyserial"))


def _parameter(link: Wiring, config: pytest.Config) -> Any:
    # With `--dist loadgroup` of pytest-xdist, tests that would wait for each other's lease run in one worker.
    grouped = is_hardware(link.name) and config.pluginmanager.has_plugin("xdist")
    return pytest.param(link.name, id=link.name, marks=pytest.mark.xdist_group(link.name) if grouped else ())


def _key(node: pytest.Function) -> tuple[str, str]:
    return ("" if node.parent is None else node.parent.nodeid), node.originalname


def _depends_on_ours(node: pytest.Item, name: str) -> bool:
    for definition in reversed(definitions_of(node, name)):
        if definition.func.__module__ == MODULE:
            return True
        if name not in definition.argnames:
            return False
    return False


def _loops_of(metafunc: pytest.Metafunc, fixtures: frozenset[str]) -> list[Any] | None:
    """The loops to add; None for a test that needs none, or that has an `anyio_backend` of the project's own."""
    node = metafunc.definition
    if not fixtures & ASYNC and (not is_async(node) or _loops.taken_over(node)):
        return None
    definitions = definitions_of(node, "anyio_backend")
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
        from .._time import clock

        reason = "serial_clock needs asyncio or trio: uvloop takes its time from libuv"
        return _loops.parameters(metafunc.config, clock.backends(), reason)
    return _loops.parameters(metafunc.config)


def _argnames(mark: pytest.Mark) -> list[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _mark(
    metafunc: pytest.Metafunc, names: list[str], values: list[Any], scope: Literal["module", "function"]
) -> pytest.Mark:
    # Before pytest 9.1 a project's override of our fixture hides the fixtures that it depends on.
    metafunc.fixturenames.extend(name for name in names if name not in metafunc.fixturenames)
    mark = _parametrize(names, values, scope)
    metafunc.definition.own_markers.append(mark)
    return mark


def _parametrize(names: list[str], values: list[Any], scope: Literal["module", "function"]) -> pytest.Mark:
    return pytest.mark.parametrize(names, values, indirect=True, scope=scope).mark
