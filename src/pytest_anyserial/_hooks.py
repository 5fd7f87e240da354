"""Hooks of pytest that this plugin calls, for conftest files and other plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
