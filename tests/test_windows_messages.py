"""What a message can advise on Windows: nothing that only Linux has. These tests run on every system."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .test_imports import is_posix_only, modules

#: Commands, programs, groups and files that a message may name on Linux, and that mean nothing on Windows.
FOREIGN = re.compile(
    r"\b(udev\w*|dialout|uucp|plugdev|fuser|lsof|sudo|usermod|newgrp|chmod|chown|systemctl|apt|ulimit|modprobe|rmmod|"
    r"brltty|ModemManager|dmesg|stty|setserial|lsusb)\b|/dev/(serial|tty|bus)|/proc/|/sys/|/run/|/etc/"
)

#: Where such text is right, by a word of it.
ELSEWHERE = {
    ("anyserial.exceptions", "dialout"): "behind the import of `grp`",
    ("anyserial.exceptions", "sudo"): "the same",
    ("pytest_anyserial._bench.lease_folder", "/run/"): "a row of the table of systems",
    ("pytest_anyserial._bench.resolve", "/dev/serial"): "the advice for a name that only Linux gives",
    ("pytest_anyserial._links.pty", "/proc/"): "the advice for a link that Windows lacks",
    ("pytest_anyserial._links.pty", "ulimit"): "the same",
}

#: Families of modules that no code on Windows reaches.
POSIX_FAMILIES = ("anyserial._backends.posix.", "anyserial._discovery.linux", "anyserial._discovery.udev")


def shown_on_windows(part: ast.AST | list[ast.stmt] | list[ast.expr]) -> Iterator[str]:
    """The text in a piece of code that can be shown on Windows: no docstrings, and no branch for other systems."""
    match part:
        case list():
            for statement in part:
                yield from shown_on_windows(statement)
                if isinstance(statement, ast.If) and _leaves(statement):
                    return
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Constant(value=str(text)):
            yield text
        case ast.If(test=test, body=body, orelse=orelse) | ast.IfExp(test=test, body=body, orelse=orelse):
            if "sys.platform != 'win32'" not in _conditions(test):
                yield from shown_on_windows(body)
            if "sys.platform == 'win32'" not in _conditions(test):
                yield from shown_on_windows(orelse)
        case _:
            for _, value in ast.iter_fields(part) if isinstance(part, ast.AST) else ():
                if isinstance(value, ast.AST | list):
                    yield from shown_on_windows(value)


def _conditions(test: ast.expr) -> list[str]:
    """A condition, or those of which one is enough."""
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) else [test]
    return [ast.unparse(part) for part in parts]


def _leaves(statement: ast.If) -> bool:
    """Whether it ends the function on Windows."""
    ends = isinstance(statement.body[-1], ast.Return | ast.Raise)
    return ends and "sys.platform == 'win32'" in _conditions(statement.test)


def test_the_search_knows_the_branches_for_windows() -> None:
    """W-13: what is behind a question for the platform does not count; all else does."""
    code = """
def say(path):
    "sudo docstring"
    if path is None or sys.platform == "win32":
        return "here"
    return "sudo one"
def choose():
    if sys.platform == "win32":
        word = "there"
    else:
        word = "sudo two"
    return word, ("sudo three" if sys.platform != "win32" else "everywhere"), {1: f"sudo {word}"}
"""
    assert list(shown_on_windows(ast.parse(code).body)) == ["here", "there", "everywhere", "sudo "]


def test_no_message_on_windows_gives_linux_advice() -> None:
    """W-13: commands, groups and files of Linux are in modules, or behind questions, for other systems."""
    found = {
        (name, word[0])
        for name, tree in modules()
        if not is_posix_only(tree) and not name.startswith(POSIX_FAMILIES)
        for text in shown_on_windows(tree.body)
        if (word := FOREIGN.search(text))
    }
    # The same, so that the list does not outlive its reasons.
    assert found == set(ELSEWHERE)
