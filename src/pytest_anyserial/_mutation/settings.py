"""What `--serial-mutate` and the options with that prefix ask for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from .. import _files, _loops
from .._options import LOOPS, chosen_loops, missing_loop, unknown
from .._text import plain
from .mutants import KINDS


class Settings(NamedTuple):
    """The checked options.

    Attributes:
        budget: How many mutants the run may have; None for all.
        kinds: Their kinds.
        loops: The loops whose tests are mutated.
        least: The score in percent below which the run fails; None if it is not judged.
        seconds: What a mutant may take in real time.
        files: Where the results go.
    """

    budget: int | None
    kinds: tuple[str, ...]
    loops: tuple[str, ...]
    least: float | None
    seconds: float
    files: tuple[Path, ...]


def settings(config: pytest.Config) -> Settings:
    """Return the settings of this run.

    Raises:
        pytest.UsageError: An option is wrong.
    """
    names: list[str] = config.option.serial_mutate_report
    files = tuple(config.invocation_params.dir / name for name in names)
    for name, file in zip(names, files, strict=True):
        _files.check_report(f"--serial-mutate-report={plain(name)}", file, writes=not hasattr(config, "workerinput"))
    given: str | None = config.getoption("--serial-mutate")
    seconds: float = config.option.serial_mutate_timeout
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"--serial-mutate-timeout takes a number of seconds above 0, not {seconds:g}")
    least: float | None = config.getoption("--serial-mutate-min")
    if least is not None and not 0 <= least <= 100:
        raise pytest.UsageError(f"--serial-mutate-min takes a percentage, not {least:g}")
    return Settings(
        budget=_budget(str(given)),
        kinds=_words(config, "--serial-mutate-kinds", tuple(KINDS)) or tuple(KINDS),
        loops=_loops_of(config),
        least=least,
        seconds=seconds,
        files=files,
    )


def _budget(given: str) -> int | None:
    if given == "all":
        return None
    if given.isascii() and given.isdigit() and int(given):
        return int(given)
    raise pytest.UsageError(
        f"--serial-mutate takes a number of mutants or 'all', not {plain(given)!r}: write --serial-mutate=500, or the "
        "option behind the names of files"
    )


def _loops_of(config: pytest.Config) -> tuple[str, ...]:
    chosen = [loop for loop in chosen_loops(config) or LOOPS if missing_loop(loop) is None]
    named = _words(config, "--serial-mutate-loops", LOOPS)
    for name in named:
        if name not in chosen:
            reason = missing_loop(name) or f"--serial-loops has only {', '.join(chosen)}"
            raise pytest.UsageError(f"--serial-mutate-loops: no test of this run is on {name}: {reason}")
    return named or tuple(chosen[:1])


def _words(config: pytest.Config, option: str, known: tuple[str, ...]) -> tuple[str, ...]:
    given: str = config.getoption(option) or ""
    names = tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise pytest.UsageError(f"{option}: {unknown('word', name, known)}")
    return names


def is_on_a_loop_of(item: pytest.Function, loops: tuple[str, ...]) -> bool:
    """Whether this instance of a test is on one of these loops, on a loop of the project, or on none."""
    if "anyio_backend" not in item.callspec.params:
        return True
    backend = item.callspec.params["anyio_backend"]
    if backend is None:
        # The parameter of a loop that is not there, or has no virtual time.
        return False
    word = _loops.claimed(backend).word
    return word not in LOOPS or word in loops
