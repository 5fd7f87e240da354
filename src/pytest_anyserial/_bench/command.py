"""A command that the bench file names: run without a shell, within a limit, and judged by its exit status alone.

What it prints is for the message of a failure, so of a long output only the beginning and the end are kept. A process
that the command leaves behind may keep its standard output; nothing waits for that process.
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

#: Bytes of each of the two ends of an output.
_KEPT: Final = 4096
_CHUNK: Final = 65_536
#: Seconds for the rest of the output of a command that has ended.
_REST: Final = 0.5


class Done(NamedTuple):
    """How a command ended: its exit status, None if it was stopped because it took too long; and what it printed."""

    status: int | None
    output: str


def run(argv: Sequence[str], folder: Path, *, limit: float) -> Done:
    """Run a command in `folder` for `limit` seconds at most; then it and the processes that it has started are ended.

    Raises:
        OSError: It cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603  the bench file names it, and there is no shell
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        # Of its own, so that what it starts can be ended with it; in the same session, so that sudo knows the terminal.
        process_group=None if sys.platform == "win32" else 0,
    )
    assert process.stdout is not None
    output = _Output()
    # A thread, because a process that was left behind may keep the pipe open without end.
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
    return Done(status, output.text())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return
    # Under sudo it is a process of root, which this user may not end.
    with suppress(PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            # It is not waited for yet, so its number is still that of its group.
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
        """Read until all who can write have closed it."""
        with pipe:
            while data := pipe.read(_CHUNK):
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
