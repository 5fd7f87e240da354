"""Wait until the other side has opened its port. `anyserial` reports its own ports, Linux lists all descriptors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import anyio

from anyserial.testing import OpenedPort, watch_ports

from .. import _loops

if TYPE_CHECKING:
    from .._links.link import SerialLink
    from .far_end import FarEnd

#: Seconds between two checks of whether a device is open.
_POLL_INTERVAL: Final = 0.02
#: Seconds that a library needs after its open, for example to empty the queues.
_OPEN_SETTLE_TIME: Final = 0.05
#: Descriptors that a link itself keeps open at each end.
_OWN_DESCRIPTORS: Final = {"pty": 1}


async def wait_until_opened(link: SerialLink, far_end: FarEnd, over: Callable[[], bool]) -> None:
    """Return when end A of `link` is open, or when `over` returns true."""
    path = link.path("port")
    is_open = link._test.has_open(path)
    on_loop = _loops.scheduler()

    def note(opened: OpenedPort) -> None:
        nonlocal is_open
        if opened.path == path:
            is_open = True
            on_loop(far_end.notify)

    with watch_ports(note):
        device, own = _device_at(path), _OWN_DESCRIPTORS.get(link.name, 0)
        if device is None:
            await far_end.wait_until(lambda: is_open or over())
            return
        seen = False
        while not (is_open or over()):
            before, seen = seen, _count_descriptors(device) > own
            if seen and before:
                return
            # Check twice, because a child process has copies of all descriptors until it executes its program.
            await anyio.sleep(_OPEN_SETTLE_TIME if seen else _POLL_INTERVAL)


def _device_at(path: str) -> str | None:
    """Return the device file of a path; None if only this process can open the path, as with a mock."""
    return os.path.realpath(path) if os.path.exists(path) else None


def _count_descriptors(device: str) -> int:
    """Count the descriptors of a device in this user's processes; 0 if the system has no `/proc`."""
    return sum(1 for target in _descriptor_targets() if target == device)


def _descriptor_targets() -> Iterator[str]:
    try:
        processes = [entry.path for entry in os.scandir("/proc") if entry.name.isdigit()]
    except OSError:
        return
    for process in processes:
        try:
            descriptors = [entry.path for entry in os.scandir(f"{process}/fd")]
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                yield os.readlink(descriptor)
            except OSError:
                continue
