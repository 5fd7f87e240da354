"""The run: in each round the contestants of a case take turns, each in its own process, and only one at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Final

from . import instructions, pytest_runs, syscalls
from .cases import OURS, Case
from .contestants import CONTESTANTS
from .machine import kept_awake
from .processes import Sample, Worker, far_end

# Rounds before everybody gets a fresh process: how a process happens to lie in memory is worth some percent.
_LIFETIME: Final = 5


def run(case: Case, *, rounds: int | None, quick: bool, only: Sequence[str]) -> Iterator[Sample]:
    """All rounds of `case`; every other one runs backwards, and who fails is not asked again.

    `rounds` is the most, instead of what the case and `quick` say. `only` are beginnings of contestants' names, or
    nothing for all.
    """
    settings = {**case.settings, **(case.quick if quick else {})}
    names = [
        contestant.name
        for contestant in CONTESTANTS
        if case.asks(contestant.library, contestant.loop) and contestant.name.startswith(tuple(only) or "")
    ]
    if case.far.startswith("remote") and not any(
        shutil.which("ser2net", path=path) for path in (os.environ.get("PATH"), "/usr/sbin")
    ):
        print(f"\n{case.title}  [{case.name}]\n  left out: ser2net is not installed (apt-get install ser2net)")
        return
    rounds = min(rounds or (1 if quick else case.rounds), case.rounds)
    if case.how == "traced":
        yield from (syscalls.trace(case, name, settings) for name in names)
        return
    if case.how == "counted":
        if f"{OURS}/".startswith(tuple(only) or ""):
            yield instructions.count(case)
        return
    if case.how == "pytest":
        for number in range(rounds if f"{OURS}/".startswith(tuple(only) or "") else 0):
            yield from pytest_runs.measure(case, number, settings)
        return
    with kept_awake() if case.awake else contextlib.nullcontext(True) as granted:
        if not granted:
            print(f"\n{case.title}  [{case.name}]\n  left out: only root may keep the processors awake, usually")
            return
        for first in range(0, rounds, _LIFETIME):
            numbers = range(first, min(first + _LIFETIME, rounds))
            for sample in _turns(case, names, numbers, settings):
                yield sample
                if sample.error is not None:
                    names = [name for name in names if name != sample.contestant]


def _turns(case: Case, names: Sequence[str], numbers: Sequence[int], settings: dict[str, Any]) -> Iterator[Sample]:
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in names:
            workers[name] = Worker(name, case, settings)
            stack.callback(workers[name].stop)
        # Nobody measures while others still start.
        for worker in workers.values():
            worker.wait_until_ready()
        for number in numbers:
            for name in names if number % 2 == 0 else reversed(names):
                worker = workers[name]
                if worker.error is not None and number > numbers[0]:
                    continue
                with far_end(case) as paths:
                    figures = worker.measure(paths)
                yield Sample(case=case.name, contestant=name, round=number, figures=figures, error=worker.error)
