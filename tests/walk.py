"""Do what the tutorial says, literally: write the files it shows, type its commands, compare what comes out.

`python tests/walk.py WHEEL --python PYTHON --find-links FOLDER` starts in an empty folder with nothing installed.
`WHEEL` is this package, `FOLDER` the wheels of what it needs, so no network is involved. The transcript is printed.

A block that begins with `# name` is that file, with `# name, continued` the rest of it; so is a comment that begins
with the line `<!-- file`. In a `console` block a line after `$ ` is typed, and the lines below are what it prints;
`...` stands for anything, times and temporary folders for any other. A command succeeds; after a comment
`<!-- fails -->` the last one of the block does not.
"""

from __future__ import annotations

import argparse
import dataclasses
import doctest
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Self

TUTORIAL: Final = Path(__file__).resolve().parents[1] / "docs" / "tutorial"
#: In the order in which they are read.
PAGES: Final = sorted(TUTORIAL.glob("*.md"))

_BLOCK = re.compile(r"^(<!-- fails -->\n)?(?:```|<!-- )(\w+)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w.-]+\.\w+)(, continued)?\n")
_TYPED = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_UNSTABLE = [
    (re.compile(r"\d+\.\d+ ?s\b"), "0.00s"),
    (re.compile(r'"time": [\d.]+|\d{4}-\d\d-\d\dT[\d:.+]+'), "then"),
    (re.compile(r"/tmp/[\w.-]+"), "/tmp/folder"),
]
_COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class WrongOutputError(AssertionError):
    """A command did not do what the page says."""


@dataclasses.dataclass(frozen=True)
class File:
    """Text to put into a file, or at its end."""

    name: str
    text: str
    continued: bool


@dataclasses.dataclass(frozen=True)
class Command:
    """A line to type, what the page shows below it, and whether it fails."""

    line: str
    shown: str
    fails: bool


def steps(page: Path) -> Iterator[File | Command]:
    """What a page tells its reader to do, in order."""
    for fails, language, text in _BLOCK.findall(page.read_text("utf-8")):
        if language == "console":
            *before, last = _TYPED.findall(text)
            yield from (Command(line, shown, fails=False) for line, shown in before)
            yield Command(*last, fails=bool(fails))
        elif title := _FILE.match(text):
            yield File(title[1], text, continued=bool(title[2]))


class Walk:
    """One shell in one folder; both stay as the steps leave them."""

    def __init__(self, folder: Path, environment: dict[str, str], transcript: IO[str]) -> None:
        self._folder = folder
        self._transcript = transcript
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # With everything that was started in the background.
        with self._shell:
            os.killpg(self._shell.pid, signal.SIGTERM)

    def take(self, page: Path) -> None:
        """Take every step of a page.

        Raises:
            WrongOutputError: A command printed something else, or failed.
        """
        print(f"## {page.name}", file=self._transcript)
        for step in steps(page):
            if isinstance(step, File):
                print(f"# writes {step.name}", file=self._transcript)
                with (self._folder / step.name).open("a" if step.continued else "w", encoding="utf-8") as file:
                    file.write(f"\n\n{step.text.partition(chr(10))[2]}" if step.continued else step.text)
            else:
                print(f"$ {step.line}", file=self._transcript)
                output, status = self._typed(step.line)
                self._transcript.write(output)
                check(step, output, status, page)

    def _typed(self, line: str) -> tuple[str, int]:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f'{line}\necho "<status> $?"\n')
        self._shell.stdin.flush()
        output = ""
        for printed in self._shell.stdout:
            before, found, status = printed.rpartition("<status> ")
            if found:
                return output + before, int(status)
            output += printed
        raise WrongOutputError(f"the shell ended in {line!r} after it printed:\n{output}")


def check(command: Command, output: str, status: int, page: Path) -> None:
    """Compare what a command did with what the page shows.

    Raises:
        WrongOutputError: They differ.
    """
    shown, printed = command.shown, output
    for unstable, text in _UNSTABLE:
        shown, printed = unstable.sub(text, shown), unstable.sub(text, printed)
    if shown and not doctest.OutputChecker().check_output(shown, printed, _COMPARED):
        raise WrongOutputError(f"{page}: {command.line!r} should print\n{command.shown}\nand printed\n{output}")
    if (status == 0) is command.fails:
        raise WrongOutputError(f"{page}: {command.line!r} ended with status {status} and printed\n{output}")


def main() -> None:
    parser = argparse.ArgumentParser(description="do what the tutorial says")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--find-links", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as tools:
        python3 = Path(tools, "python3")
        python3.write_text(f'#!/bin/sh\nexec "{given.python}" "$@"\n')
        python3.chmod(0o755)
        environment = {
            "ANYSERIAL": str(given.wheel.resolve()),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PIP_FIND_LINKS": str(given.find_links.resolve()),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # A file that is changed within one second keeps its size and time, and so its stale bytecode.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with Walk(Path(empty), environment, sys.stdout) as walk:
            for page in PAGES:
                walk.take(page)


if __name__ == "__main__":
    main()
