"""What `new` asks at a terminal: at most three questions, each with a default and a flag that answers it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .project import PROTOCOLS, NewProject, NewProjectError, check_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of the project; it need not exist")
    parser.add_argument("--name", help="the name of the project, such as acme-meter; default: that of the folder")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="what the device speaks; default: text (lines)")
    parser.add_argument(
        "--bench",
        action=argparse.BooleanOptionalAction,
        help="whether to write a bench file (hil.toml), and tests for the real device; default: no",
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing, and take the defaults")


def answered(options: argparse.Namespace, ask: Callable[[str], str] | None) -> NewProject:
    """Return the project that the flags describe; `ask` is for what they leave open, None takes the defaults.

    Raises:
        NewProjectError: An answer is wrong.
    """
    default = options.folder.resolve().name
    name = _value(options.name, f"Name of the project [{default}]: ", default, ask)
    check_name(name)
    what = f"What the device speaks, {' or '.join(PROTOCOLS)} [{PROTOCOLS[0]}]: "
    protocol = _value(options.protocol, what, PROTOCOLS[0], ask)
    if protocol not in PROTOCOLS:
        raise NewProjectError(f"no such protocol: {protocol!a}. Choose {' or '.join(PROTOCOLS)}")
    bench: bool | None = options.bench
    if bench is None:
        answer = _value(None, "Write a bench file, and tests for the real device? [y/N]: ", "n", ask)
        bench = answer.lower() in ("y", "yes")
    return NewProject(name=name, protocol=protocol, bench=bench)


def _value(given: str | None, question: str, default: str, ask: Callable[[str], str] | None) -> str:
    if given is not None:
        return given
    return (ask(question).strip() if ask is not None else "") or default
