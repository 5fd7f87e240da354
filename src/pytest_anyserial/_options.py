"""Names that people choose from, and what to say when one is wrong."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from ._keys import HARDWARE

#: The links that need no bench file.
LINKS = ("mock", "pty", "replay")
#: The link whose far end is a recording.
REPLAY = "replay"
#: Links of which nothing is recorded: what they say is known already.
UNRECORDED = ("mock", REPLAY)
#: How a recording is played: at the pace at which it was made, at once, or in virtual time.
PACES = ("recorded", "none", "virtual")
#: All links of the bench file; one of them is `hw-NAME`.
HW = "hw"
#: Event loops, as test ids name them.
LOOPS = ("asyncio", "uvloop", "trio")

#: Of an option that has no value.
_MUTANTS = "1000"
#: The markers, as `pytest --markers` explains them.
MARKER = """\
anyserial(requires=[...], ...): the requirements of a test with a serial fixture, and how the test is judged. \
It runs once on every selected link that meets them; if no link does, the reason is shown.
    requires=["break_signal"]   facts about the link, such as modem_lines, line_errors, path, unplug
    link="null-modem"           how it is wired: null-modem, loopback, rs485 or device
    wires=["rts-cts"]           lines that are joined: tx-rx, rts-cts, dtr-dsr
    min_baudrate=1_000_000      a rate that it reaches
    device="acme-meter"         the device under test behind it
    links=["pty"]               names of links, out of those selected
    config=SerialConfig(...)    the config of both ends; its features are requirements too
    script_strict=False         serial_script ignores requests that it does not expect
    allow_leaks=True            the test may leave ports open that it has opened itself
    allow_disconnects=True      the test makes its device vanish, so a disconnect does not block it
    by_request=True             a replay answers requests in any order, each with its next recorded answer
  Marks of module, class and function are merged: requires and wires add up; of the rest, the closest mark wins."""
MUTATION_MARKER = (
    "serial_mutate(ignore=..., reason=...): with --serial-mutate, leave bytes of the replies as they are: positions, "
    "ranges, or compiled expressions whose groups match them; without ignore, whole replies. The report has the reason."
)


def adder(group: pytest.OptionGroup) -> Callable[..., None]:
    """Return what adds an option to `group`. pytest compares one that has no `dest` with all others of the run."""

    def add(name: str, **attributes: Any) -> None:
        group.addoption(name, dest=name.strip("-").replace("-", "_"), **attributes)

    return add


def add_mutation(add: Callable[..., None]) -> None:
    """Add the options of `--serial-mutate`."""
    add(
        "--serial-mutate",
        nargs="?",
        const=_MUTANTS,
        metavar="NUMBER",
        help="Run passing tests with a scripted, served or replayed far end again, each time with one thing wrong in "
        "what the driver receives, and report which of it no test notices; this many times in all, or 'all'. "
        f"Default: {_MUTANTS}.",
    )
    add(
        "--serial-mutate-min",
        type=float,
        metavar="PERCENT",
        help="Fail the run if less than this percentage of the mutants is noticed or recovered from.",
    )
    add(
        "--serial-mutate-report",
        action="append",
        default=[],
        metavar="FILE",
        help="Write the results of --serial-mutate to FILE: a page if its name ends in .html, data if it ends in "
        ".json. May be given twice.",
    )
    add(
        "--serial-mutate-kinds",
        metavar="NAMES",
        help="Let only these things go wrong, separated by commas: flip, lose, double, insert, cut, late, swap, "
        "repeat, unasked, request. Default: all.",
    )
    add(
        "--serial-mutate-loops",
        metavar="NAMES",
        help="Mutate tests on these of the selected event loops, separated by commas. Default: the first of them.",
    )
    add(
        "--serial-mutate-timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="End a mutant that takes longer, and report that it hung. Default: 10.",
    )


def mutates(config: pytest.Config) -> bool:
    """Whether this is a run with `--serial-mutate`.

    Raises:
        pytest.UsageError: An option that needs it was given without it.
    """
    if config.getoption("--serial-mutate") is not None:
        return True
    for option in ("min", "kinds", "loops", "report"):
        if config.getoption(f"--serial-mutate-{option}") not in (None, []):
            raise pytest.UsageError(f"--serial-mutate-{option} needs --serial-mutate, which was not given")
    return False


def unknown(what: str, word: object, known: Collection[str]) -> str:
    """`unknown link 'mok': did you mean 'mock'? Known: mock, pty`."""
    # Loaded for a wrong name only.
    import difflib

    close = difflib.get_close_matches(str(word), known, n=1)
    hint = f": did you mean {close[0]!r}?" if close else "."
    return f"unknown {what} {word!r}{hint} Known: {', '.join(known)}"


def is_hardware(link: str) -> bool:
    """Whether the name of a link is one that a bench file gives: `hw-NAME`, or all of them."""
    return re.fullmatch(rf"{HW}(-[a-z][a-z0-9_-]*)?", link) is not None


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
        if name not in known and is_hardware(name) and HW not in known:
            raise pytest.UsageError(f"{source}: link {name!r} needs a bench file: --serial-hw=hil.toml")
        if name not in known:
            raise pytest.UsageError(f"{source}: {unknown(what, name, known)}")
    return names


def bench_file(config: pytest.Config) -> Path | None:
    """The bench file of this run: `--serial-hw`, else the ini option, which is relative to the ini file."""
    given: str | None = config.getoption("serial_hw", None)
    if given is not None:
        return config.invocation_params.dir / given if given else None
    given = config.getini("anyserial_hw")
    folder = config.rootpath if config.inipath is None else config.inipath.parent
    return folder / given if given else None


def chosen_links(config: pytest.Config) -> tuple[str, ...]:
    """The names of the selected links; `hw` stands for each link of the bench file.

    Raises:
        pytest.UsageError: One is unknown, or this platform or the bench does not have it.
    """
    hardware = config.stash.get(HARDWARE, None)
    wirings: tuple[str, ...] = () if hardware is None else tuple(hardware.wirings)
    names = choice(config, "link", LINKS if hardware is None else (*LINKS, HW, *wirings))
    if "pty" in names and importlib.util.find_spec("termios") is None:
        raise pytest.UsageError("link 'pty' needs pseudo-terminals, which this platform does not have: use mock")
    names = names or (LINKS[0] if hardware is None else HW,)
    return tuple(dict.fromkeys(each for name in names for each in (wirings if name == HW else (name,))))


def hardware_links(config: pytest.Config) -> tuple[str, ...]:
    """The links of the bench that this run may use."""
    return () if HARDWARE not in config.stash else tuple(filter(is_hardware, chosen_links(config)))


def is_strict(config: pytest.Config) -> bool:
    """Whether this run is to show that the bench was exercised."""
    return bool(hardware_links(config)) and not config.getoption("no_serial_strict", False)


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


def test_id(item: pytest.Item) -> str:
    """The id of a test, without the groups that workers of pytest-xdist append under `--dist=loadgroup`."""
    if not item.config.getoption("loadgroup", False):
        return item.nodeid
    marks = item.iter_markers("xdist_group")
    groups = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}
    return item.nodeid.removesuffix(f"@{'_'.join(sorted(groups))}")


def missing_loop(name: str) -> str | None:
    """Why a loop cannot run here, and what to do about it; None when it can."""
    if name == "asyncio" or importlib.util.find_spec(name) is not None:
        return None
    return f"{name} is not installed: pip install 'pytest-anyserial[{name}]'"
