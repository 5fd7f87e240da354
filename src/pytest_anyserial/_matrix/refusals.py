"""Refuse tests that cannot run as they are, with advice; the checks see the item that is about to run.

Links and loops are chosen when pytest generates tests. A requirement that reaches an item in another way, or later, is
either applied here or refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .._facts import Needs
from .._names import ASYNC, FAR_ENDS, NAMES
from .._text import plain
from . import generate
from .marker import needs_of
from .matching import match, unmet_by, unmet_need

if TYPE_CHECKING:
    from anyserial import SerialConfig

    from .._links.base import Wiring

#: Fixtures that exclude each other, by the end that they open.
_OPENERS = {
    "end A": frozenset({"serial_port", "sync_serial_port"}),
    "end B": frozenset({"serial_peer", "sync_serial_peer"}),
}

#: Async ports and their blocking counterparts.
_PORTS = {
    "serial_port": "sync_serial_port",
    "serial_peer": "sync_serial_peer",
    "serial_pair": "sync_serial_port and sync_serial_peer",
}


def unparametrized(node: pytest.Item) -> str:
    """Return why a test that uses our fixtures has no link, and the next step."""
    cls = getattr(node, "cls", None)
    unittest = sys.modules.get("unittest")
    if unittest is not None and isinstance(cls, type) and issubclass(cls, unittest.TestCase):
        return (
            "a unittest.TestCase cannot use serial fixtures: pytest runs its methods once, and serial tests once per "
            f"link and loop. Make {cls.__name__} a plain class, or its methods plain functions."
        )
    if isinstance(node, pytest.DoctestItem):
        users = " and ".join(_requesting_fixtures(node)) or "its getfixture()"
        return (
            "a doctest cannot use serial fixtures: pytest runs it once, and serial tests run once per link and loop. "
            f"Here {users} asks for them. If that is autouse, define it in the test modules or classes that need it."
        )
    if NAMES.isdisjoint(getattr(node, "fixturenames", ())):
        return (
            "serial fixtures were requested with getfixturevalue(), when it is too late to choose links and loops: "
            "name them in the arguments of the test or of a fixture, or use @pytest.mark.usefixtures"
        )
    return (
        "serial fixtures came to this test when its links and loops had been chosen, by a hook or a plugin that makes "
        "tests of its own. Name them in the arguments of the test or of a fixture, or use @pytest.mark.usefixtures."
    )


def refuse_unparametrized(node: pytest.Item) -> None:
    """Fail a test that uses our fixtures but has no link."""
    if generate.used(node):
        pytest.fail(unparametrized(node), pytrace=False)


def consider_late_marks(item: pytest.Function) -> None:
    """Apply the marks of an item that its definition did not have: those of a `pytest.param`, or added by a hook.

    If its link does not meet them, this instance is skipped. If only links meet them that the test was not generated
    for, it fails. In both cases nothing is set up: its link is an `Unmet`, or None.
    """
    decision = generate.decision_for(item)
    needs = checked_needs(item)
    if (
        decision is None
        or (needs := needs._replace(peer=decision.needs.peer, bus=decision.needs.bus)) == decision.needs
    ):
        return
    here: Any = item.callspec.params["serial_link"]
    selected = generate.selected(item.config)
    links, unmet = match(needs, selected, mock_only=decision.mock_only)
    names = [link.name for link in links]
    if here in names:
        return
    if unmet is not None:
        # Treat the instance as if the collection had found no link.
        item.callspec.params["serial_link"] = unmet
        if not generate.is_a_failure(unmet, item.config):
            item.add_marker(pytest.mark.skip(reason=unmet.reason))
    elif set(names).isdisjoint(decision.links):
        pytest.fail(
            f"a mark 'anyserial' came too late: it asks for link {' or '.join(names)}, but this test was generated for "
            f"{' and '.join(decision.links) or 'none'}. Put the mark on the function, class or module, in place of a "
            "pytest.param or a hook.",
            pytrace=False,
        )
    else:
        found = unmet_need(selected[here], needs)
        item.callspec.params["serial_link"] = None
        item.add_marker(pytest.mark.skip(reason="" if found is None else found.text))


def require(item: pytest.Function, wiring: Wiring, config: SerialConfig) -> None:
    """Require the features that a project's own `serial_config` uses, as if the mark had it."""
    __tracebackhide__ = True
    unmet = unmet_by(wiring, config)
    if unmet is not None:
        unmet = unmet._replace(reason=f"{unmet.reason}; asked for by {_place_of_config(item)}")
        item.callspec.params["serial_link"] = unmet
        if generate.is_a_failure(unmet, item.config):
            generate.fail_unmet(unmet)
        pytest.skip(unmet.reason)


def _place_of_config(item: pytest.Function) -> str:
    code = generate.definitions_of(item, "serial_config")[-1].func.__code__
    file = Path(code.co_filename)
    shown = file.relative_to(item.config.rootpath) if file.is_relative_to(item.config.rootpath) else file
    return plain(f"serial_config at {shown.as_posix()}:{code.co_firstlineno}")


def checked_needs(item: pytest.Item) -> Needs:
    """Return the needs of an item's marks; a wrong mark fails the test."""
    __tracebackhide__ = True
    try:
        return needs_of(item)
    except pytest.UsageError as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None


def explain(exc: BaseException | None) -> None:
    """If `exc` is pytest's error for an async fixture that was requested too late, fail with a better message."""
    __tracebackhide__ = True
    if (
        isinstance(exc, pytest.fail.Exception)
        and str(exc).startswith("The requested fixture has no parameter")
        and "'anyio_backend'" in str(exc)
    ):
        raise pytest.fail.Exception(
            "an async serial fixture was requested with getfixturevalue(), when it is too late to choose loops: name "
            "it in the arguments of the test or of a fixture, or use @pytest.mark.usefixtures",
            pytrace=False,
        ) from None


def refuse_later_marks(item: pytest.Item, needs: Needs) -> Needs:
    """Return the needs of the marks after the test; fail if a mark was added too late to be applied."""
    now = checked_needs(item)._replace(peer=needs.peer, bus=needs.bus)
    if now._replace(allow_leaks=needs.allow_leaks) != needs:
        pytest.fail(
            "a mark 'anyserial' came too late: a fixture or the test itself added it when the link was in use. Put it "
            "on the function, class or module; only allow_leaks may still be added.",
            pytrace=False,
        )
    return now


def _requesting_fixtures(node: Any) -> list[str]:
    """Return the project's fixtures that request ours."""
    ours = generate.used(node)
    return sorted(
        f"fixture {name!r}"
        for name, definitions in node._fixtureinfo.name2fixturedefs.items()
        if name not in ours and not ours.isdisjoint(definitions[-1].argnames)
    )


def refuse_impossible(item: pytest.Function, fixtures: frozenset[str], mark_of_another: str | None) -> None:
    """Fail a test whose fixtures cannot work together, before any of them is set up."""
    __tracebackhide__ = True
    problem = next(_problems(item, fixtures, mark_of_another), None)
    if problem is not None:
        pytest.fail(problem, pytrace=False)


def _problems(item: pytest.Function, fixtures: frozenset[str], mark_of_another: str | None) -> Iterator[str]:
    # The summary of pytest shows only the beginning, so each message begins with the fact.
    on_the_loop = fixtures & (ASYNC | FAR_ENDS)
    if mark_of_another is not None and on_the_loop and generate.is_async(item):
        names = on_the_loop
        yield (
            f"mark {mark_of_another!r}, but {_listed(names)} {_verb('need', names)} AnyIO: pytest-{mark_of_another} "
            "would run the test. Take the mark off tests with serial fixtures; they need none, also if it comes from a "
            "'pytestmark' of the module or class."
        )
    asked_for = fixtures & _PORTS.keys() & set(item._fixtureinfo.argnames)
    if asked_for and not generate.is_async(item):
        instead = " and ".join(_PORTS[name] for name in sorted(asked_for))
        yield (
            f"a `def` test cannot use {_listed(asked_for)}: an async port works in `async def` only. Make the test "
            f"`async def`, or use {instead}."
        )
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        definition = definitions[-1]
        asked = (fixtures - {"serial_factory"}).intersection(definition.argnames)
        if asked and definition.scope != "function":
            place = "event loop and link" if asked & on_the_loop else "link"
            yield (
                f"fixture {definition.argname!r} has {definition.scope} scope and asks for {_listed(asked)}, which is "
                f"made afresh for each test, on that test's {place}. Give {definition.argname!r} function scope."
            )
    for end, openers in _OPENERS.items():
        if openers <= fixtures:
            yield f"{_listed(openers)} both open {end} of the link. Use one of them."
    if fixtures >= FAR_ENDS:
        yield f"{_listed(FAR_ENDS)} both play the far end of the link. Use one of them."
    peers = fixtures & _OPENERS["end B"]
    for player in sorted(fixtures & FAR_ENDS) if peers else ():
        yield (
            f"{player} and {_listed(peers)} both need end B: the {player.removeprefix('serial_')} plays the far end, "
            f"and {_listed(peers)} {_verb('hand', peers)} it to the test. Use one of them."
        )
    blocking = fixtures & {"sync_serial_port", "sync_serial_peer"}
    if "serial_clock" in fixtures and blocking:
        yield (
            f"serial_clock cannot work with {_listed(blocking)}: its time passes while the event loop waits, and a "
            "blocking port keeps the loop from waiting. Use one of them."
        )
    on_the_loop = fixtures & {"serial_clock", "serial_factory", "serial_bus"}
    if on_the_loop and not generate.is_async(item):
        yield (
            f"{_listed(on_the_loop)} {_verb('need', on_the_loop)} an `async def` test, because "
            f"{'it works' if len(on_the_loop) == 1 else 'they work'} on the test's event loop."
        )


def _verb(verb: str, names: frozenset[str]) -> str:
    return f"{verb}s" if len(names) == 1 else verb


def _listed(names: frozenset[str]) -> str:
    return " and ".join(sorted(names))
