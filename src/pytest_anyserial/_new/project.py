"""The files of a new driver project: templates of this package, filled in. No file is ever replaced.

A template is plain text with `@@name` for what changes from project to project, so that it reads like what it becomes.
"""

from __future__ import annotations

import dataclasses
import keyword
import os
import re
import string
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from .._text import plain

#: What the device speaks: each is a folder of templates.
PROTOCOLS: Final = ("text", "modbus")
#: Words of letters and digits, as an index of packages accepts them.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*")
#: Longer names would break lines of the templates.
_LONGEST: Final = 22
#: Characters of a line in the projects, as their `pyproject.toml` says.
_WIDTH: Final = 100
_SIGNATURE: Final = re.compile(r"(async def \w+)\((.*)\)( -> None:)")
#: Packages that the project itself imports, and folders that it has.
_TAKEN: Final = frozenset({"anyio", "anyserial", "hatchling", "pytest", "pytest_anyserial", "tests", "trio", "uvloop"})
#: Classes that the driver's modules use.
_CLASSES: Final = frozenset(
    {"AsyncGenerator", "BadReplyError", "DeviceError", "Function", "IntEnum", "NoReplyError", "RefusedError", "Request"}
    | {"Self", "SerialClock", "SerialConfig", "SerialDisconnectedError", "SerialFaults", "SerialPort", "SerialScript"}
)
#: The files of a project by the templates that they are made of.
_COMMON: Final = {
    "pyproject.toml": ("common/pyproject.toml",),
    "README.md": ("common/README.md",),
    ".gitignore": ("common/gitignore",),
    ".github/workflows/tests.yml": ("common/tests.yml",),
    "src/PACKAGE/__init__.py": ("common/__init__.py",),
    "src/PACKAGE/device.py": ("PROTOCOL/device.py",),
    "src/PACKAGE/errors.py": ("common/errors.py",),
    "src/PACKAGE/py.typed": (),
    "tests/conftest.py": ("common/conftest.py",),
    "tests/test_device.py": ("PROTOCOL/test_device.py",),
}
_OF_PROTOCOL: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "text": {},
    "modbus": {"src/PACKAGE/frames.py": ("modbus/frames.py",)},
}
_OF_BENCH: Final = {
    "README.md": ("common/README.md", "bench/README.md"),
    ".github/workflows/tests.yml": ("common/tests.yml", "bench/tests.yml"),
    "hil.toml": ("bench/hil.toml",),
    "tests/test_bench.py": ("bench/test_bench.py",),
}


class NewProjectError(Exception):
    """The project cannot be written; the text says why, and the next step."""


class _Template(string.Template):
    # Not `$`, which workflows of GitHub are full of.
    delimiter = "@@"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """What a new project is to be like.

    Attributes:
        name: The distribution, such as `"acme-meter"`.
        protocol: One of `PROTOCOLS`.
        bench: Whether it has a bench file, and tests for the real device.
    """

    name: str
    protocol: str = PROTOCOLS[0]
    bench: bool = False

    @property
    def package(self) -> str:
        """The package that the driver is in: `acme_meter`."""
        return re.sub(r"[-_.]", "_", self.name).lower()

    @property
    def cls(self) -> str:
        """The class of the driver: `AcmeMeter`."""
        name = "".join(map(str.capitalize, re.split(r"[-_.]", self.name)))
        # Linters take a name without small letters for a constant.
        return f"{name}Device" if name.isupper() else name

    @property
    def _words(self) -> dict[str, str]:
        exports = sorted(["BadReplyError", "DeviceError", "NoReplyError", "RefusedError", self.cls])
        return {
            "name": self.name,
            "package": self.package,
            "cls": self.cls,
            "device": self.package.replace("_", "-"),
            "exports": ", ".join(f'"{name}"' for name in exports),
        }

    def files(self) -> dict[str, str]:
        """Return the text of each file, by its path in the project.

        Raises:
            NewProjectError: The name is not usable.
        """
        check_name(self.name)
        parts = {**_COMMON, **_OF_PROTOCOL[self.protocol], **(_OF_BENCH if self.bench else {})}
        return {
            file.replace("PACKAGE", self.package): "".join(
                _wrapped(_template(each.replace("PROTOCOL", self.protocol)).substitute(self._words))
                for each in templates
            )
            for file, templates in parts.items()
        }

    def write(self, folder: Path) -> list[Path]:
        """Write the files to `folder`, which need not exist, and return their paths.

        Raises:
            NewProjectError: The name is not usable, one of the files is there already, or it cannot be written.
        """
        files = {folder / name: text for name, text in self.files().items()}
        there = [plain(str(file)) for file in files if os.path.lexists(file)]
        if there:
            raise NewProjectError(
                f"{', '.join(there)}: already there, and nothing is replaced. Nothing was written: name another folder"
            )
        for file, text in files.items():
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                # Another program may make it now, which is not replaced either.
                with file.open("x", encoding="utf-8", newline="\n") as opened:
                    opened.write(text)
            except OSError as exc:
                raise NewProjectError(f"cannot write {plain(str(file))}: {exc.strerror or exc}") from exc
        return list(files)


def check_name(name: str) -> None:
    """Check that a project can have this name.

    Raises:
        NewProjectError: It cannot.
    """
    shown = repr(plain(name, _LONGEST))
    if not _NAME.fullmatch(name):
        raise NewProjectError(
            f"{shown} is no name for a project: it takes letters and digits, with single hyphens between them, "
            "such as acme-meter. Choose one with --name"
        )
    if len(name) > _LONGEST:
        raise NewProjectError(f"{shown} is too long for a name: {_LONGEST} characters at most. Choose one with --name")
    project = NewProject(name=name)
    package = project.package
    if (
        package in _TAKEN
        or package in sys.stdlib_module_names
        or keyword.iskeyword(package)
        or keyword.issoftkeyword(package)
    ):
        raise NewProjectError(
            f"{shown} is no name for a project: Python already has a module or word {package}. Choose one with --name, "
            f"such as {package}-driver"
        )
    if project.cls in _CLASSES or keyword.iskeyword(project.cls):
        raise NewProjectError(
            f"{shown} is no name for a project: its driver would be called {project.cls}, which means something else. "
            "Choose one with --name"
        )


def _wrapped(text: str) -> str:
    """Break the lines of functions that a long name has made too long, as formatters do."""
    lines = text.split("\n")
    return "\n".join(_SIGNATURE.sub(r"\1(\n    \2\n)\3", line) if len(line) > _WIDTH else line for line in lines)


def _template(name: str) -> _Template:
    return _Template(
        resources.files("pytest_anyserial._new").joinpath(f"templates/{name}.txt").read_text(encoding="utf-8")
    )
