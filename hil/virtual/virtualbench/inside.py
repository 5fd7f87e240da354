"""On the machine that has the virtual host controller: attach the adapters, then run the command as an ordinary user.

Needs root, and Linux. Everything that the command may want to know is in `FOLDER`: the bench file, and port and
key of the control command.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import fcntl
import grp
import os
import pwd
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import vhci
from .plan import bench_file, has_pl011s, uart_count, uarts, wirings
from .server import Bench, serve

assert sys.platform == "linux" or not TYPE_CHECKING

FOLDER: Final = Path("/run/virtual-bench")
BENCH_FILE: Final = FOLDER / "hil.toml"
#: The same bench, whose adapters vanish without a word when their power goes off.
CUT_FILE: Final = FOLDER / "hil-cut.toml"
CONTROL: Final = Path(__file__).resolve().parent.parent / "control"
#: Exit status of a bench that could not be set up.
BROKEN: Final = 125

# Seconds that drivers and udev may take for all adapters.
_ALL_APPEAR: Final = 60.0
_LEASES: Final = Path("/run/lock")
_TIOCM_LOOP: Final = 0x8000
_PL011S: Final = ("/dev/ttyAMA0", "/dev/ttyAMA1")


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        adapters: As after `--adapters`.
        command: What to run.
        folder: Where.
        environment: With what.
        user: Name or number of who runs it.
    """

    adapters: str
    command: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    user: str


def run(job: Job) -> int:
    """Set up the bench, run the command, take the bench down; returns the command's exit status.

    Raises:
        RuntimeError: The bench could not be set up.
    """
    return asyncio.run(_run(job))


async def _run(job: Job) -> int:
    plan = wirings(job.adapters)
    user = _user(job)
    bench = Bench(plan, asyncio.get_running_loop())
    FOLDER.mkdir(parents=True, exist_ok=True)
    _LEASES.mkdir(parents=True, exist_ok=True)
    _LEASES.chmod(0o1777)
    if plan and not vhci.is_there():
        raise RuntimeError(f"{vhci.FOLDER}: not there; is the module vhci_hcd loaded?")
    try:
        await bench.plug_all()
        async with await serve(bench, FOLDER / "port", owner=user.pw_uid):
            await _appear([port for wiring in plan for port in wiring.ports])
            loopbacks = [path for path in uarts()[: uart_count(job.adapters)] if _loop_inside(path)]
            pl011s = _PL011S if has_pl011s(job.adapters) else ()
            for file, unplug in ((BENCH_FILE, "unplug"), (CUT_FILE, "cut")):
                file.write_text(bench_file(plan, loopbacks, ["bash", str(CONTROL)], pl011s=pl011s, unplug=unplug))
            return await _command(job, user)
    finally:
        await bench.unplug_all()


async def _appear(serials: Sequence[str]) -> None:
    """Wait until every adapter has a device that the group may open, which is when udev is through with it."""
    missing = list(serials)
    deadline = asyncio.get_running_loop().time() + _ALL_APPEAR
    while missing := [serial for serial in missing if not _is_ready(serial)]:
        if asyncio.get_running_loop().time() > deadline:
            raise RuntimeError(f"no device appeared in {_ALL_APPEAR:g} s for {', '.join(missing)}")
        await asyncio.sleep(0.1)


def _is_ready(serial: str) -> bool:
    ttys = (tty for tty in Path("/sys/class/tty").glob("tty[UA][SC][BM]*") if _serial(tty) == serial)
    return any(node.exists() and node.stat().st_gid != 0 for node in (Path("/dev", tty.name) for tty in ttys))


def _serial(tty: Path) -> str | None:
    """The serial number of the USB device that a tty belongs to, directly or through an interface."""
    for parent in list((tty / "device").resolve().parents)[:2]:
        try:
            return (parent / "serial").read_text().strip()
        except OSError:
            continue
    return None


def _loop_inside(path: str) -> bool:
    """Connect the 16550's lines inside the chip; the kernel keeps that from open to open."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, termios.TIOCMBIS, struct.pack("I", _TIOCM_LOOP))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _user(job: Job) -> pwd.struct_passwd:
    return pwd.getpwuid(int(job.user)) if job.user.isdecimal() else pwd.getpwnam(job.user)


async def _command(job: Job, user: pwd.struct_passwd) -> int:
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid)) | {grp.getgrnam("dialout").gr_gid}
    environment = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, **job.environment}
    try:
        process = await asyncio.create_subprocess_exec(
            *job.command,
            cwd=job.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=sorted(groups),
        )
    except OSError as exc:
        # A program of the host, on a machine with another processor.
        hint = "; Python for this processor is /usr/bin/python3" if exc.errno == errno.ENOEXEC else ""
        raise RuntimeError(f"{job.command[0]}: does not start: {exc.strerror}{hint}") from None
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # As a shell reports a death by signal.
    return status if status >= 0 else 128 - status
