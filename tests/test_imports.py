"""Every module that is meant for all systems imports on all of them."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import anyserial

SOURCES = Path(anyserial.__file__).parent.parent
PACKAGES = ("anyserial", "pytest_anyserial")

#: Modules of the standard library that Windows has not.
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
#: How a module says that it is for the other systems; see the tests of the layers.
POSIX_ONLY = "assert sys.platform != 'win32' or not TYPE_CHECKING"
LINUX_ONLY = "assert sys.platform == 'linux' or not TYPE_CHECKING"


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((SOURCES / package).rglob("*.py")):
            name = ".".join(file.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def is_posix_only(tree: ast.Module) -> bool:
    return any(ast.unparse(statement) in (POSIX_ONLY, LINUX_ONLY) for statement in tree.body)


def imported_at_once(body: list[ast.stmt]) -> Iterator[str]:
    """What a module imports when it is imported; conditions and functions decide for themselves."""
    for statement in body:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module


def test_no_module_for_all_systems_needs_posix() -> None:
    """W-13: what only POSIX has is imported by modules that say so, or where it is used."""
    needy = {
        name: needs
        for name, tree in modules()
        if not is_posix_only(tree)
        and (needs := POSIX_MODULES & {module.partition(".")[0] for module in imported_at_once(tree.body)})
    }
    assert not needy


IMPORT_ALL = """
    import importlib, sys

    for name in sys.stdin.read().split():
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as exc:
            # Of an extra that is not installed; what only POSIX has is none.
            if exc.name.partition(".")[0] in ({own} | {posix}):
                raise
    print("all")
"""


@pytest.mark.timeout(120)
def test_every_module_for_all_systems_imports() -> None:
    """W-13: in a fresh interpreter, one after the other; on Windows this is what counts."""
    names = [name for name, tree in modules() if not (is_posix_only(tree) or name.endswith("__main__"))]
    assert len(names) > 100
    code = textwrap.dedent(IMPORT_ALL).format(own=set(PACKAGES), posix=set(POSIX_MODULES))
    run = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(names), capture_output=True, text=True, timeout=100, check=False
    )
    assert (run.stdout.strip(), run.returncode) == ("all", 0), run.stderr
