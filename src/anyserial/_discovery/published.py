"""Ports that a test publishes: the list of serial ports, as long as one is published, is made of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from .._types import PortInfo

#: The lists in use, the latest last, each with whether the machine's own ports are listed too.
_lists: list[tuple[Iterable[PortInfo], bool]] = []


@contextmanager
def published_ports(ports: Iterable[PortInfo], *, alone: bool = True) -> Generator[None]:
    """Let `list_serial_ports` and `find_serial_port` find these ports, for the length of a `with` block.

    It holds in the whole process, for every backend. The latest of several blocks counts.

    Args:
        ports: Read at each call, so a list may change meanwhile.
        alone: List nothing else. Otherwise the ports of the machine follow.
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
    """The published ports, by `device`, and whether they are alone; None if the machine's are what counts."""
    if not _lists:
        return None
    ports, alone = _lists[-1]
    return sorted(ports, key=lambda port: port.device), alone
