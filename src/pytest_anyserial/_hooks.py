"""Hooks of pytest that this plugin calls, for conftest files and other plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._views.view import SerialView


@pytest.hookspec
def pytest_anyserial_views(item: pytest.Item) -> Mapping[str, SerialView]:  # type: ignore[empty-body]
    """Protocol views for the timeline of a test that leaves one, by the names that the page shows.

    A view is called with the bursts of one port and yields the messages that it finds in them. It is called for
    each port, after the test, and yields nothing for a protocol that is not its own.
    """


@pytest.hookspec(firstresult=True)
def pytest_anyserial_recording_event(item: pytest.Item, event: dict[str, Any]) -> dict[str, Any] | None:
    """Change what is written to a recording, such as to leave out a password.

    It is called for the head of the recording and for each event in it, before the file is written. The first
    implementation that returns something decides.

    Args:
        item: The test.
        event: The head, which has `"format"`, or an event, which has `"kind"`; of `"sent"` and `"received"` bytes the
            `"data"` are `bytes`.

    Returns:
        What to write in place of `event`; None to leave it as it is.
    """
