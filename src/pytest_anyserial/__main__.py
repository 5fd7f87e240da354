"""`python -m pytest_anyserial`: describe a bench, examine it, and see who uses it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio

from . import _library

try:
    _library.require()
except _library.ForeignLibraryError as exc:
    print(exc, file=sys.stderr)
    sys.exit(2)

from anyserial import list_serial_ports

from ._bench import BenchFileError, SerialBench, load
from ._bench_schema import json_schema
from ._doctor import Subject, examine
from ._finding import problem
from ._lease import Lease, LeaseError, leases
from ._resolve import device_key
from ._suggest import find_wiring, links_text, named, ports_text, undriven

_DEFAULT_FILE: Final = "hil.toml"
_WELL, _NOT_WELL, _USAGE = 0, 1, 2


class _UsageError(Exception):
    """The command cannot be carried out as it was given."""


def main(arguments: Sequence[str] | None = None, *, ask: Callable[[str], bool] | None = None) -> int:
    """Run one command and return its exit status: 0 all is well, 1 something is not, 2 a usage error.

    Args:
        arguments: Those of the command line if not given.
        ask: How a person is asked for leave, if `--yes` was not given.
    """
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "suggest":
                return anyio.run(_suggest, options, ask or _ask)
            case "doctor":
                return anyio.run(_doctor, options)
            case "who":
                return anyio.run(_who, options)
            case _:
                print(json.dumps(json_schema(), indent=2))
                return _WELL
    except (_UsageError, BenchFileError, LeaseError) as exc:
        print(exc, file=sys.stderr)
        return _USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_anyserial", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    suggest = commands.add_parser("suggest", help="print a bench file for what is plugged in")
    suggest.add_argument("file", nargs="?", type=Path, help="a bench file; what it names is not suggested again")
    suggest.add_argument("--wiring", action="store_true", help="find out which ports are wired to each other")
    suggest.add_argument("--yes", action="store_true", help="send also to ports that no bench file names, unasked")

    doctor = commands.add_parser("doctor", help="examine every port and wire of a bench")
    doctor.add_argument("file", nargs="?", type=Path, default=Path(_DEFAULT_FILE), help="default: %(default)s")
    doctor.add_argument("--json", action="store_true", help="for machines")

    who = commands.add_parser("who", help="list the leases of this host and who holds them")
    who.add_argument("file", nargs="?", type=Path, help="a bench file, for its lease_dir")
    who.add_argument("--json", action="store_true", help="for machines")

    commands.add_parser("schema", help="print the JSON schema of a bench file, for editors")
    return parser


async def _suggest(options: argparse.Namespace, ask: Callable[[str], bool]) -> int:
    bench = load(options.file) if options.file is not None else None
    devices = await list_serial_ports()
    ports, remarks = named(devices, bench)
    for remark in remarks:
        print(remark, file=sys.stderr)
    new = {name: device for name, device in ports.items() if bench is None or name not in bench.ports}
    parts = [] if bench is not None else ["schema = 1\n"]
    if new:
        parts.append(ports_text(new, devices))
    if options.wiring:
        parts.append(links_text(await find_wiring(_driven(ports, bench, options.yes, ask), bench)))
    print("\n".join(filter(None, parts)), end="")
    if not ports:
        raise _UsageError("no serial port is plugged in")
    return _WELL


def _driven(ports: dict[str, Any], bench: SerialBench | None, yes: bool, ask: Callable[[str], bool]) -> dict[str, Any]:
    """The ports that may be sent to."""
    asked = undriven(ports, bench)
    if not asked or yes:
        return ports
    names = ", ".join(f"{name} ({ports[name].device})" for name in asked)
    if ask(f"Send to {names} and move their lines? Whatever is connected there will see it. [y/N] "):
        return ports
    return {name: device for name, device in ports.items() if name not in asked}


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise _UsageError(f"{question}Nobody is there to answer: say --yes if that does no harm")
    # The answer to the command goes to standard output, which may be a file.
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _doctor(options: argparse.Namespace) -> int:
    show = None if options.json else _tables().show_subject
    subjects: list[Subject] = []

    def found(subject: Subject) -> None:
        subjects.append(subject)
        if show is not None:
            show(subject)

    try:
        bench = load(options.file)
    except BenchFileError as exc:
        found(Subject(str(options.file), [problem("file", text) for text in exc.problems]))
    else:
        async for subject in examine(bench, await list_serial_ports()):
            found(subject)
    well = all(subject.is_well() for subject in subjects)
    if options.json:
        findings = {subject.name: [dataclasses.asdict(finding) for finding in subject.findings] for subject in subjects}
        print(json.dumps({"file": str(options.file), "well": well, "subjects": findings}, indent=2))
    else:
        print("All is well." if well else "Not all is well: see the problems above.")
    return _WELL if well else _NOT_WELL


async def _who(options: argparse.Namespace) -> int:
    show = None if options.json else _tables().show_leases
    found = leases(None if options.file is None else load(options.file).lease_dir)
    paths = {device_key(device): device.device for device in await list_serial_ports()}
    if show is None:
        print(json.dumps([_facts(lease) | {"path": paths.get(lease.device)} for lease in found], indent=2))
    elif found:
        show(found, paths)
    else:
        print("No device of this host was ever leased.")
    return _WELL


def _facts(lease: Lease) -> dict[str, Any]:
    holder = lease.holder
    facts = None if holder is None else dataclasses.asdict(holder)
    return {"device": lease.device, "held": lease.is_held, "holder": facts, "remark": lease.remark or None}


def _tables() -> ModuleType:
    """What prints tables; the package it needs is optional."""
    try:
        from . import _tables
    except ModuleNotFoundError as exc:
        raise _UsageError("tables need rich: pip install 'pytest-anyserial[bench]', or say --json") from exc
    return _tables


if __name__ == "__main__":
    sys.exit(main())
