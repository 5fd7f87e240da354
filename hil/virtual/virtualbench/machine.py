"""Boots the guest under QEMU and runs a job in it: the host's files at their own paths, live output, a hard limit."""

from __future__ import annotations

import dataclasses
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

from .inside import BROKEN, Job
from .packages import QEMU, Parts
from .plan import uart_count

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
    """
    with tempfile.TemporaryDirectory(prefix="virtual-bench-") as name:
        work = Path(name)
        share, console = work / "share", work / "console"
        share.mkdir()
        shutil.copy(_START, share)
        (share / "job.json").write_text(json.dumps(dataclasses.asdict(job)))
        runner = [sys.executable, "-E", "-S", str(_RUNS_JOB), f"{_SHARE}/job.json"]
        if limits.output is not None:
            limits.output.mkdir(parents=True, exist_ok=True)
            runner.append(str(limits.output.resolve()))
        (share / "job.sh").write_text(f"exec {shlex.join(runner)}\n")
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                command = _command_line(job, parts, limits, share, console, theirs.fileno())
                machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            try:
                problem = _watch(machine, ours, share, limits)
            finally:
                machine.kill()
                machine.wait()
        status = share / "status"
        if problem is None and status.exists():
            return int(status.read_text())
        print(f"virtual bench: {problem or 'the guest died'}; its console:", file=sys.stderr)
        print(console.read_text(errors="replace") if console.exists() else "(nothing)", file=sys.stderr)
        return BROKEN if problem is None else TIMED_OUT


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


def _command_line(job: Job, parts: Parts, limits: Limits, share: Path, console: Path, output: int) -> list[str]:
    shares = {"host": ("/", True), "extra": (str(parts.extra), True), "share": (str(share), False)}
    if limits.output is not None:
        shares["output"] = str(limits.output.resolve()), False
    arguments = [QEMU, "-nodefaults", "-display", "none", "-no-reboot", "-m", _MEMORY, "-smp", "1"]
    if limits.accelerator == "tcg":
        # An instruction takes two nanoseconds of the guest's time, about what an idle machine does. On a busy one the
        # guest's seconds get longer, and no wait in it expires early.
        arguments += ["-accel", "tcg", "-cpu", "max", "-icount", "shift=1"]
    else:
        arguments += ["-accel", limits.accelerator, "-cpu", "host"]
    arguments += ["-kernel", str(parts.kernel), "-initrd", str(parts.initrd)]
    arguments += ["-append", "console=ttyS0 panic=-1 quiet random.trust_cpu=on"]
    # The console is on the ISA port. The PCI ports belong to the bench.
    arguments += ["-chardev", f"file,id=console,path={console}", "-device", "isa-serial,chardev=console"]
    for name in (f"uart{number}" for number in range(uart_count(job.adapters))):
        arguments += ["-chardev", f"null,id={name}", "-device", f"pci-serial,chardev={name}"]
    # A stdio chardev with standard input at /dev/null blocks for ever; an inherited socket does not.
    arguments += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=output,fd={output}"]
    arguments += ["-device", "virtserialport,chardev=output,name=output"]
    for tag, (path, read_only) in shares.items():
        options = "readonly=on,multidevs=remap" if read_only else "readonly=off"
        arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,{options}"]
        arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return arguments
