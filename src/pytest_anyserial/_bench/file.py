"""The bench file: serial ports, how they are wired, and how their supply is switched, as checked values.

Reading it opens no device. All problems of a file are reported together.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from anyserial import FlowControl, RS485Config, SerialConfig

from .._text import plain
from .contradictions import contradictions
from .schema import FILE, SCHEMAS
from .shapes import Checked, Problem, dotted, shown

#: A vid or pid with at most four digits, which is the length of a hexadecimal id.
_DECIMAL_ID: Final = re.compile(r"""\b(vid|pid)["']?[ \t]*=[ \t]*([0-9](_?[0-9]){0,3})(?![0-9A-Za-z_])""")
#: Strings (kept) and comments (removed).
_COMMENT: Final = re.compile(r"""("(?:\\.|[^"\\\n])*"|'[^'\n]*')|#[^\n]*""")
#: A key with a value that is neither in quotation marks nor in brackets.
_BARE: Final = re.compile(r"""([A-Za-z0-9_.-]+)[ \t]*=[ \t]*([^\s"'\[\]{},#=]+)""")
#: The largest file that is read, because a path such as `/dev/zero` never ends.
_LARGEST: Final = 1 << 20
#: Only this many characters of a line are searched for a common mistake.
_LONGEST_LINE: Final = 500
_SUGGEST: Final = "python -m pytest_anyserial suggest"
#: Windows device names, which are not paths of files.
COM_PORT: Final = re.compile(r"(\\\\\.\\)?COM[0-9]+", re.IGNORECASE)


class BenchFileError(ValueError):
    """A bench file cannot be used; `problems` says why, each with the file and the key."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How a port's device is named: by `path`, by `url`, by a labgrid place, or by at least one USB property.

    A place has a name, or tags that any of several places may have; `resource` is one of its serial ports.
    """

    path: str | None = None
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    interface: int | None = None
    location: str | None = None
    url: str | None = None
    place: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    resource: str | None = None

    @property
    def is_place(self) -> bool:
        """Whether this is a labgrid place, which has to be acquired."""
        return self.place is not None or bool(self.tags)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchPort:
    """One serial port of the bench; `lacks` and `has` are facts as in the marker's `requires`."""

    name: str
    match: Match
    config: SerialConfig = dataclasses.field(default_factory=SerialConfig)
    control_lines: Mapping[str, bool] = dataclasses.field(default_factory=dict[str, bool])
    max_baudrate: int | None = None
    lacks: frozenset[str] = frozenset()
    has: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()
    power: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchLink:
    """One wiring; `ends` are names of ports, end A first."""

    name: str
    ends: tuple[str, ...]
    kind: str
    wires: tuple[str, ...] = ("tx-rx",)
    max_baudrate: int | None = None
    device: str | None = None
    power: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Commands that switch a supply, to be run in the folder of the bench file; empty if a labgrid place supplies them.

    `off_time`, `within` and `limit` are in seconds: how long a power cycle leaves it off, how long a device may take to
    follow, and how long a command may take.
    """

    name: str
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    get: tuple[str, ...] = ()
    place: str | None = None
    off_time: float = 2.0
    within: float = 15.0
    limit: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabgridSettings:
    """How to reach labgrid; `wait` is in seconds, and without `coordinator` the environment decides."""

    coordinator: str | None = None
    client: str = "labgrid-client"
    wait: float = 600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SerialBench:
    """All hardware that one bench file describes.

    `lease_timeout` is in seconds; `lease_dir` is `None` for the host's default folder.
    """

    path: Path
    name: str
    lease_timeout: float = 60.0
    lease_dir: Path | None = None
    ports: Mapping[str, BenchPort]
    links: Mapping[str, BenchLink]
    power: Mapping[str, Power]
    labgrid: LabgridSettings = dataclasses.field(default_factory=LabgridSettings)


def load(path: Path) -> SerialBench:
    """Read a bench file. Relative paths in it start at its folder.

    Raises:
        BenchFileError: It cannot be read or is invalid; all problems are reported together.
    """
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise _unreadable(path, "is not TOML that can be read: nested too deeply") from None
    except tomllib.TOMLDecodeError as exc:
        raise _unreadable(path, *_syntax_problems(text, str(exc))) from exc
    # tomllib also raises plain ValueError, for integers beyond Python's digit limit.
    except ValueError as exc:
        raise _unreadable(path, "is not TOML that can be read: a number in it has thousands of digits") from exc
    code = _COMMENT.sub(lambda found: found[1] or "", text)
    return parse(data, path, decimal_ids={int(found[2]) for found in _DECIMAL_ID.finditer(code)})


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise _unreadable(path, f"there is no such file; to begin one: {_SUGGEST} > {path}") from None
    except OSError as exc:
        raise _unreadable(path, f"cannot be read: {exc.strerror or exc}") from exc
    # The path has a zero byte.
    except ValueError as exc:
        raise _unreadable(path, f"cannot be read: {exc}") from exc
    if len(content) > _LARGEST:
        raise _unreadable(path, f"is larger than {_LARGEST >> 10} KiB, so it is no bench file; {_SUGGEST} begins one")
    # Windows PowerShell writes UTF-16 when output is redirected with `>`.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _unreadable(path, "is UTF-16 text: save it as UTF-8")
    try:
        # Editors on Windows begin a file with a byte order mark, which is not part of the text.
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as exc:
        reason = f"{exc.reason} at byte {exc.start}"
        raise _unreadable(path, f"is not UTF-8 text: {reason}; save it as UTF-8") from exc


def _syntax_problems(text: str, error: str) -> list[str]:
    """Return a common mistake in a text that is not TOML, and its correction."""
    at = re.search(r"at line ([0-9]+)", error)
    # tomllib gives a line, or "at end of document".
    number = text.count("\n") + 1 if at is None else int(at[1])
    line = text.split("\n")[number - 1][:_LONGEST_LINE]
    bare = [(key, word) for key, word in _BARE.findall(line) if not _is_toml(f"x = {word}")]
    if bare:
        return [
            f"line {number}: {key} = {word} is not TOML: write {key} = {_corrected(key, word)}" for key, word in bare
        ]
    if "\\" in line:
        return [f"is not TOML: {error}; in single quotes a backslash is one: '\\\\.\\COM3'"]
    return [f"is not TOML: {error}"]


def _corrected(key: str, word: str) -> str:
    if key.rpartition(".")[2] in ("vid", "pid") and re.fullmatch("[0-9A-Fa-f]{1,4}", word):
        return f"0x{word}"
    return word.lower() if word.lower() in ("true", "false") else json.dumps(word)


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _unreadable(path: Path, *problems: str) -> BenchFileError:
    return BenchFileError(tuple(plain(f"{path}: {text}") for text in problems))


def parse(data: Mapping[str, object], path: Path, *, decimal_ids: Collection[int] = ()) -> SerialBench:
    """Return the bench that `data`, the parsed TOML of `path`, describes.

    Args:
        data: The file's top table.
        path: The file, for messages; its folder is the base of relative paths.
        decimal_ids: Values of vid or pid that the file writes as decimal numbers.

    Raises:
        BenchFileError: It is invalid; all problems are reported together.
    """
    problems: list[Problem] = []
    schema = data.get("schema")
    if isinstance(schema, int) and not isinstance(schema, bool) and schema not in SCHEMAS:
        # Other errors are not reported, because the file may be valid in that version.
        known = " and ".join(map(str, SCHEMAS))
        raise _error(path, [(("schema",), f"{shown(schema)} is not known: this version of anyserial reads {known}")])
    table = FILE.check(data, (), problems)
    problems += contradictions(table, {at[:3] for at, _ in problems}, decimal_ids)
    if problems:
        raise _error(path, problems)
    folder = Path(os.path.abspath(path)).parent
    bench = table.get("bench", {})
    return SerialBench(
        path=folder / path.name,
        name=bench.get("name", path.stem),
        lease_timeout=bench.get("lease_timeout", 60.0),
        lease_dir=folder / bench["lease_dir"] if "lease_dir" in bench else None,
        ports={name: _port(name, entry, folder) for name, entry in table["ports"].items()},
        links={name: BenchLink(name=name, **entry) for name, entry in table.get("links", {}).items()},
        power={name: Power(name=name, **entry) for name, entry in table.get("power", {}).items()},
        labgrid=LabgridSettings(**table.get("labgrid", {})),
    )


def _error(path: Path, problems: Iterable[Problem]) -> BenchFileError:
    return _unreadable(path, *(f"{dotted(at)}: {text}" for at, text in problems))


def _port(name: str, entry: Checked, folder: Path) -> BenchPort:
    match = dict(entry["match"])
    if "path" in match and not COM_PORT.fullmatch(match["path"]):
        match["path"] = str(folder / match["path"])
    if "tags" in match:
        match["tags"] = tuple(sorted(match["tags"].items()))
    fields = dict(entry.get("open", {}))
    if "flow_control" in fields:
        fields["flow_control"] = FlowControl(**fields["flow_control"])
    if "rs485" in fields:
        fields["rs485"] = RS485Config(**fields["rs485"])
    rest = {key: value for key, value in entry.items() if key not in ("match", "open")}
    rest |= {key: frozenset(entry[key]) for key in ("lacks", "has") if key in entry}
    return BenchPort(name=name, match=Match(**match), config=SerialConfig(**fields), **rest)
