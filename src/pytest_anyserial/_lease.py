"""Exclusive use of a device between processes: a kernel lock on one file per physical device.

The lock is the truth. It dies with its process, however that ends; its file stays, because a file that came and went
could be two files of one name. What stands in the file is for people: who holds the device, since when, and for what.
"""

from __future__ import annotations

import dataclasses
import errno
import getpass
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

if sys.platform == "win32":
    import msvcrt

    #: A locked byte cannot be read by others, so it is one far behind the text.
    _LOCKED_BYTE: Final = 1 << 30

    def _try_lock(file: FileIO) -> bool:
        file.seek(_LOCKED_BYTE)
        with suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        return False

    def _unlock(file: FileIO) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: FileIO) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _unlock(file: FileIO) -> None:
        # Not left to `close`: a child forked at this moment has the same lock open.
        fcntl.flock(file, fcntl.LOCK_UN)


#: One place per host, the same for all users and projects, and never one that depends on the environment.
_FOLDERS: Final = {
    "linux": "/run/lock/anyserial",
    "darwin": "/Users/Shared/anyserial",
    "win32": r"C:\ProgramData\anyserial",
}
DEFAULT_FOLDER: Final = Path(_FOLDERS.get(sys.platform, "/var/spool/lock/anyserial"))

_SUFFIX: Final = ".lock"
_POLL: Final = 0.02
#: Whoever lists the leases holds each of them for a moment, which is no reason to give up.
_SHORTEST_WAIT: Final = 0.1
#: More of a file is not read: any user of the host may write there.
_LONGEST_TEXT: Final = 4096


class LeaseError(Exception):
    """A device cannot be leased; the text says why, and what to do."""


class LeaseFolderError(LeaseError):
    """The folder of the leases cannot be used."""


class LeaseHeldError(LeaseError):
    """Another process holds the device, and did not end a test for as long as the bench file allows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a device, or held it last, by its own account.

    Attributes:
        device: The key of the device.
        pid: Its process.
        host: The machine it runs on.
        user: Whose process it is.
        test: What it does with the device: the id of a test, or a command.
        since: Unix time at which it got the device.
        ended: Unix time at which it gave the device back; None if it has not, or was killed first.
    """

    device: str
    pid: int
    host: str
    user: str
    test: str
    since: float
    ended: float | None = None

    def __str__(self) -> str:
        return f"pid {self.pid} of {self.user} on {self.host} (since {_clock(self.since)}, for {self.test})"


class Lease(NamedTuple):
    """What one lease file says."""

    device: str
    is_held: bool
    holder: Holder | None


@contextmanager
def leased(
    devices: Iterable[str], *, test: str, timeout: float, folder: Path | None = None
) -> Generator[None, None, None]:
    """Hold all of these devices for the length of a `with` block.

    They are taken in sorted order, so that no two processes wait for each other.

    Args:
        devices: The keys of physical devices.
        test: What they are held for, to be shown to those who wait.
        timeout: Seconds to wait while nobody else ends a test on a device that is waited for; 0 does not wait.
        folder: Where the lock files are; all who share a device must agree on it.

    Raises:
        LeaseFolderError: The lock files cannot be made or opened.
        LeaseHeldError: Another process went on holding a device for `timeout` seconds.
    """
    place = prepared(folder)
    patience = _Patience(timeout)
    with ExitStack() as stack:
        for name, device in sorted({_file_name(device): device for device in devices}.items()):
            file = stack.enter_context(_locked(place / name, device, patience))
            holder = Holder(
                device=device,
                pid=os.getpid(),
                host=socket.gethostname(),
                user=_user(),
                test=test,
                since=time.time(),
            )
            _write(file, holder)
            stack.callback(_give_back, file, holder)
        yield


def leases(folder: Path | None = None) -> list[Lease]:
    """All devices of this host that were ever leased, by key.

    Raises:
        LeaseFolderError: The lock files cannot be read.
    """
    place = folder or DEFAULT_FOLDER
    try:
        paths = sorted(place.glob(f"*{_SUFFIX}"))
        return [_looked_at(path) for path in paths]
    except OSError as exc:
        raise _unusable(place, exc) from exc


def prepared(folder: Path | None = None) -> Path:
    """The folder of the leases, made if it is not there.

    Raises:
        LeaseFolderError: It cannot be made, or this user may not write there.
    """
    place = folder or DEFAULT_FOLDER
    try:
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            _make_folder(place)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        raise _unusable(place, exc) from exc
    return place


class _Patience:
    """How long to wait: counted anew each time that a holder ends a test."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._seconds = max(timeout, _SHORTEST_WAIT)
        self._start = time.monotonic()
        self._seen: dict[Path, Holder] = {}

    def is_over(self, path: Path, holder: Holder | None) -> bool:
        """Whether to give up on a lock whose file says this now."""
        if holder is not None and holder != self._seen.setdefault(path, holder):
            self._seen[path] = holder
            self._start = time.monotonic()
        return time.monotonic() - self._start > self._seconds

    def holder(self, path: Path) -> Holder | None:
        """Who was seen last at a lock."""
        return self._seen.get(path)


@contextmanager
def _locked(path: Path, device: str, patience: _Patience) -> Generator[FileIO, None, None]:
    while True:
        try:
            file = _opened(path)
        except OSError as exc:
            raise _unusable(path.parent, exc) from exc
        with file:
            if _try_lock(file):
                # A file that somebody deleted meanwhile locks nothing.
                if _is_still_at(path, file):
                    _held.add(file)
                    try:
                        yield file
                    finally:
                        _held.discard(file)
                        if not file.closed:
                            _unlock(file)
                    return
            elif patience.is_over(path, _read(file)):
                raise LeaseHeldError(_expired(device, patience.holder(path), patience.timeout))
        time.sleep(_POLL)


def _expired(device: str, holder: Holder | None, timeout: float) -> str:
    if holder is None:
        return f"{device} is held by another process, which has not said who it is; waited {timeout:g} s"
    return (
        f"{device} is held by {holder}, which ended no test within lease_timeout = {timeout:g} s. "
        f"Wait until it is done, end it (kill {holder.pid}), or raise lease_timeout in the bench file"
    )


def _give_back(file: FileIO, holder: Holder) -> None:
    if not file.closed:
        _write(file, dataclasses.replace(holder, ended=time.time()))


#: The open lock files of this process. A lock lives as long as any copy of its descriptor, and a forked child has one.
_held: Final[set[FileIO]] = set()


def _disown() -> None:
    for file in _held:
        file.close()


_at_fork: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _at_fork is not None:
    _at_fork(after_in_child=_disown)


def _file_name(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", device) + _SUFFIX


def _opened(path: Path) -> FileIO:
    """A lock file, which every user may open for writing."""
    while True:
        # Without O_CREAT: a kernel with `protected_regular` refuses that on another user's file in a sticky folder.
        with suppress(FileNotFoundError):
            return _open(path, os.O_RDWR)
        # It gets its name when its mode is right: another user may open it at any moment.
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        os.close(descriptor)
        try:
            os.chmod(new, 0o666)  # noqa: S103  the lock is for every user
            with suppress(FileExistsError):
                os.link(new, path)
        finally:
            os.unlink(new)


def _open(path: Path, flags: int) -> FileIO:
    """As `open`, without following a link that somebody has laid."""
    return FileIO(
        os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)),
        "r+" if flags & os.O_RDWR else "r",
    )


def _make_folder(place: Path) -> None:
    new = tempfile.mkdtemp(dir=place.parent, prefix=".new-")
    try:
        os.chmod(new, 0o1777)  # noqa: S103  the same
        # Replaces an empty folder at most, which another process has made the same way.
        os.rename(new, place)
    except OSError:
        os.rmdir(new)
        if not place.is_dir():
            raise


def _is_still_at(path: Path, file: FileIO) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    return False


def _looked_at(path: Path) -> Lease:
    with _open(path, os.O_RDONLY) as file:
        is_held = not _try_lock(file)
        if not is_held:
            _unlock(file)
        holder = _read(file)
    return Lease(path.stem if holder is None else holder.device, is_held, holder)


def _write(file: FileIO, holder: Holder) -> None:
    text = json.dumps(dataclasses.asdict(holder)).encode() + b"\n"
    # The lock holds without it.
    with suppress(OSError):
        file.seek(0)
        file.write(text)
        file.truncate(len(text))


def _read(file: FileIO) -> Holder | None:
    """What a lock file says; None if that is nothing, or is being written now."""
    try:
        file.seek(0)
        facts: Any = json.loads(file.read(_LONGEST_TEXT).partition(b"\n")[0])
        return Holder(
            device=_plain(facts["device"]),
            pid=int(facts["pid"]),
            host=_plain(facts["host"]),
            user=_plain(facts["user"]),
            test=_plain(facts["test"]),
            since=_moment(facts["since"]),
            ended=None if facts["ended"] is None else _moment(facts["ended"]),
        )
    except (OSError, ValueError, TypeError, LookupError, OverflowError):
        return None


def _plain(text: object) -> str:
    """Text that another user has written, without anything that could disturb a terminal."""
    if not isinstance(text, str):
        raise TypeError(text)
    return text.encode("ascii", "backslashreplace").decode() if text.isprintable() else ascii(text)


def _moment(seconds: Any) -> float:
    return datetime.fromtimestamp(seconds, UTC).timestamp()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        number: Callable[[], int] | None = getattr(os, "getuid", None)
        return "a user without a name" if number is None else f"user {number()}"


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def _unusable(place: Path, exc: OSError) -> LeaseFolderError:
    where = "" if exc.filename in (None, str(place)) else f" ({exc.filename})"
    return LeaseFolderError(
        f"lease folder {place} cannot be used: {exc.strerror or exc}{where}. All users of the bench must be able to "
        f"write there: sudo install -d -m 1777 {place}, or set lease_dir in the bench file"
    )
