"""Machine instructions of whole processes, counted by callgrind: the same in every run, on a busy machine too."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from . import pytest_runs
from .cases import OURS, Case
from .processes import Sample

_IMPORT: Final = "import anyio._backends._asyncio"
#: What runs with us and without, after the name of the interpreter.
_COMMANDS: Final = {
    "import": (["-c", f"{_IMPORT}, anyserial"], ["-c", _IMPORT]),
    "startup": (pytest_runs.ARGUMENTS, [*pytest_runs.ARGUMENTS, "-p", "no:pytest_anyserial"]),
}
_TOTAL: Final = re.compile(r"Collected : (\d+)")


def count(case: Case) -> Sample:
    """Millions of instructions in user space, by what runs."""
    contestant = f"{OURS}/{case.loops[0]}"
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return Sample(case=case.name, contestant=contestant, round=0, figures={}, error="needs valgrind, not installed")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_it.py").write_text(pytest_runs.UNRELATED, "utf-8")
        log = Path(folder, "counted")
        counter = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}"]
        counts = []
        for arguments in _COMMANDS[case.measure]:
            # The first run compiles what is imported.
            for prefix in ([], counter):
                pytest_runs.run([*prefix, sys.executable, *arguments], cwd=folder, PYTHONHASHSEED="0")
            found = _TOTAL.search(log.read_text())
            if found is None:
                raise ValueError(f"callgrind has not said what it counted: {log.read_text()}")
            counts.append(int(found[1]) / 1e6)
    ours, bare = counts
    figures = {"ours": ours, "bare": bare, "more": ours - bare, "percent": 100 * (ours - bare) / bare}
    return Sample(case=case.name, contestant=contestant, round=0, figures=figures)
