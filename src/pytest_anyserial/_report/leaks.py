"""Ports that a test opens itself: none may be open when the test and its fixtures are over."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from traceback import FrameSummary
from typing import Final

import pytest

from anyserial.testing import OpenedPort, opened_ports

from .._text import count, plain

_WATCH: pytest.StashKey[OpenPorts] = pytest.StashKey()
#: The number of callers shown for an open.
_SHOWN: Final = 3
_INSTALLED: Final = ("site-packages", "dist-packages")


class OpenPorts:
    """Collects the ports that each test opens. A separate plugin, so that it costs nothing until it is used."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._found: list[OpenedPort] = []
        # The paths that the last finished test has opened.
        self._past: set[str] = set()

    @classmethod
    def of(cls, config: pytest.Config) -> OpenPorts:
        """Return the run's collector, creating it on first use."""
        if _WATCH not in config.stash:
            config.stash[_WATCH] = cls()
            config.pluginmanager.register(config.stash[_WATCH])
        return config.stash[_WATCH]

    def start(self) -> None:
        """Collect the ports that are opened from now on."""
        self._stack.close()
        self._past = set()
        self._found = self._stack.enter_context(opened_ports())

    def stop(self) -> list[OpenedPort]:
        """Stop collecting; close the ports that were left open, and return them."""
        self._stack.close()
        left = [port for port in self._found if port.left_open]
        self._past, self._found = {port.path for port in self._found}, []
        for port in left:
            port.close()
        return left

    def close_all(self, *, only_blocking: bool = False) -> None:
        """Close all open ports, or only the blocking ones, so that calls that wait for one return."""
        for port in tuple(self._found):
            if port.is_blocking or not only_blocking:
                port.close()

    def has_open(self, path: str) -> bool:
        """Whether the test has a port open at this path."""
        return any(port.path == path and port.left_open for port in tuple(self._found))

    def has(self, path: str) -> bool:
        """Whether the test has opened this path."""
        return path in self._past or any(port.path == path for port in self._found)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """Do not count ports that a fixture of wider scope opens, because they may outlive the test."""
        before = len(self._found)
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                del self._found[before:]


def complaint(ports: list[OpenedPort], item: pytest.Item) -> str:
    """Return the message about ports that a test has left open."""
    lines = [f"the test left {count(len(ports), 'port')} open: {', '.join(plain(port.path) for port in ports)}"]
    for port in ports:
        lines.append(f"  {plain(port.path)}, opened by")
        lines.extend(f"    {line}" for line in _places(port, item.config.rootpath))
    lines.append(
        "Close what the test opens, such as with `async with`, or lift this with "
        "@pytest.mark.anyserial(allow_leaks=True)."
    )
    return "\n".join(lines)


def _places(port: OpenedPort, root: Path) -> Iterator[str]:
    """Yield the callers that opened a port, innermost first; only those of the project, if there are any."""
    callers = port.callers
    ours = [frame for frame in callers if _is_in(root, frame.filename)] or callers[:1]
    for frame in ours[:_SHOWN]:
        yield f"{_where(root, frame)}: {frame.line or '?'}"


def _is_in(root: Path, filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(root) and not any(part in _INSTALLED for part in path.parts)


def _where(root: Path, frame: FrameSummary) -> str:
    path = Path(frame.filename)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return f"{plain(str(shown))}:{frame.lineno}, in {frame.name}"
