"""Find the links that meet the requirements of a test or, if there are none, the requirements that are not met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from anyserial import Capability, SerialConfig

from .._facts import Needs
from .._links.base import Fact, Wiring, built_in
from .._options import HW, LINKS, REPLAY, UNRECORDED

if TYPE_CHECKING:
    from .._bench.blocked import Blocked


class Unmet(NamedTuple):
    """Why a test does not run on any selected link.

    Attributes:
        needs: The requirements that are not met.
        reason: The whole message.
        excused: Whether the bench is not at fault, so that a strict run does not fail.
        blocked: What is wrong with the bench, if a link could not be asked whether it meets them.
    """

    needs: tuple[str, ...]
    reason: str
    excused: bool
    blocked: Blocked | None = None


class UnmetNeed(NamedTuple):
    """The first need that a link does not meet.

    Attributes:
        need: The requirement.
        text: `needs WHAT: link "NAME" ...`.
        wired: Whether the link is of the kind that the test asks for.
        excused: Whether the fact is excused, or the test itself excludes this link.
        blocked: What is wrong with the bench, if the link could not be asked.
    """

    need: str
    text: str
    wired: bool = False
    excused: bool = False
    blocked: Blocked | None = None


def match(
    needs: Needs, selected: Mapping[str, Wiring], *, mock_only: bool = False
) -> tuple[list[Wiring], Unmet | None]:
    """The selected links that meet the requirements of a test and, if there are none, the reason.

    A `mock_only` test runs on the mock, selected or not.
    """
    candidates = {"mock": built_in("mock")} if mock_only else selected
    problems = {name: unmet_need(wiring, needs) for name, wiring in candidates.items()}
    matching = [wiring for name, wiring in candidates.items() if problems[name] is None]
    if matching:
        return matching, None
    unmet_needs = [problem for problem in problems.values() if problem is not None]
    wired = [problem for problem in unmet_needs if problem.wired] or unmet_needs
    note = "; serial_faults and serial_clock exist on the mock only" if mock_only else _helpful(needs, selected)
    return [], Unmet(
        needs=tuple(dict.fromkeys(problem.need for problem in wired)),
        reason="; ".join(problem.text for problem in unmet_needs) + note,
        excused=mock_only or all(problem.excused for problem in wired),
        blocked=next((problem.blocked for problem in wired if problem.blocked is not None), None),
    )


def unmet_by(wiring: Wiring, config: SerialConfig) -> Unmet | None:
    """Return the need of a config that this link does not meet, for a config known after the links were chosen."""
    refusal = wiring.refuses(config)
    if refusal is None:
        return None
    unmet = _not_met(f'link "{wiring.title}"', *refusal)
    return Unmet((unmet.need,), unmet.text, unmet.excused, unmet.blocked)


def _helpful(needs: Needs, selected: Mapping[str, Wiring]) -> str:
    # Do not suggest mock or pty in a hardware run.
    if not selected.keys() <= set(LINKS):
        return ""
    others = [name for name in ("mock", "pty") if name not in selected and unmet_need(built_in(name), needs) is None]
    return f" (--serial-links={','.join((*selected, *others))} would run it)" if others else ""


def unmet_need(wiring: Wiring, needs: Needs) -> UnmetNeed | None:
    """The first need that a link does not meet; None if it meets all."""
    if wiring.name == REPLAY:
        return _unmet_by_replay(needs)
    here, declared = f'link "{wiring.title}"', wiring.declared
    if needs.links and not _is_named(wiring, needs.links):
        wanted = " or ".join(needs.links)
        return UnmetNeed(f"link {wanted}", f"needs link {wanted}: selected is {wiring.name}", excused=True)
    if needs.device != wiring.device:
        behind = f"is for tests of device {wiring.device}" if wiring.device else "has no device behind it"
        need = f"device {needs.device}" if needs.device else "a link without a device"
        return UnmetNeed(need, f"needs {need}: {here} {behind}{declared}")
    if needs.link not in (None, wiring.kind):
        return UnmetNeed(f"link {needs.link}", f"needs link {needs.link}: {here} is wired as {wiring.kind}{declared}")
    if needs.peer and not wiring.has_peer:
        return UnmetNeed("a far end", f"needs a far end: {here} has only end A, its kind is {wiring.kind}{declared}")
    if needs.bus and wiring.kind != "rs485" and wiring.name != "mock":
        return UnmetNeed("a bus", f"needs a bus: {here} is wired as {wiring.kind}, not rs485{declared}")
    for wire in needs.wires:
        if wire not in wiring.wires:
            return UnmetNeed(f"wire {wire}", f"needs wire {wire}: {here} has {', '.join(wiring.wires)}{declared}")
    limit = wiring.max_baudrate
    if needs.min_baudrate is not None and limit is not None and limit < needs.min_baudrate:
        return _not_met(
            here, f"{needs.min_baudrate} baud", Fact(value=Capability.UNSUPPORTED, why=f"it reaches {limit}{declared}")
        )
    for need in needs.requires:
        for fact in wiring.facts(need):
            if fact.value is not Capability.SUPPORTED:
                return _not_met(here, need, fact)
    refusal = None if needs.config is None else wiring.refuses(needs.config)
    return None if refusal is None else _not_met(here, *refusal)


def _unmet_by_replay(needs: Needs) -> UnmetNeed | None:
    # The other needs were met when the recording was made; a missing recording is a failure of its own.
    if needs.links and all(name in UNRECORDED and name != REPLAY for name in needs.links):
        wanted = " or ".join(needs.links)
        return UnmetNeed(f"link {wanted}", f"needs link {wanted}: selected is {REPLAY}", excused=True)
    if needs.peer:
        return UnmetNeed("a far end", f'needs a far end: at link "{REPLAY}" a recording plays it')
    return None


def _not_met(here: str, need: str, fact: Fact) -> UnmetNeed:
    where = f"{here} ({fact.where})" if fact.where else here
    text = f"needs {need}: {where} {fact.value.name}{fact.why and f': {fact.why}'}"
    return UnmetNeed(need, text, wired=True, excused=fact.excused, blocked=fact.blocked)


def _is_named(wiring: Wiring, names: tuple[str, ...]) -> bool:
    return wiring.name in names or (HW in names and wiring.name not in LINKS)
