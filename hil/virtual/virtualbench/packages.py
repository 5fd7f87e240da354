"""What the guest is made of, from a Debian archive: kernel, busybox and udev are unpacked into a cache, not installed.

QEMU alone is installed, because it brings libraries; that needs root once.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from . import architecture as architectures
from . import initramfs
from .architecture import Architecture

assert sys.platform == "linux" or not TYPE_CHECKING

_INIT: Final = Path(__file__).resolve().parent.parent / "guest" / "init.sh"


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Files of a guest.

    Attributes:
        architecture: Of the machine.
        kernel: To boot.
        initrd: Its initramfs.
        extra: A folder that is laid over the host's root.
    """

    architecture: Architecture
    kernel: Path
    initrd: Path
    extra: Path


def ensure(cache: Path, architecture: Architecture) -> Parts:
    """The parts of a guest; downloaded and installed when they are not there yet, by one process at a time.

    Raises:
        RuntimeError: Something is missing that cannot be had here; the message says what to do.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_name(f"{cache.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _ensure(cache / architecture.debian, architecture)


def _ensure(cache: Path, architecture: Architecture) -> Parts:
    if shutil.which(architecture.qemu) is None:
        _install_qemu(architecture)
    if not (cache / "vmlinuz").exists():
        _download(cache, architecture)
    initrd = cache / "initrd"
    sources = (_INIT, Path(initramfs.__file__), Path(architectures.__file__))
    if not initrd.exists() or initrd.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        data = initramfs.build(
            cache / "modules", architecture.modules, cache / "extra" / "usr" / "bin" / "busybox", _INIT
        )
        partial = cache / "initrd.new"
        partial.write_bytes(data)
        partial.replace(initrd)
    return Parts(architecture, cache / "vmlinuz", initrd, cache / "extra")


def _install_qemu(architecture: Architecture) -> None:
    qemu, package = architecture.qemu, architecture.qemu_package
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if shutil.which("apt-get") is None:
        raise RuntimeError(f"{qemu} is not installed, and there is no apt-get here to install it with")
    if os.geteuid() != 0:
        raise RuntimeError(f"{qemu} is not installed, and that needs root: sudo {' '.join(command)}")
    _say(f"installing {package}")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        # Package lists may be older than the archive, or not there at all.
        _run("apt-get", "update")
        _run(*command)


def _download(cache: Path, architecture: Architecture) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError("the guest's kernel comes from a Debian archive: this needs apt-get and dpkg-deb")
    cache.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=f"{cache.name}-") as name:
        work = Path(name)
        # As root, apt would drop to a user who cannot write here.
        options = ["-o", "APT::Sandbox::User=root"]
        if architecture.python:
            options += _other_processor(architecture, work)
        kernel = _kernel_package(architecture, options)
        if kernel is None and os.geteuid() == 0:
            _run("apt-get", *options, "update")
            kernel = _kernel_package(architecture, options)
        if kernel is None:
            names = ", ".join(architecture.kernels)
            raise RuntimeError(f"apt knows none of {names}, which Debian has: sudo apt-get update, then try again")
        _say(f"downloading {kernel} and {', '.join(architecture.programs)}")
        _run("apt-get", *options, "download", kernel, folder=work)
        fetch = ["download"]
        if architecture.python:
            # With all libraries; what the host has of them is for the host.
            fetch = ["install", "--download-only", "-y", "--no-install-recommends"]
        _run("apt-get", *options, *fetch, *architecture.programs, folder=work)
        new = work / "new"
        (new / "extra").mkdir(parents=True)
        for package in work.glob("*.deb"):
            if package.name.startswith("linux-image"):
                _run("dpkg-deb", "-x", str(package), str(work / "kernel"))
            else:
                _unpack_merged(package, new / "extra")
        (vmlinuz,) = (work / "kernel" / "boot").glob("vmlinuz-*")
        (work / "kernel" / "lib" / "modules").rename(new / "modules")
        vmlinuz.rename(new / "vmlinuz")
        new.chmod(0o755)
        shutil.rmtree(cache, ignore_errors=True)
        new.rename(cache)


def _other_processor(architecture: Architecture, work: Path) -> list[str]:
    """Options with which apt has another processor, and nothing installed; packages are kept in `work`."""
    state = work / "apt"
    for folder in (state / "lists" / "partial", work / "partial"):
        folder.mkdir(parents=True)
    status = state / "status"
    status.touch()
    settings = {
        "APT::Architecture": architecture.debian,
        "APT::Architectures": architecture.debian,
        "Dir::State": state,
        "Dir::State::status": status,
        "Dir::Cache": state,
        "Dir::Cache::archives": work,
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "-o", "APT::Sandbox::User=root", "update")
    return options


def _kernel_package(architecture: Architecture, options: Sequence[str]) -> str | None:
    for meta in architecture.kernels:
        shown = subprocess.run(
            ["apt-cache", *options, "depends", meta], capture_output=True, text=True, check=False
        ).stdout
        if found := re.search(r"Depends: (linux-image-\S+)", shown):
            return found[1]
    return None


def _unpack_merged(package: Path, target: Path) -> None:
    """Unpack for a root where /bin, /sbin and /lib are links into /usr: a folder of that name would hide the link."""
    tree = target.parent / "tree.tar"
    with tree.open("wb") as file:
        _run("dpkg-deb", "--fsys-tarfile", str(package), stdout=file)
    merge = r"s,^\./\(bin\|sbin\|lib\)\(/\|$\),./usr/\1\2,"
    # Nobody needs a setuid program in the cache.
    _run("tar", "-x", "--no-same-permissions", "-f", str(tree), "-C", str(target), "--transform", merge)
    tree.unlink()


def _run(*command: str, folder: Path | None = None, stdout: IO[bytes] | None = None) -> None:
    with tempfile.TemporaryFile() as log:
        status = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, check=False
        ).returncode
        if status != 0:
            log.seek(0)
            text = log.read().decode(errors="replace").strip()
            raise RuntimeError(f"{' '.join(command)}: exit status {status}\n{text}")


def _say(text: str) -> None:
    print(f"virtual bench: {text}", file=sys.stderr, flush=True)
