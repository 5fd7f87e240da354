"""Files in a folder that every user of the host may write to, opened so that no other user can redirect or block them.

The folder is opened once, checked through its descriptor, and then used through it. A mode is set on a descriptor,
never on a name. A lock file is a regular file with exactly one name: never a link, a FIFO, a folder or a file from
elsewhere.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
import sys
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .._text import plain
from .blocked import WHO, BenchError

#: One place per host, the same for all users and projects, so it must not depend on the environment.
_FOLDERS: Final = {
    "linux": "/run/lock/anyserial",
    "darwin": "/Users/Shared/anyserial",
    "win32": r"C:\ProgramData\anyserial",
}
DEFAULT_FOLDER: Final = Path(_FOLDERS.get(sys.platform, "/var/spool/lock/anyserial"))

SUFFIX: Final = ".lock"
_NEW: Final = ".new-"
#: Attempts, because another process may create or remove a name between two steps.
_ATTEMPTS: Final = 10

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
}


class LeaseError(BenchError):
    """A device cannot be leased; the text gives the reason and the next step."""

    kind = "lease not usable"
    mend = WHO


class LeaseFolderError(LeaseError):
    """The folder of the leases cannot be used."""


class LeaseFileError(LeaseError):
    """The lock file of a device cannot be used."""


class NotALockFileError(OSError):
    """An entry of the folder that cannot be a lock file."""


class SharedFileError(NotALockFileError):
    """A file that has a second name, perhaps only while it is being created."""


class Folder:
    """The open folder of the leases.

    Args:
        place: Its path; None is the place that all users of the host share.
        make: Create it if it does not exist, and require that this user may write to it.

    Raises:
        FileNotFoundError: It does not exist, and `make` is false.
        LeaseFolderError: It cannot be used, or another user could replace its files.
    """

    def __init__(self, place: Path | None, *, make: bool) -> None:
        self.path: Final = (place or DEFAULT_FOLDER).absolute()
        #: None on systems that cannot open a folder.
        self._descriptor: int | None
        try:
            self._descriptor = _made(self.path) if make else _opened(self.path)
        except FileNotFoundError as exc:
            if make:
                raise _unusable(self.path, exc) from exc
            raise
        except OSError as exc:
            raise _unusable(self.path, exc) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def names(self) -> list[str]:
        """The names of the entries that could be lock files."""
        names = os.listdir(self.path if self._descriptor is None else self._descriptor)
        return sorted(name for name in names if name.endswith(SUFFIX))

    def open(self, name: str, *, writing: bool) -> FileIO:
        """Open a lock file, without waiting and without following a link.

        Raises:
            BlockingIOError: A process has a kernel lease (`F_SETLEASE`) on it, which the kernel breaks after a while.
            NotALockFileError: It is not a regular file, or has two names.
            OSError: It cannot be opened.
        """
        # Without O_CREAT, which a kernel with `protected_regular` refuses for another user's file in a sticky folder.
        flags = (os.O_RDWR if writing else os.O_RDONLY) | _OPEN_FLAGS
        descriptor = os.open(self._at(name), flags, dir_fd=self._descriptor)
        try:
            _require_lock_file(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return FileIO(descriptor, "r+" if writing else "r")

    def opened(self, name: str) -> FileIO:
        """Open a lock file for writing. If it does not exist, create it with write permission for every user.

        Raises:
            OSError: It cannot be opened or created.
        """
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):
                return self.open(name, writing=True)
            self._make(name)
        raise FileNotFoundError(errno.ENOENT, "it disappears each time that it is made")

    def has(self, name: str, file: FileIO) -> bool:
        """Whether the path still leads to this open file."""
        with suppress(OSError):
            return os.path.samestat(os.lstat(self.path / name), os.fstat(file.fileno()))
        return False

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of an entry that this user may not open."""
        with suppress(OSError):
            return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        return None

    def reason(self, name: str, exc: OSError) -> str:
        """Return why an entry cannot be used, and the command that removes it."""
        status = self.status(name)
        if status is None or sys.platform == "win32":
            return exc.strerror or str(exc)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        maker = user_name(status.st_uid)
        if kind is not None:
            text = f"it is {kind}, made by {maker}"
        elif isinstance(exc, SharedFileError):
            text = str(exc.strerror)
        elif isinstance(exc, PermissionError):
            text = f"{exc.strerror}: it belongs to {maker}, mode {stat.S_IMODE(status.st_mode):04o}"
        else:
            return exc.strerror or str(exc)
        # `rm` follows no link in the last part of a path.
        command = "sudo rm -r" if stat.S_ISDIR(status.st_mode) else "sudo rm"
        return f"{text}. Remove it while no test uses the device: {command} {_quoted(self.path / name)}"

    def unusable(self, name: str, exc: OSError) -> LeaseFileError:
        """Return the error for a test that needs this lock file."""
        return LeaseFileError(f"lock file {plain(str(self.path / name))} cannot be used: {self.reason(name, exc)}")

    def _make(self, name: str) -> None:
        """Create a lock file, perhaps at the same time as another process.

        The file gets its name after its mode is set, because another user may open it at any moment.
        """
        new = f"{_NEW}{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS
        descriptor = os.open(self._at(new), flags, 0o600, dir_fd=self._descriptor)
        try:
            _allow_all_users(descriptor)
            with suppress(FileExistsError):
                _link(self._at(new), self._at(name), self._descriptor)
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(self._at(new), dir_fd=self._descriptor)

    def _at(self, name: str) -> str:
        return str(self.path / name) if self._descriptor is None else name


def owner(file: FileIO) -> str:
    """The name of the user whose file this is."""
    return user_name(os.fstat(file.fileno()).st_uid)


def _require_lock_file(status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise NotALockFileError(errno.EINVAL, f"it is {_KINDS.get(kind, 'no ordinary file')}")
    # The second name may be the lock file of another device, or a file elsewhere that would be overwritten.
    if status.st_nlink > 1:
        raise SharedFileError(errno.EMLINK, f"it has {status.st_nlink} names (hard links)")


if sys.platform == "win32":
    _OPEN_FLAGS: Final = os.O_BINARY

    def user_name(uid: int) -> str:
        """Return the number as text; this system has no user numbers."""
        return f"user {uid}"

    def _opened(path: Path) -> int | None:
        if not path.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return None

    def _made(path: Path) -> int | None:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return None

    def _allow_all_users(descriptor: int) -> None:
        """Do nothing, because files inherit the permissions of their folder."""

    def _link(new: str, name: str, descriptor: int | None) -> None:  # noqa: ARG001
        os.link(new, name)

    def _unusable(path: Path, exc: OSError) -> LeaseFolderError:
        return LeaseFolderError(
            f"{_unused(path, exc.strerror or str(exc))}. All users of the bench must be able to write there: "
            "allow it, or set lease_dir in the bench file"
        )

else:
    import pwd

    _OPEN_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    _FOR_ALL: Final = 0o1777
    _PARENT: Final = 0o755
    _A_MOMENT: Final = 0.05

    def user_name(uid: int) -> str:
        """The name of a user, or `uid 1000`."""
        try:
            return plain(pwd.getpwuid(uid).pw_name)
        except (KeyError, OverflowError):
            return f"uid {uid}"

    def _opened(path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN_FLAGS)
        problem = _trust_problem(path, os.fstat(descriptor))
        if problem is None:
            return descriptor
        os.close(descriptor)
        raise problem

    def _made(path: Path) -> int:
        for attempt in range(_ATTEMPTS):
            try:
                return _writable(path)
            except FileNotFoundError:
                # Another process may create it first.
                with suppress(FileExistsError):
                    _make_folder(path, _FOR_ALL)
            except PermissionError:
                # Another process may have created it just now, and not yet set its mode.
                if not attempt:
                    time.sleep(_A_MOMENT)
                    continue
                raise
        return _writable(path)

    def _writable(path: Path) -> int:
        descriptor = _opened(path)
        if os.access(".", os.W_OK | os.X_OK, dir_fd=descriptor):
            return descriptor
        os.close(descriptor)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def _make_folder(path: Path, mode: int) -> None:
        """Create a folder and its parents with these modes, independent of the umask."""
        if not path.parent.is_dir():
            with suppress(FileExistsError):
                _make_folder(path.parent, _PARENT)
        os.mkdir(path, mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN_FLAGS)
        try:
            # If other users may rename in the parent, the name may already lead to another folder.
            if os.fstat(descriptor).st_uid == os.geteuid():
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _trust_problem(path: Path, status: os.stat_result) -> LeaseFolderError | None:
        """Whether another user could replace lock files in a folder: its owner, or everyone if it is not sticky.

        A group with write permission is trusted, also without the sticky bit, because the owner granted it.
        """
        if status.st_uid not in {0, os.geteuid()}:
            return _misplaced(path, f"it belongs to {user_name(status.st_uid)}, who could replace the lock files")
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            reason = f"every user may remove its lock files (mode {stat.S_IMODE(status.st_mode):04o})"
            return _refused(path, reason, f"sudo chmod 1777 {_quoted(path)}")
        return None

    def _allow_all_users(descriptor: int) -> None:
        os.fchmod(descriptor, 0o666)

    def _link(new: str, name: str, descriptor: int | None) -> None:
        os.link(new, name, src_dir_fd=descriptor, dst_dir_fd=descriptor, follow_symlinks=False)

    def _unusable(path: Path, exc: OSError) -> LeaseFolderError:
        try:
            status = os.lstat(path)
        except OSError:
            # If the name exists, this command fails or changes nothing.
            return _refused(path, _reason(path, exc), f"sudo mkdir -p -m 1777 {_quoted(path)}")
        if not stat.S_ISDIR(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a file")
            return _misplaced(path, f"it is {kind}, made by {user_name(status.st_uid)}")
        if problem := _trust_problem(path, status):
            return problem
        if isinstance(exc, PermissionError):
            return _refused(path, _reason(path, exc), f"sudo chmod 1777 {_quoted(path)}")
        return LeaseFolderError(
            f"{_unused(path, _reason(path, exc))}. To use another one, set lease_dir in the bench file"
        )

    def _reason(path: Path, exc: OSError) -> str:
        where = "" if exc.filename in (None, str(path)) else f" ({plain(str(exc.filename))})"
        return f"{exc.strerror or exc}{where}"

    def _refused(path: Path, reason: str, command: str) -> LeaseFolderError:
        return LeaseFolderError(
            f"{_unused(path, reason)}. All users of the bench must be able to write there: {command}, "
            "or set lease_dir in the bench file"
        )

    def _misplaced(path: Path, reason: str) -> LeaseFolderError:
        """Return commands that follow no link, because the user who created the name can replace it at any moment."""
        command = f"sudo mkdir -m 1777 {_quoted(path)}"
        # `rm -r` is suggested only below the default folder, where it can delete nothing else.
        command = (
            f"sudo rm -r {_quoted(path)} && {command}" if path == DEFAULT_FOLDER else f"move it away, then {command}"
        )
        return LeaseFolderError(
            f"{_unused(path, reason)}. It must be a folder that root or you made: {command}; "
            "or set lease_dir in the bench file"
        )


def _unused(path: Path, reason: str) -> str:
    return f"lease folder {plain(str(path))} cannot be used: {reason}"


def _quoted(path: Path) -> str:
    return shlex.quote(plain(str(path)))
