"""The requirements of a test: the `anyserial` marks of module, class and function merged into one checked value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import pytest

from anyserial import SerialConfig

from .._facts import FACTS, KINDS, WIRES, Needs
from .._options import HW, LINKS, is_hardware, unknown

#: The class of `pytest.param(...)`, which has no public name.
_PARAMETER = type(pytest.param())


def needs_of(node: pytest.Item) -> Needs:
    """Return the merged needs of a test: `requires` and `wires` accumulate; for other keywords the closest mark wins.

    Raises:
        pytest.UsageError: A mark is wrong.
    """
    marks = list(node.iter_markers("anyserial"))
    # pytest yields the marks of a `pytest.param` after those of the function, but they are closer to the test.
    own: Any = getattr(getattr(node, "callspec", None), "marks", ())
    marks.sort(key=lambda mark: not any(mark is one for one in own))
    return _merged(reversed(marks))


def check_parameters(node: pytest.Item) -> None:
    """Check the marks of each `pytest.param` of a test before its items exist.

    Raises:
        pytest.UsageError: A mark is wrong.
    """
    for mark in node.iter_markers("parametrize"):
        values: Any = mark.args[1] if len(mark.args) > 1 else mark.kwargs.get("argvalues")
        # Leave an iterator alone, because pytest can go through it only once.
        for value in cast("Sequence[object]", values) if isinstance(values, list | tuple) else ():
            if isinstance(value, _PARAMETER):
                marks = (each if isinstance(each, pytest.Mark) else each.mark for each in value.marks)
                _merged(one for one in marks if one.name == "anyserial")


def _merged(marks: Iterable[pytest.Mark]) -> Needs:
    merged: dict[str, Any] = {}
    for mark in marks:
        if mark.args:
            raise pytest.UsageError(f"the mark 'anyserial' takes keywords only, not {mark.args[0]!r}")
        for keyword, value in mark.kwargs.items():
            if keyword not in _CHECKS:
                raise pytest.UsageError(f"mark 'anyserial': {unknown('keyword', keyword, tuple(_CHECKS))}")
            checked = _CHECKS[keyword](keyword, value)
            if keyword in ("requires", "wires"):
                checked = tuple(dict.fromkeys((*merged.get(keyword, ()), *checked)))
            merged[keyword] = checked
    return Needs(**merged)


def _wrong(keyword: str, expected: str, value: object) -> pytest.UsageError:
    return pytest.UsageError(f"mark 'anyserial': {keyword} must be {expected}, not {value!r}")


def _words(
    known: tuple[str, ...], also: Callable[[str], bool] | None = None
) -> Callable[[str, object], tuple[str, ...]]:
    check_one = _word(known, also)

    def check(keyword: str, value: object) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise _wrong(keyword, "a list of names", value)
        return tuple(check_one(keyword, name) for name in cast("Iterable[object]", value))

    return check


def _word(known: tuple[str, ...], also: Callable[[str], bool] | None = None) -> Callable[[str, object], str]:
    """Return a check for a name that is known, or that `also` accepts."""

    def check(keyword: str, value: object) -> str:
        if isinstance(value, str) and (value in known or (also is not None and also(value))):
            return value
        raise pytest.UsageError(f"mark 'anyserial': {keyword}: {unknown('name', value, known)}")

    return check


def _rate(keyword: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(keyword, "a positive integer", value)
    return value


def _name(keyword: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(keyword, "a name", value)
    return value


def _config(keyword: str, value: object) -> SerialConfig:
    if not isinstance(value, SerialConfig):
        raise _wrong(keyword, "a SerialConfig", value)
    return value


def _flag(keyword: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(keyword, "True or False", value)
    return value


_CHECKS: Mapping[str, Callable[[str, object], Any]] = {
    "requires": _words(FACTS),
    "link": _word(KINDS),
    "wires": _words(WIRES),
    "min_baudrate": _rate,
    "device": _name,
    # The links of the bench are not known here, so every valid name is accepted.
    "links": _words((*LINKS, HW), is_hardware),
    "config": _config,
    "script_strict": _flag,
    "allow_leaks": _flag,
    "allow_disconnects": _flag,
    "by_request": _flag,
}
