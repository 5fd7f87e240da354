"""Run a command beside emulated serial adapters: real kernel drivers, no hardware. See README.md."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

assert sys.platform == "linux" or not TYPE_CHECKING

from virtualbench import inside, machine, packages, plan, vhci
from virtualbench.architecture import AMD64, ARM64, Architecture

_CACHE = Path(__file__).resolve().parent.parent.parent / ".cache" / "virtual-bench"
# What the command sees of the caller's environment.
_KEPT = ("PATH", "LANG", "LC_ALL", "TERM", "COLUMNS", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST_ADDOPTS")
_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the command; 2: cannot run here; 124: took too long; 125: the bench broke."""
    options = _parser().parse_args(arguments)
    # So that a machine, or adapters in this one, do not outlive who asked for them.
    signal.signal(signal.SIGTERM, _exit)
    try:
        plan.wirings(options.adapters)
        architecture = ARM64 if plan.has_pl011s(options.adapters) else AMD64
        environment = _environment(architecture)
        job = inside.Job(options.adapters, options.command, os.getcwd(), environment, _user(options))
        if options.where == "host" or (options.where == "auto" and _host_problem(architecture) is None):
            return _run_here(job, architecture)
        parts = packages.ensure(options.cache, architecture)
        limits = machine.Limits(options.timeout, options.accel, options.output, options.prefix)
        return machine.run(job, parts, limits)
    except (RuntimeError, ValueError) as exc:
        print(f"virtual bench: {exc}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.py",
        usage="%(prog)s [options] -- COMMAND...",
        description=f"Runs COMMAND where {inside.BENCH_FILE} describes emulated adapters, and returns its exit status.",
    )
    parser.add_argument(
        "--adapters",
        default=plan.DEFAULT,
        metavar="LIST",
        help=f"pairs of {', '.join(plan.CHIPS)}, joined by null-modem cables; one alone has a loopback plug, "
        f"{plan.UART} is one that loops inside, in a virtual machine, and {plan.PL011S} is on an ARM board "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--where",
        choices=("auto", "vm", "host"),
        default="auto",
        help="attach to this machine's own kernel (needs root and vhci_hcd), or boot a virtual machine (default: the "
        "first that works)",
    )
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="of the machine (%(default)g)")
    parser.add_argument("--user", help="who runs COMMAND (default: you, or nobody if you are root)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="what COMMAND writes here is kept")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="before each line that the machine prints")
    parser.add_argument("--accel", choices=("tcg", "kvm"), default="tcg", help="how QEMU runs (default: %(default)s)")
    parser.add_argument(
        "--cache", type=Path, default=_CACHE, metavar="FOLDER", help="of the guest's parts (default: %(default)s)"
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def _run_here(job: inside.Job, architecture: Architecture) -> int:
    if problem := _host_problem(architecture):
        raise RuntimeError(f"adapters cannot be attached to this machine: {problem}")
    return inside.run(job)


def _host_problem(architecture: Architecture) -> str | None:
    """Why adapters cannot be attached to this machine's own kernel."""
    if architecture is not AMD64:
        return f"{plan.PL011S} is part of another one"
    if os.geteuid() != 0:
        return "that needs root"
    if not vhci.is_there() and (modprobe := shutil.which("modprobe")):
        subprocess.run([modprobe, "vhci_hcd"], capture_output=True, check=False)
    return None if vhci.is_there() else "its kernel has no module vhci_hcd, or refuses to load it"


def _user(options: argparse.Namespace) -> str:
    if options.user:
        return str(options.user)
    return os.environ.get("SUDO_UID", "nobody") if os.geteuid() == 0 else str(os.geteuid())


def _environment(architecture: Architecture) -> dict[str, str]:
    # So that output is seen when it is made.
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONUNBUFFERED": "1"}
    if architecture.python:
        environment["PYTHONPATH"] = os.pathsep.join(_packages())
    return environment


def _packages() -> list[str]:
    """Where this Python finds what is not its own; another one can use as much of that as is not compiled."""
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("DESTSHARED")}
    return [folder for folder in sys.path[1:] if folder not in own and os.path.isdir(folder)]


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
