"""Boots the guest under QEMU and runs a job in it: the host's files at their own paths, live output, a hard limit."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

assert sys.platform == "linux" or not TYPE_CHECKING

from . import board
from .inside import BROKEN, Job
from .packages import Parts
from .plan import has_pl011s, uart_count

#: Exit status of a run that took too long.
TIMED_OUT: Final = 124

# Seconds that the guest may take until it has the host's files. Emulated, it takes about 4 (measured) if the processor
# has a core of the host for itself. KVM may be there and yet hang.
_BOOTS_IN: Final = {"tcg": 180.0, "kvm": 20.0}
_MEMORY: Final = "1024"
_GUEST: Final = Path(__file__).resolve().parent.parent / "guest"
_START: Final = _GUEST / "start.sh"
_RUNS_JOB: Final = Path(__file__).resolve().with_name("guest.py")
# Where start.sh finds the share.
_SHARE: Final = "/run/guest/share"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What surrounds the guest.

    Attributes:
        seconds: From boot to power-off.
        accelerator: `"tcg"`, or `"kvm"` where it works.
        output: A folder that the guest may write to, at the same path.
        prefix: Stands before every line that the guest prints, for several guests on one terminal.
    """

    seconds: float
    accelerator: str = "tcg"
    output: Path | None = None
    prefix: str = ""


def run(job: Job, parts: Parts, limits: Limits) -> int:
    """Boot, run the job, switch off; returns its exit status.

    A guest that dies or hangs prints its console; the status is then `BROKEN` or `TIMED_OUT`.

    Raises:
        RuntimeError: This machine has no such processor to lend, or the emulator no such board.
    """
    if limits.accelerator != "tcg" and parts.architecture.python:
        raise RuntimeError(f"--accel {limits.accelerator}: the processor here is no {parts.architecture.debian}")
    with tempfile.TemporaryDirectory(prefix="virtual-bench-") as name:
        work = Path(name)
        share = work / "share"
        share.mkdir()
        shutil.copy(_START, share)
        (share / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
        runner = [parts.architecture.python or sys.executable, "-E", "-S", str(_RUNS_JOB), f"{_SHARE}/job.json"]
        if limits.output is not None:
            limits.output.mkdir(parents=True, exist_ok=True)
            runner.append(str(limits.output.resolve()))
        (share / "job.sh").write_text(f"exec {shlex.join(runner)}\n")
        problem = _run(job, parts, limits, work)
        status = share / "status"
        if problem is None and status.exists():
            return int(status.read_text())
        print(f"virtual bench: {problem or 'the guest died'}; its console:", file=sys.stderr)
        for file in ("qemu", "console"):
            said = (work / file).read_text(errors="replace") if (work / file).exists() else ""
            print(said or f"({file} says nothing)", file=sys.stderr)
        return BROKEN if problem is None else TIMED_OUT


def _run(job: Job, parts: Parts, limits: Limits, work: Path) -> str | None:
    """From power-on to power-off; returns what took too long."""
    with contextlib.ExitStack() as opened:
        pairs = [socket.socketpair() for _ in range(3 if has_pl011s(job.adapters) else 1)]
        for end in itertools.chain.from_iterable(pairs):
            opened.enter_context(end)
        (output, *pl011s), theirs = zip(*pairs, strict=True)
        descriptors = [end.fileno() for end in theirs]
        command = _command_line(job, parts, limits, work, *descriptors)
        complaints = opened.enter_context((work / "qemu").open("wb"))
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=complaints, pass_fds=descriptors)
        for end in theirs:
            end.close()
        cable = threading.Thread(target=board.join, args=pl011s, daemon=True)
        try:
            if pl011s:
                cable.start()
            return _watch(machine, output, work / "share", limits)
        finally:
            machine.kill()
            machine.wait()
            if pl011s:
                cable.join(5)


def _watch(machine: subprocess.Popen[bytes], output: socket.socket, share: Path, limits: Limits) -> str | None:
    """Pass on the guest's output until it is off; returns what took too long."""

    def pump() -> None:
        try:
            for data in _lines(output, limits.prefix) if limits.prefix else iter(lambda: output.recv(65_536), b""):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Nobody listens any more; a guest that cannot write would hang.
            machine.kill()

    pumping = threading.Thread(target=pump, daemon=True)
    pumping.start()
    began = time.monotonic()
    while machine.poll() is None:
        elapsed = time.monotonic() - began
        if elapsed > limits.seconds:
            return f"not finished after {limits.seconds:g} s"
        if elapsed > _BOOTS_IN[limits.accelerator] and not (share / "booted").exists():
            return f"not booted after {elapsed:.0f} s with -accel {limits.accelerator}"
        time.sleep(0.02)
    pumping.join(5)
    return None


def _lines(output: socket.socket, prefix: str) -> Iterator[bytes]:
    """Whole lines, each behind `prefix`."""
    with output.makefile("rb") as lines:
        for line in lines:
            yield prefix.encode() + line.rstrip(b"\r\n") + b"\n"


def _command_line(job: Job, parts: Parts, limits: Limits, work: Path, output: int, *pl011s: int) -> list[str]:
    architecture = parts.architecture
    shares = {"host": ("/", True), "extra": (str(parts.extra), True), "share": (str(work / "share"), False)}
    if limits.output is not None:
        shares["output"] = str(limits.output.resolve()), False
    arguments = [architecture.qemu, *architecture.machine, "-nodefaults", "-display", "none", "-no-reboot"]
    arguments += ["-m", _MEMORY]
    if pl011s:
        board.device_tree(arguments, work / "tree")
        arguments += ["-dtb", str(work / "tree")]
    if limits.accelerator == "tcg":
        # An instruction takes two nanoseconds of the guest's time, about what an idle machine does. On a busy one the
        # guest's seconds get longer, and no wait in it expires early.
        arguments += ["-accel", "tcg", "-icount", "shift=1", *architecture.processor]
    else:
        arguments += ["-accel", limits.accelerator, "-cpu", "host"]
    console, device = architecture.console
    arguments += ["-kernel", str(parts.kernel), "-initrd", str(parts.initrd)]
    arguments += ["-append", f"console={console} panic=-1 quiet {architecture.kernel_options}"]
    # A stdio chardev with standard input at /dev/null blocks for ever; an inherited socket does not.
    arguments += ["-device", f"virtio-serial-{architecture.virtio}", "-chardev", f"socket,id=output,fd={output}"]
    arguments += ["-device", "virtserialport,chardev=output,name=output"]
    # Neither on a PCI port nor on a PL011. Those belong to the bench.
    arguments += ["-chardev", f"file,id=console,path={work / 'console'}", "-device", f"{device},chardev=console"]
    for name in (f"uart{number}" for number in range(uart_count(job.adapters))):
        arguments += ["-chardev", f"null,id={name}", "-device", f"pci-serial,chardev={name}"]
    for number, end in enumerate(pl011s):
        arguments += ["-chardev", f"socket,id=pl011-{number},fd={end}", "-serial", f"chardev:pl011-{number}"]
    for tag, (path, read_only) in shares.items():
        options = "readonly=on,multidevs=remap" if read_only else "readonly=off"
        arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,{options}"]
        arguments += ["-device", f"virtio-9p-{architecture.virtio},fsdev={tag},mount_tag={tag}"]
    return arguments
