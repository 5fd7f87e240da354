"""Parts of pages that only the code knows, as Markdown: asked of it when the site is built, so never out of date."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import pytest_anyserial
from anyserial import Capability, SerialCapabilities
from anyserial._backends.posix.bsd import BsdFacts
from anyserial._backends.posix.darwin import DarwinFacts
from anyserial._backends.posix.facts import PosixFacts
from anyserial._backends.posix.linux import LinuxFacts
from anyserial.testing import MockBackend

_FIXTURE = re.compile(r"^(serial_\w+|sync_serial_\w+)(?: \[(\w+) scope\])? -- .*\n((?: {4}.*\n|\n)+)", re.MULTILINE)

_CALLS = r"(?:\.\w+|\((?:[^()\"]|\"[^\"]*\")*\))"
#: What is code in the texts of fixtures, which pytest prints as they are.
_CODE = re.compile(
    rf"(?<![\w`.])(?:--[a-z][\w-]*|(?:async with )?@?\.?[A-Za-z]\w*{_CALLS}+(?: as \([^)]*\))?"
    r"|@\w+|\.[a-z]\w*|[a-z]\w*_\w+)"
)


class _Parser:
    """Takes options and settings as `pytest.Parser` does, and keeps them."""

    def __init__(self) -> None:
        self.options: list[str] = []
        self.settings: list[str] = []
        pytest_anyserial.pytest_addoption(self)  # type: ignore[arg-type]

    def getgroup(self, *_: object) -> Self:
        return self

    def addoption(self, *names: str, help: str, metavar: str = "", **_: Any) -> None:  # noqa: A002
        shown = ", ".join(f"`{name}={metavar}`" if metavar else f"`{name}`" for name in names)
        self.options.append(f"| {shown} | {_cell(help)} |")

    def addini(self, name: str, help: str, *_: object, **__: object) -> None:  # noqa: A002
        self.settings.append(f"| `{name}` | {_cell(help)} |")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


def _asked(option: str) -> str:
    """The answer of pytest to `--fixtures` or `--markers`, in a folder that knows nothing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", option, "-v", "-p", "no:cacheprovider", "--rootdir", folder]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _marked(text: str) -> str:
    """The text of a fixture as Markdown."""
    return _CODE.sub(r"`\g<0>`", textwrap.dedent(text).strip())


def _fixtures() -> str:
    found = sorted(_FIXTURE.findall(_asked("--fixtures")))
    return "\n\n".join(f"### {name}\n\n*{scope or 'function'} scope.* {_marked(text)}" for name, scope, text in found)


def _marker() -> str:
    (text,) = re.findall(r"^(@pytest\.mark\.anyserial\(.*?)\n\n", _asked("--markers"), re.MULTILINE | re.DOTALL)
    signature, _, meaning = text.partition(": ")
    intro, *keywords, outro = meaning.splitlines()
    rows = [f"| `{keyword}` | {what} |" for keyword, what in (re.split(r" {2,}", row.strip()) for row in keywords)]
    return "\n".join([f"`{signature}`", "", intro, "", "| keyword | |", "|---|---|", *rows, "", outro.strip()])


#: Classes whose methods are in part those of a common base.
_FAR_ENDS: Final = ("SerialDevice", "SerialScript", "SyncSerialDevice", "SyncSerialScript")
#: Classes that have more for the plugin itself than for tests.
_SHOWN: Final = {
    "SerialExpectation": "members: reply, reply_each, times, repeatedly, optional, requests",
    "SerialPair": "no-members:",
    **dict.fromkeys(_FAR_ENDS, "members:\n   :inherited-members:"),
}


def _types() -> str:
    names = [name for name in pytest_anyserial.__all__ if name[0].isupper()]
    blocks = [f".. autoclass:: pytest_anyserial.{name}\n   :{_SHOWN.get(name, 'members:')}\n" for name in names]
    return "\n".join(["```{eval-rst}", *blocks, "```"])


#: Linux tells a pseudo-terminal by its number.
_UART, _PTY = os.makedev(4, 64), os.makedev(136, 0)
_SIGNS: Final = {Capability.SUPPORTED: "yes", Capability.UNSUPPORTED: "no", Capability.UNKNOWN: "asks"}


def _capabilities() -> str:
    linux = LinuxFacts()
    ends = MockBackend.pair()
    systems: dict[str, SerialCapabilities] = {
        "Linux": linux.capabilities(_UART),
        "Linux pty": linux.capabilities(_PTY),
        "macOS": DarwinFacts().capabilities(_UART),
        "BSD": BsdFacts().capabilities(_UART),
        "other POSIX": PosixFacts(name="posix").capabilities(_UART),
        "mock": ends[0].capabilities,
    }
    for end in ends:
        end.close()
    rows = [
        f"| `{field.name}` | {' | '.join(_SIGNS[getattr(found, field.name)] for found in systems.values())} |"
        for field in dataclasses.fields(SerialCapabilities)
        if field.name not in ("platform", "backend")
    ]
    return "\n".join([f"| | {' | '.join(systems)} |", "|---|" + "---|" * len(systems), *rows])


_PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "fixtures": _fixtures,
    "options": lambda: "\n".join(["| option | |", "|---|---|", *_Parser().options]),
    "settings": lambda: "\n".join(["| setting | |", "|---|---|", *_Parser().settings]),
    "marker": _marker,
    "types": _types,
    "capabilities": _capabilities,
}


def filled(page: str) -> str:
    """The page with every `<!-- generated: PART -->` replaced by that part."""
    return re.sub(r"^<!-- generated: (\w+) -->$", lambda match: _PARTS[match[1]](), page, flags=re.MULTILINE)
