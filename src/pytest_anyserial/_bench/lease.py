"""Exclusive use of a device between processes: a kernel lock on one file per physical device.

Only the lock counts. The kernel releases it when its process ends for any reason. The file stays: after removing and
recreating it, two processes could lock two different files of one name. The text of the file is only for messages.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakSet

from .._text import plain
from .lease_folder import SUFFIX, Folder, SharedFileError, owner, user_name
from .lease_folder import LeaseError as LeaseError
from .lease_folder import LeaseFileError as LeaseFileError
from .lease_folder import LeaseFolderError as LeaseFolderError
from .lease_holder import LONGEST_TEXT, Holder, decoded, encoded, this_process
from .lease_lock import is_alive, lockers, try_lock, unlock, user_of

_POLL: Final = 0.02
#: A process that lists the leases locks each of them for a moment, so one failed attempt is no reason to give up.
_SHORTEST_WAIT: Final = 0.1
#: How often a lock file may be seen with a second name before it is an error.
_MOST_SHARED: Final = 5
#: The whole wait is at most this many times `lease_timeout`, even if short tests of others keep finishing.
_LONGEST_QUEUE: Final = 10


class LeaseHeldError(LeaseError):
    """Another process holds the device, and finished no test within the time that the bench file allows."""

    kind = "device held"


class LeaseLostError(LeaseError):
    """The lock file of a device was removed or replaced while the device was held."""

    kind = "lease lost"


class Lease(NamedTuple):
    """The state of one lock file.

    Attributes:
        device: The key of the device.
        is_held: Whether a process holds it; None if that cannot be found out.
        holder: The current or last holder, as it wrote itself into the lock file.
        remark: What is wrong with the lock file or its text.
    """

    device: str
    is_held: bool | None
    holder: Holder | None
    remark: str = ""


@contextmanager
def leased(
    devices: Iterable[str], *, test: str, timeout: float, folder: Path | None = None
) -> Generator[None, None, None]:
    """Hold all of these devices during a `with` block.

    They are taken in sorted order, so that no two processes wait for each other.

    Args:
        devices: The keys of physical devices.
        test: The purpose, shown to processes that wait for the devices.
        timeout: Seconds to wait while no holder of a wanted device finishes a test; 0 does not wait.
        folder: The folder of the lock files; all processes that share a device must use the same one.

    Raises:
        LeaseFolderError: The folder cannot be used.
        LeaseFileError: A lock file cannot be made or opened.
        LeaseHeldError: Another process kept a device for `timeout` seconds.
        LeaseLostError: A lock file was removed during the block, so another process could take the device.
    """
    with Folder(folder, make=True) as place, ExitStack() as stack:
        deadline = _Deadline(timeout)
        files: dict[str, FileIO] = {}
        for name, device in sorted({_file_name(device): device for device in devices}.items()):
            file = files[device] = stack.enter_context(_locked(place, name, device, deadline))
            holder = this_process(device, test)
            _write(file, holder)
            stack.callback(_write_ended, file, holder)
        try:
            yield
        except BaseException as exc:
            if lost := _lost(place, files):
                exc.add_note(lost)
            raise
        if lost := _lost(place, files):
            raise LeaseLostError(lost)


def leases(folder: Path | None = None) -> list[Lease]:
    """The state of every lock file, by name.

    Raises:
        LeaseFolderError: The folder cannot be used.
    """
    try:
        with Folder(folder, make=False) as place:
            return [_lease_state(place, name) for name in place.names()]
    except FileNotFoundError:
        return []


def lease_of(device: str, folder: Path | None = None) -> Lease:
    """The state of the lock file of one device.

    Raises:
        LeaseFolderError: The folder cannot be used.
    """
    with suppress(FileNotFoundError), Folder(folder, make=False) as place:
        name = _file_name(device)
        if place.status(name) is not None:
            return _lease_state(place, name)
    return Lease(device, is_held=False, holder=None)


def prepared(folder: Path | None = None) -> Path:
    """Return the folder of the leases; create it if it does not exist.

    Raises:
        LeaseFolderError: It cannot be used.
    """
    with Folder(folder, make=True) as place:
        return place.path


class _Deadline:
    """The deadline of a wait: it restarts each time a holder finishes a test, up to a limit."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._seconds = max(timeout, _SHORTEST_WAIT)
        self._start = time.monotonic()
        self._end = self._start + max(timeout * _LONGEST_QUEUE, _SHORTEST_WAIT)
        self._seen: dict[str, Holder] = {}

    def note_holder(self, name: str, holder: Holder | None, pids: frozenset[int]) -> None:
        """Note the text of a lock file and the processes that have locked it, if the kernel lists them.

        A new text means that a test began or ended, provided that a process with the lock can have written it.
        """
        if holder is None or (pids and holder.pid not in pids):
            return
        if holder != self._seen.setdefault(name, holder):
            self._seen[name] = holder
            if self.timeout:
                self._start = time.monotonic()

    def is_over(self) -> bool:
        """Whether to give up."""
        return time.monotonic() > min(self._start + self._seconds, self._end)

    def is_queue_too_long(self) -> bool:
        """Whether to give up although tests finished meanwhile, because any user can write such texts."""
        return self._end < time.monotonic() <= self._start + self._seconds


@contextmanager
def _locked(place: Folder, name: str, device: str, deadline: _Deadline) -> Generator[FileIO, None, None]:
    file = _acquired(place, name, device, deadline)
    try:
        yield file
    finally:
        if not file.closed:
            unlock(file)
        _forget(file)


def _acquired(place: Folder, name: str, device: str, deadline: _Deadline) -> FileIO:
    problem: LeaseError
    shared = 0
    while True:
        try:
            file = place.opened(name)
        except BlockingIOError:
            problem = LeaseHeldError(f"{device} is held: {_kernel_lease(place, name)}", subject=device)
        except SharedFileError as exc:
            # A file that another process is creating has a second name for a moment.
            shared += 1
            problem = place.unusable(name, exc)
        except OSError as exc:
            raise place.unusable(name, exc) from exc
        else:
            # Registered before it is locked, because a child forked in between must not keep the lock.
            _held.add(file)
            try:
                if not try_lock(file):
                    holder, pids = _read(file), lockers(os.fstat(file.fileno()))
                    deadline.note_holder(name, holder, pids)
                    problem = LeaseHeldError(_held_by(device, holder, pids, deadline), subject=device)
                # If the file was removed meanwhile, locking it excludes no other process.
                elif place.has(name, file):
                    return file
                else:
                    unlock(file)
                    problem = LeaseHeldError(
                        f"{device} cannot be leased: its lock file is replaced again and again", subject=device
                    )
            except BaseException:
                _forget(file)
                raise
            _forget(file)
        if deadline.is_over() or shared > _MOST_SHARED:
            raise problem
        time.sleep(_POLL)


def _held_by(device: str, holder: Holder | None, pids: frozenset[int], deadline: _Deadline) -> str:
    """Name the holder of a device, from the kernel if possible. Only a process named by the kernel gets a command."""
    limit = f"{deadline.timeout:g} s"
    if pids and (holder is None or holder.pid not in pids):
        return f"{device} is held by {_processes(pids)}, for an unknown purpose; waited {limit}. {_ps_hint(pids)}"
    if holder is None:
        return f"{device} is leased by another process, whose lock file names no holder; waited {limit}"
    if deadline.is_queue_too_long():
        why = f"and other tests had it before, for {_LONGEST_QUEUE} times lease_timeout = {limit}"
    else:
        why = f"which finished no test within lease_timeout = {limit}"
    kill = f"end it (kill {holder.pid}), " if _may_be_ended(holder, pids) else ""
    return f"{device} is held by {holder}, {why}. Wait until it is done, {kill}or raise lease_timeout in the bench file"


def _may_be_ended(holder: Holder, pids: frozenset[int]) -> bool:
    return (
        holder.pid in pids
        and holder.pid not in {1, os.getpid()}
        and holder.host == socket.gethostname()
        and is_alive(holder.pid)
    )


def _processes(pids: Iterable[int]) -> str:
    """Describe processes from kernel data."""
    users = ((pid, user_of(pid)) for pid in sorted(pids))
    return " and ".join(f"pid {pid}" if uid is None else f"pid {pid} of {user_name(uid)}" for pid, uid in users)


def _kernel_lease(place: Folder, name: str) -> str:
    status = place.status(name)
    pids = frozenset[int]() if status is None else lockers(status)
    who = f"{_processes(pids)} has" if pids else "a process has"
    return f"{who} a kernel lease (F_SETLEASE) on its lock file{f'. {_ps_hint(pids)}' if pids else ''}"


def _ps_hint(pids: Iterable[int]) -> str:
    return f"To see more: ps -fp {','.join(map(str, sorted(pids)))}"


def _lost(place: Folder, files: Mapping[str, FileIO]) -> str:
    """Return the message for lock files that were moved or removed. A forked child has closed its copies."""
    lost = [
        f"another test may have used {device} at the same time: its lock file, which belonged to {owner(file)}, was "
        "removed or replaced while this test held it. Run the test again"
        for device, file in files.items()
        if not file.closed and not place.has(_file_name(device), file)
    ]
    return "; ".join(lost)


def _write_ended(file: FileIO, holder: Holder) -> None:
    if not file.closed:
        _write(file, dataclasses.replace(holder, ended=time.time()))


#: The open lock files of this process, which a forked child closes: a lock lasts as long as any copy of its descriptor.
#: Weak, so that a file that became unreachable through an interrupt is closed and releases its lock.
_held: Final[WeakSet[FileIO]] = WeakSet()


def _forget(file: FileIO) -> None:
    _held.discard(file)
    file.close()


def _close_in_forked_child() -> None:
    for file in _held:
        file.close()


_at_fork: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _at_fork is not None:
    _at_fork(after_in_child=_close_in_forked_child)


def _file_name(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", device) + SUFFIX


def _lease_state(place: Folder, name: str) -> Lease:
    device = plain(name.removesuffix(SUFFIX))
    try:
        file = place.open(name, writing=False)
    except BlockingIOError:
        return Lease(device, None, None, _kernel_lease(place, name))
    except FileNotFoundError:
        return Lease(device, is_held=False, holder=None)
    except OSError as exc:
        status = place.status(name)
        is_held = True if status is not None and lockers(status) else None
        return Lease(device, is_held, None, f"the lock file cannot be used: {place.reason(name, exc)}")
    with file:
        is_held = not try_lock(file)
        if not is_held:
            unlock(file)
        holder = _read(file)
        pids = lockers(os.fstat(file.fileno())) if is_held else frozenset[int]()
    if holder is not None and _file_name(holder.device) == name:
        device = holder.device
    if pids and (holder is None or holder.pid not in pids):
        return Lease(device, is_held, None, f"held by {_processes(pids)}, for an unknown purpose. {_ps_hint(pids)}")
    return Lease(device, is_held, holder)


def _write(file: FileIO, holder: Holder) -> None:
    text = encoded(holder)
    # The lock works without the text.
    with suppress(OSError):
        file.seek(0)
        file.write(text)
        file.truncate(len(text))


def _read(file: FileIO) -> Holder | None:
    with suppress(OSError):
        file.seek(0)
        return decoded(file.read(LONGEST_TEXT))
    return None
