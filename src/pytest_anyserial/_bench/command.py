"""Run a command of the bench file without a shell and with a time limit; only its exit status decides success.

Its output is used only in the message of a failure, so only the beginning and the end of a long output are kept.
A process that the command leaves behind may keep its standard output open; nothing waits for that process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from .._text import count

#: Bytes that are kept at the beginning, and at the end, of an output.
_KEPT: Final = 4096
_CHUNK: Final = 65_536
#: Seconds to wait for the remaining output after the command has ended.
_REST: Final = 0.5


class CommandResult(NamedTuple):
    """The result of a command: its exit status (None if it took too long and was stopped) and its output."""

    status: int | None
    output: str


def run(argv: Sequence[str], folder: Path, *, limit: float) -> CommandResult:
    """Run a command in `folder` for at most `limit` seconds; after that, kill it and the processes that it started.

    Raises:
        OSError: The command cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603  the bench file names it, and there is no shell
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        # A group, so that its children can be killed with it, but no new session, so that sudo keeps the terminal.
        process_group=None if sys.platform == "win32" else 0,
    )
    assert process.stdout is not None
    output = _Output()
    # A thread, because a process that was left behind may keep the pipe open forever.
    reader = threading.Thread(target=output.read, args=(process.stdout,), name="anyserial power command", daemon=True)
    reader.start()
    status: int | None = None
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        _end(process)
    except BaseException:
        _end(process)
        raise
    reader.join(_REST)
    return CommandResult(status, output.text())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return
    # Under sudo the process belongs to root, and this user may not kill it.
    with suppress(PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            # The process was not waited for yet, so the kernel has not reused its number for another group.
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_REST)


class _Output:
    """The beginning and the end of what a command prints."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._head = self._tail = b""
        self._length = 0

    def read(self, pipe: IO[bytes]) -> None:
        """Read until every writer has closed the pipe."""
        with pipe:
            for data in iter(lambda: pipe.read(_CHUNK), b""):
                with self._lock:
                    room = _KEPT - len(self._head)
                    self._head += data[:room]
                    self._tail = (self._tail + data[room:])[-_KEPT:]
                    self._length += len(data)

    def text(self) -> str:
        """The output read so far."""
        with self._lock:
            head, tail, length = self._head, self._tail, self._length
        missing = length - len(head) - len(tail)
        between = f"\n... {count(missing, 'more byte')} ...\n".encode() if missing else b""
        return (head + between + tail).decode(errors="backslashreplace").strip()
