"""Ports that a test publishes. While a list is published, discovery returns its ports."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from .._types import PortInfo

#: The published lists, the latest last, each with whether it replaces the machine's own ports.
_lists: list[tuple[Iterable[PortInfo], bool]] = []


@contextmanager
def published_ports(ports: Iterable[PortInfo], *, alone: bool = True) -> Generator[None]:
    """Make `list_serial_ports` and `find_serial_port` return these ports, for the length of a `with` block.

    It applies to the whole process and to every backend. If several blocks are active, the latest wins.

    Args:
        ports: The ports. They are read at each call, so a list may change meanwhile.
        alone: If true, list no other ports. Otherwise the ports of the machine follow.
    """
    entry = ports, alone
    _lists.append(entry)
    try:
        yield
    finally:
        # Blocks of several tasks may end in any order.
        index = next(index for index, each in enumerate(_lists) if each is entry)
        del _lists[index]


def published() -> tuple[list[PortInfo], bool] | None:
    """Return the published ports, sorted by `device`, and `alone`; None if no list is published."""
    if not _lists:
        return None
    ports, alone = _lists[-1]
    return sorted(ports, key=lambda port: port.device), alone
