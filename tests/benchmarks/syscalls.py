"""System calls per operation, counted by strace between two calls that mark the measured part."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from .cases import Case
from .figures import Figures
from .measure import BEGIN, END
from .processes import Sample, Worker, far_end

KINDS: Final = {
    "read": {"read", "readv", "pread64"},
    "write": {"write", "writev", "pwrite64"},
    "register": {"epoll_ctl"},
    "wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2", "select", "pselect6", "poll", "ppoll", "io_uring_enter"},
}
_CALL: Final = re.compile(r"^\d+\s+(\w+)\(", re.MULTILINE)


def trace(case: Case, contestant: str, settings: dict[str, Any]) -> Sample:
    """One run under strace; figures are calls per operation."""
    strace = shutil.which("strace")
    if strace is None:
        return Sample(case=case.name, contestant=contestant, round=0, figures={}, error="needs strace, not installed")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "calls")
        worker = Worker(contestant, case, settings, [strace, "-f", "-qq", "-o", str(log)])
        try:
            worker.wait_until_ready()
            with far_end(case) as paths:
                worker.measure(paths)
            worker.wait()
        finally:
            worker.stop()
        figures = {} if worker.error else _per_operation(log.read_text(errors="replace"), settings["count"])
    return Sample(case=case.name, contestant=contestant, round=0, figures=figures, error=worker.error)


def _per_operation(log: str, count: int) -> Figures:
    _, _, measured = log.partition(BEGIN)
    measured, mark, _ = measured.partition(END)
    if not mark:
        raise ValueError("the trace does not hold the marks of the measured part")
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    calls = Counter(kinds.get(name, "other") for name in _CALL.findall(measured))
    # The call that makes the second mark.
    calls["other"] -= 1
    return {kind: calls[kind] / count for kind in (*KINDS, "other")}
