"""Names that people choose from, and what to say when one is wrong."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Collection

import pytest

#: The links that need no bench file.
LINKS = ("mock", "pty")
#: Event loops, as test ids name them.
LOOPS = ("asyncio", "uvloop", "trio")


def unknown(what: str, word: object, known: Collection[str]) -> str:
    """`unknown link 'mok': did you mean 'mock'? Known: mock, pty`."""
    close = difflib.get_close_matches(str(word), known, n=1)
    hint = f": did you mean {close[0]!r}?" if close else "."
    return f"unknown {what} {word!r}{hint} Known: {', '.join(known)}"


def choice(config: pytest.Config, what: str, known: Collection[str]) -> tuple[str, ...]:
    """The names given by `--serial-WHATs`, else by the ini option `anyserial_WHATs`; empty when neither is set.

    Raises:
        pytest.UsageError: A name is not known.
    """
    option, ini = f"--serial-{what}s", f"anyserial_{what}s"
    given, source = config.getoption(option, None), option
    if not given:
        given, source = config.getini(ini), f"ini option {ini}"
    names = tuple(dict.fromkeys(name for name in re.split(r"[,\s]+", given) if name))
    for name in names:
        if name not in known:
            raise pytest.UsageError(f"{source}: {unknown(what, name, known)}")
    return names


def chosen_links(config: pytest.Config) -> tuple[str, ...]:
    """The names of the selected links.

    Raises:
        pytest.UsageError: One is unknown, or this platform does not have it.
    """
    names = choice(config, "link", LINKS)
    if "pty" in names and importlib.util.find_spec("termios") is None:
        raise pytest.UsageError("link 'pty' needs pseudo terminals, which this platform does not have: use mock")
    return names or ("mock",)


def chosen_loops(config: pytest.Config) -> tuple[str, ...]:
    """The names of the loops asked for; empty means all that there are.

    Raises:
        pytest.UsageError: One is unknown, or is not installed.
    """
    names = choice(config, "loop", LOOPS)
    for name in names:
        reason = missing_loop(name)
        if reason is not None:
            raise pytest.UsageError(f"event loop {name!r} was asked for, but {reason}")
    return names


def missing_loop(name: str) -> str | None:
    """Why a loop cannot run here, and what to do about it; None when it can."""
    if name == "asyncio" or importlib.util.find_spec(name) is not None:
        return None
    return f"{name} is not installed: pip install 'anyserial[{name}]'"
