"""The processes of a measurement: the contestant's, and the far end's."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import tty
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .cases import Case
from .figures import Figures
from .machine import processors

_FAR: Final = Path(__file__).with_name("far.py")
_HOME: Final = Path(__file__).parents[1]
_PATIENCE: Final = 60.0
#: The far end behind a server.
_ECHO: Final = Case(name="", title="", measure="", metrics={})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One contestant in one round of one case: figures, or why there are none."""

    case: str
    contestant: str
    round: int
    figures: Figures
    error: str | None = None


class Worker:
    """A contestant's process. `prefix` is a command to run it under."""

    def __init__(self, contestant: str, case: Case, settings: dict[str, Any], prefix: Sequence[str] = ()) -> None:
        task = json.dumps({"contestant": contestant, "measure": case.measure, "settings": settings})
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", f"{__package__}.worker", task],
            cwd=_HOME,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        os.sched_setaffinity(self._process.pid, processors()[:-1] or processors())
        self.error: str | None = None

    def wait_until_ready(self) -> None:
        """Return when everything is imported, or with `error` set."""
        self._line()

    def measure(self, paths: Sequence[str]) -> Figures:
        """Let it measure on the terminals at `paths`; empty, with `error` set, when that fails."""
        assert self._process.stdin is not None
        if self.error is None:
            print(json.dumps(paths), file=self._process.stdin, flush=True)
        line = self._line()
        return {} if line is None else json.loads(line)

    def _line(self) -> str | None:
        if self.error is not None:
            return None
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], _PATIENCE)[0]:
            self.error = f"no answer within {_PATIENCE:g} s"
            return None
        line = stdout.readline().strip()
        if not line:
            self._stderr.seek(0)
            self.error = f"exit status {self._process.wait()}: {self._stderr.read().strip()[-200:]}"
        elif line.startswith('{"error"'):
            self.error = json.loads(line)["error"]
        return line if self.error is None else None

    def wait(self) -> None:
        """Tell it that this was all, and return when it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE)

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        with self._process:
            self._stderr.close()


@contextlib.contextmanager
def _shared(*, is_fast: bool) -> Iterator[str]:
    """The address of a pseudo-terminal that echoes, behind ser2net."""
    # From the tests: it needs pytest, which most cases do not.
    from servers import reserved_ports, ser2net

    with tempfile.TemporaryDirectory() as folder, far_end(_ECHO) as (path,), reserved_ports(1) as (port,):
        accepter = f"telnet(rfc2217),tcp{'(nodelay)' if is_fast else ''},127.0.0.1,{port}"
        with ser2net(Path(folder), [(accepter, path)], is_fast=is_fast) as process:
            os.sched_setaffinity(process.pid, processors()[-1:])
            yield f"rfc2217://127.0.0.1:{port}"


@contextlib.contextmanager
def far_end(case: Case) -> Iterator[list[str]]:
    """Raw pseudo-terminals with a process on their controllers; gives their paths."""
    if case.far in ("remote", "remote-default"):
        with _shared(is_fast=case.far == "remote") as url:
            yield [url]
        return
    pairs = [os.openpty() for _ in range(case.ports)]
    controllers = [controller for controller, _ in pairs]
    for _, terminal in pairs:
        tty.setraw(terminal)
    command = [sys.executable, "-I", "-S", str(_FAR), case.far, *map(str, controllers)]
    process = subprocess.Popen(command, pass_fds=controllers)
    os.sched_setaffinity(process.pid, processors()[-1:])
    for controller in controllers:
        os.close(controller)
    try:
        # The terminals stay open here: a controller whose terminal nobody has open reads EIO.
        yield [os.ttyname(terminal) for _, terminal in pairs]
    finally:
        process.kill()
        process.wait()
        for _, terminal in pairs:
            os.close(terminal)
