"""The kernel lock of one file, and the processes that hold it according to the kernel.

The kernel releases a lock when its process ends for any reason. Only the kernel's list of locks proves which process is
the holder, because every user of the host can write the text of a lock file.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import FileIO

if sys.platform == "win32":
    import msvcrt
    from typing import Final

    #: On Windows other processes cannot read a locked byte, so the locked byte is far behind the text.
    _LOCKED_BYTE: Final = 1 << 30

    def try_lock(file: FileIO) -> bool:
        """Lock an open file if it is free."""
        file.seek(_LOCKED_BYTE)
        with suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        return False

    def unlock(file: FileIO) -> None:
        """Release the lock of an open file."""
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

    def lockers(status: os.stat_result) -> frozenset[int]:  # noqa: ARG001
        """Return nothing, because this system does not list its locks."""
        return frozenset()

    def is_alive(pid: int) -> bool:  # noqa: ARG001
        """Return False: `os.kill` would end the process on this system."""
        return False

    def user_of(pid: int) -> int | None:  # noqa: ARG001
        """Return None: users have no numbers on this system."""
        return None

else:
    import fcntl

    def try_lock(file: FileIO) -> bool:
        """Lock an open file if it is free."""
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def unlock(file: FileIO) -> None:
        """Release the lock of an open file."""
        # `close` alone is not enough, because a child forked at this moment has the same lock open.
        fcntl.flock(file, fcntl.LOCK_UN)

    def lockers(status: os.stat_result) -> frozenset[int]:
        """Return the processes that have locked a file; empty if the kernel does not list them.

        Only Linux lists its locks, for processes of the same pid namespace. Some file systems (btrfs, overlayfs) show
        programs another device number than the kernel lists.
        """
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}".encode()
        found: set[int] = set()
        with suppress(OSError, ValueError), open("/proc/locks", "rb") as lines:
            for line in lines:
                # `7: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`; a waiting process has `->` after the first number.
                words = line.split()
                if len(words) > 5 and words[1] in {b"FLOCK", b"LEASE"} and words[5] == place:
                    found.add(int(words[4]))
        return frozenset(found)

    def is_alive(pid: int) -> bool:
        """Whether a process exists; a lock that a child inherited is listed under its dead parent."""
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        except (OSError, OverflowError):
            return False
        return True

    def user_of(pid: int) -> int | None:
        """Return the user id of a process of this host, if the kernel shows it."""
        with suppress(OSError):
            return os.stat(f"/proc/{pid}").st_uid
        return None
