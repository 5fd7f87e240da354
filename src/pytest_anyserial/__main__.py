"""`python -m pytest_anyserial`: begin a driver project, describe a bench, examine it, and see who uses it.

Whatever devices, other users and files have written is printed as plain ASCII.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias

import anyio

from . import _library

try:
    _library.require()
except _library.ForeignLibraryError as exc:
    print(exc, file=sys.stderr)
    sys.exit(2)

from anyserial import PortInfo, SerialError, UnsupportedPlatformError, list_serial_ports

from ._bench.file import BenchFileError, LabgridSettings, SerialBench, load
from ._bench.lease import Lease, LeaseError, leases
from ._bench.resolve import LabgridError, device_key, resolve
from ._bench.schema import json_schema
from ._doctor.examine import Subject, examine
from ._doctor.finding import problem
from ._new import questions
from ._new.project import NewProjectError
from ._text import count, plain, plain_lines
from ._transcript import pcapng

if TYPE_CHECKING:
    from ._bench.labgrid import PlaceState

_DEFAULT_FILE: Final = "hil.toml"
_OK, _PROBLEMS, _USAGE = 0, 1, 2
#: As shells report programs that SIGINT and SIGPIPE have ended.
_INTERRUPTED, _NOT_READ = 130, 141

#: Finds the serial devices that are plugged in.
_Look: TypeAlias = Callable[[], Awaitable[Sequence[PortInfo]]]


class _UsageError(Exception):
    """The command cannot be carried out as it was given."""


def main(
    arguments: Sequence[str] | None = None,
    *,
    ask: Callable[[str], bool] | None = None,
    look: _Look | None = None,
) -> int:
    """Run one command and return its exit status.

    It is 0 if all is well, 1 if something is not, 2 after a usage error, 130 after Ctrl-C, and 141 if the reader of the
    output has gone, as in `doctor | head -1`.

    Args:
        arguments: Those of the command line if not given.
        ask: How a person is asked for leave, if `--yes` was not given.
        look: What finds the serial devices that are plugged in, if not the system.
    """
    options = _parser().parse_args(arguments)
    try:
        status = _run_command(options, ask or _ask, look or list_serial_ports)
        # Here, so that a reader who has gone is noticed.
        print(end="", flush=True)
        return status  # noqa: TRY300  what is flushed belongs to the command
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end, and would complain.
        with suppress(OSError), open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        return _NOT_READ


def _run_command(options: argparse.Namespace, ask: Callable[[str], bool], look: _Look) -> int:
    try:
        match options.command:
            case "suggest":
                return anyio.run(_suggest, options, ask, look)
            case "doctor":
                return anyio.run(_doctor, options, look)
            case "check":
                return _check(options)
            case "links":
                return _links(options)
            case "who":
                return anyio.run(_who, options, look)
            case "pcapng":
                return _pcapng(options)
            case "new":
                return _new(options)
            case "script":
                return _script(options)
            case _:
                _say(json.dumps(json_schema(), indent=2))
                return _OK
    except (_UsageError, BenchFileError, LabgridError, LeaseError, NewProjectError, SerialError) as exc:
        _say(str(exc), sys.stderr)
        return _USAGE


def _say(text: str, to: TextIO | None = None) -> None:
    print(plain_lines(text), file=to)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_anyserial", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    questions.add_arguments(commands.add_parser("new", help="write a small driver project that runs"))

    suggest = commands.add_parser("suggest", help="print a bench file for what is plugged in")
    suggest.add_argument("file", nargs="?", type=Path, help="a bench file; what it names is not suggested again")
    suggest.add_argument("--wiring", action="store_true", help="detect which ports are wired to each other")
    suggest.add_argument(
        "--yes", action="store_true", help="send also to ports that no bench file names, without asking"
    )

    suggest.add_argument(
        "--labgrid",
        metavar="HOST:PORT",
        help="suggest the places of this coordinator of labgrid, not what is plugged in",
    )

    doctor = commands.add_parser("doctor", help="examine every port and wire of a bench")
    doctor.add_argument("file", nargs="?", type=Path, default=Path(_DEFAULT_FILE), help="default: %(default)s")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of tables")
    doctor.add_argument("--no-power", action="store_true", help="do not switch supplies off and on")

    check = commands.add_parser("check", help="check what a bench file says, without looking at any device")
    check.add_argument("file", nargs="?", type=Path, default=Path(_DEFAULT_FILE), help="default: %(default)s")

    links = commands.add_parser("links", help="list what mock, pty, replay, remote ports and benches can show")
    links.add_argument("--json", action="store_true", help="print JSON instead of tables")

    who = commands.add_parser("who", help="list the leases of this host and their holders")
    who.add_argument("file", nargs="?", type=Path, help="a bench file, for its lease_dir")
    who.add_argument("--json", action="store_true", help="print JSON instead of tables")

    pcapng = commands.add_parser("pcapng", help="turn transcripts of tests into a capture for Wireshark")
    pcapng.add_argument("place", nargs="+", type=Path, help="a transcript (*.jsonl), or a folder with some")
    pcapng.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")

    script = commands.add_parser("script", help="write a test with a scripted device from a recording")
    script.add_argument("recording", type=Path, help="a recording (*.jsonl) of --serial-record")

    commands.add_parser("schema", help="print the JSON schema of a bench file, for editors")
    return parser


def _new(options: argparse.Namespace) -> int:
    is_asked = sys.stdin.isatty() and not options.yes
    written = questions.answered(options, _ask_line if is_asked else None).write(options.folder)
    for file in written:
        _say(str(file))
    # Windows has no pseudo-terminals.
    links = " --serial-links=mock,pty" if importlib.util.find_spec("termios") else ""
    _say(f"\nNext: cd {shlex.quote(str(options.folder))} && python -m pytest{links}")
    return _OK


def _ask_line(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


async def _suggest(options: argparse.Namespace, ask: Callable[[str], bool], look: _Look) -> int:
    suggest = _writer()
    bench = load(options.file) if options.file is not None else None
    if options.labgrid is not None:
        return _suggest_places(options.labgrid, bench, suggest)
    plugged_in = await look()
    ports, remarks = suggest.named(plugged_in, bench)
    for remark in remarks:
        _say(remark, sys.stderr)
    new = {name: device for name, device in ports.items() if bench is None or name not in bench.ports}
    parts = [] if bench is not None else ["schema = 1\n"]
    if new:
        parts.append(suggest.ports_text(new, plugged_in))
    if options.wiring:
        unconfirmed: list[str] = [] if options.yes else suggest.need_consent(ports, bench)
        confirmed = _confirmed(ports, unconfirmed, ask)
        with _progress().bar(len(confirmed)) as show:
            wiring = await suggest.find_wiring(confirmed, bench, show)
        parts.append(suggest.links_text(wiring))
    if any(parts):
        _say("\n".join(filter(None, parts)).removesuffix("\n"))
    if not ports:
        raise _UsageError("no serial port is plugged in")
    return _OK


def _suggest_places(coordinator: str, bench: SerialBench | None, suggest: ModuleType) -> int:
    from ._bench.labgrid import Client
    from ._doctor import lab

    client = LabgridSettings().client if bench is None else bench.labgrid.client
    folder = Path.cwd() if bench is None else bench.path.parent
    suggestion = lab.suggestion(Client(client, coordinator, folder), bench)
    parts = [] if bench is not None else ["schema = 1\n"]
    _say("\n".join([*parts, suggest.places_text(suggestion)]).removesuffix("\n"))
    return _OK


def _confirmed(ports: dict[str, Any], unconfirmed: Sequence[str], ask: Callable[[str], bool]) -> dict[str, Any]:
    """The ports that may be sent to: all but those of `unconfirmed`, if the answer is no."""
    if not unconfirmed:
        return ports
    names = ", ".join(f"{name} ({plain(ports[name].device)})" for name in unconfirmed)
    if ask(f"Send to {names} and move their lines? Whatever is connected there will see it. [y/N] "):
        return ports
    return {name: device for name, device in ports.items() if name not in unconfirmed}


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise _UsageError(f"{question}No terminal to answer at; pass --yes if that does no harm")
    # The answer to the command goes to standard output, which may be a file.
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _doctor(options: argparse.Namespace, look: _Look) -> int:
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
        async for subject in examine(bench, await _plugged_in(look), switches=not options.no_power):
            found(subject)
    passed = all(subject.passed() for subject in subjects)
    if options.json:
        findings = {subject.name: [dataclasses.asdict(finding) for finding in subject.findings] for subject in subjects}
        _say(json.dumps({"file": str(options.file), "well": passed, "subjects": findings}, indent=2))
    else:
        _say("All is well." if passed else "Problems found; see above.")
    return _OK if passed else _PROBLEMS


def _check(options: argparse.Namespace) -> int:
    try:
        bench = load(options.file)
    except BenchFileError as exc:
        for text in exc.problems:
            _say(text, sys.stderr)
        return _PROBLEMS
    ports, links = _numbered(bench.ports, "port"), _numbered(bench.links, "link")
    _say(f"{options.file}: nothing is wrong with it. It has {ports} and {links}.")
    return _OK


def _numbered(named: Mapping[str, object], what: str) -> str:
    return f"{count(len(named), what)} ({', '.join(named)})" if named else f"no {what}"


def _links(options: argparse.Namespace) -> int:
    # Others need no such table.
    from ._doctor.stand_ins import SHOWN, STAND_INS

    if options.json:
        shown = {what: dict(zip(STAND_INS, cells, strict=True)) for what, cells in SHOWN.items()}
        _say(json.dumps(shown, indent=2))
    else:
        _tables().show_stand_ins(STAND_INS, SHOWN)
    return _OK


async def _plugged_in(look: _Look) -> Sequence[PortInfo]:
    """All devices; none where the system cannot tell, which leaves ports with a path."""
    try:
        return await look()
    except UnsupportedPlatformError:
        return []


async def _who(options: argparse.Namespace, look: _Look) -> int:
    tables = None if options.json else _tables()
    bench = None if options.file is None else load(options.file)
    found = leases(None if bench is None else bench.lease_dir)
    places = _places(bench)
    paths = {device_key(device): device.device for device in [*await _plugged_in(look), *_on_servers(bench)]}
    if tables is None:
        listed = [_facts(lease) | {"path": paths.get(lease.device)} for lease in found]
        taken = [{"place": place.name, "owner": place.owner, "changed": place.changed} for place in places]
        print(json.dumps([*listed, *taken], indent=2))
        return _OK
    if found:
        tables.show_leases(found, paths)
    else:
        print("No device of this host was ever leased.")
    if places:
        tables.show_places(places)
    return _OK


def _on_servers(bench: SerialBench | None) -> list[PortInfo]:
    """The addresses that a bench file names."""
    return [resolve(port, ()) for port in (bench.ports.values() if bench else ()) if port.match.url is not None]


def _places(bench: SerialBench | None) -> list[PlaceState]:
    """The places of labgrid that a bench file names."""
    if bench is None or not any(port.match.is_place for port in bench.ports.values()):
        return []
    from ._doctor import lab

    return lab.places_of(bench)


def _pcapng(options: argparse.Namespace) -> int:
    output: Path | None = options.output
    if output is None and sys.stdout.isatty():
        raise _UsageError("a capture is not for a terminal: name a file with -o, or redirect the output")
    try:
        blocks = b"".join(pcapng.capture(pcapng.files_in(options.place)))
        if output is None:
            sys.stdout.buffer.write(blocks)
        else:
            output.write_bytes(blocks)
    except (pcapng.NotATranscriptError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):
            raise
        raise _UsageError(str(exc)) from exc
    return _OK


def _script(options: argparse.Namespace) -> int:
    # Others need no recordings.
    from ._recordings import file, script_writer

    path: Path = options.recording
    try:
        recording = file.load(path, str(path), "pytest --serial-record=DIR")
    except file.RecordingError as exc:
        raise _UsageError(str(exc)) from exc
    for line in script_writer.script_lines(recording):
        print(line)
    return _OK


def _facts(lease: Lease) -> dict[str, Any]:
    holder = lease.holder
    facts = None if holder is None else dataclasses.asdict(holder)
    return {"device": lease.device, "held": lease.is_held, "holder": facts, "remark": lease.remark or None}


def _tables() -> ModuleType:
    """What prints tables; the package it needs is optional."""
    try:
        from ._doctor import tables
    except ModuleNotFoundError as exc:
        raise _UsageError("tables need rich: pip install 'pytest-anyserial[bench]', or say --json") from exc
    return tables


def _progress() -> ModuleType:
    """What shows progress; the package it needs is optional."""
    try:
        from ._doctor import progress
    except ModuleNotFoundError as exc:
        raise _UsageError("suggest --wiring needs rich: pip install 'pytest-anyserial[bench]'") from exc
    return progress


def _writer() -> ModuleType:
    """What writes bench files; the package it needs is optional."""
    try:
        from ._doctor import suggest
    except ModuleNotFoundError as exc:
        raise _UsageError("suggest needs tomlkit: pip install 'pytest-anyserial[bench]'") from exc
    return suggest


if __name__ == "__main__":
    sys.exit(main())
