"""`make bench`, or `python -m benchmarks` in the folder `tests`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from .cases import CASES
from .machine import kernel_work_at_far_end
from .plot import fan_out_plot
from .processes import Sample
from .report import Results, as_markdown, as_text
from .run import run

_DOCS: Final = Path(__file__).parents[2] / "docs"
_TABLES: Final = re.compile(r"(?<=<!-- measured -->\n).*(?=\n<!-- end -->)", re.DOTALL)
_PACKAGES: Final = (
    "anyio", "uvloop", "trio", "pyserial", "pyserial-asyncio-fast", "serialx", "aioserial", "trio-serial", "pytest"
)  # fmt: skip


def main() -> None:
    options = _options()
    if not sys.platform.startswith("linux"):
        sys.exit(f"the benchmarks need Linux (epoll, /proc), this is {sys.platform}")
    samples: list[Sample] = []
    # `kill` is to put back what is set here, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with contextlib.nullcontext(False) if options.quick else kernel_work_at_far_end() as granted:
        machine = _machine(granted)
        print(_sentence(machine))
        print("Medians over the rounds; in brackets the ratio to the bare system calls on the same loop.")
        for case in CASES:
            if options.cases and not case.name.startswith(tuple(options.cases)):
                continue
            samples += run(case, rounds=options.rounds, quick=options.quick, only=options.only)
            if any(sample.case == case.name for sample in samples):
                print(as_text(Results(samples), case), flush=True)
    results = Results(samples)
    verdicts = [verdict for case in results.cases() for verdict in results.verdicts(case)]
    print(f"\n{sum(verdict.met for verdict in verdicts)} of {len(verdicts)} bars are met.")
    if options.json:
        record = {"machine": machine, "samples": [dataclasses.asdict(sample) for sample in samples]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    if options.docs:
        page = _DOCS / "performance.md"
        tables = f"\n{_sentence(machine)}\n\n{as_markdown(results)}\n"
        page.write_text(_TABLES.sub(lambda _: tables, page.read_text("utf-8")), "utf-8")
        (_DOCS / "performance.svg").write_text(fan_out_plot(results), "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measures anyserial beside the bare system calls.")
    parser.add_argument(
        "--rounds", type=int, help="how often everybody takes a turn at most (15 or as the case says; --quick: 1)"
    )
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose names begin so")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="only contestants whose names begin so")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures tell little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument("--docs", action="store_true", help="update the tables and the plot of docs/performance.md")
    return parser.parse_args()


def _machine(kernel_work_at_far_end: bool) -> dict[str, Any]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "kernel work": "on the far end's processor" if kernel_work_at_far_end else "wherever the scheduler puts it",
        "versions": versions,
    }


def _sentence(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Python {machine['python']} on {machine['system']}, {machine['processors']} processors, load average"
        f" {machine['load']:.1f} at the start; the kernel's work {machine['kernel work']}; {versions}."
    )


if __name__ == "__main__":
    main()
