"""The mark `serial_mutate`: bytes of the replies of a test whose values do not matter, with the reason."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest

from .._options import unknown
from .._wire import Free, check_free

_KEYWORDS: Final = ("ignore", "reason")


def marked_free(item: pytest.Item) -> list[Free]:
    """Return what the marks of a test, its class and its module leave free.

    Raises:
        pytest.UsageError: A mark is wrong.
    """
    return [_free(item, mark) for mark in item.iter_markers("serial_mutate")]


def _free(item: pytest.Item, mark: pytest.Mark) -> Free:
    def wrong(problem: object) -> pytest.UsageError:
        return pytest.UsageError(f"{item.nodeid}: mark 'serial_mutate': {problem}")

    if mark.args:
        raise wrong(f"it takes keywords only, not {mark.args[0]!r}")
    for name in mark.kwargs:
        if name not in _KEYWORDS:
            raise wrong(unknown("keyword", name, _KEYWORDS))
    ignore: Any = mark.kwargs.get("ignore", ())
    where = tuple(cast("list[object]", ignore)) if isinstance(ignore, list | tuple) else (ignore,)
    try:
        return check_free("ignore", where, mark.kwargs.get("reason"))
    except (TypeError, ValueError) as exc:
        raise wrong(exc) from None
