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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from . import initramfs

assert sys.platform == "linux" or not TYPE_CHECKING

QEMU: Final = "qemu-system-x86_64"
_QEMU_PACKAGE: Final = "qemu-system-x86"
# Meta packages that lead to a kernel, the preferred first. The "cloud" ones have no USB serial drivers, and before 6.12
# xr_serial has no RS-485.
_KERNELS: Final = ("linux-image-6.12-amd64", "linux-image-amd64")
_UNPACKED: Final = ("busybox-static", "udev", "libkmod2")
_INIT: Final = Path(__file__).resolve().parent.parent / "guest" / "init.sh"


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Files of a guest.

    Attributes:
        kernel: To boot.
        initrd: Its initramfs.
        extra: A folder that is laid over the host's root.
    """

    kernel: Path
    initrd: Path
    extra: Path


def ensure(cache: Path) -> Parts:
    """The parts of a guest; downloaded and installed when they are not there yet, by one process at a time.

    Raises:
        RuntimeError: Something is missing that cannot be had here; the message says what to do.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_name(f"{cache.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _ensure(cache)


def _ensure(cache: Path) -> Parts:
    if shutil.which(QEMU) is None:
        _install_qemu()
    if not (cache / "vmlinuz").exists():
        _download(cache)
    initrd = cache / "initrd"
    sources = (_INIT, Path(initramfs.__file__))
    if not initrd.exists() or initrd.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        data = initramfs.build(cache / "modules", cache / "extra" / "usr" / "bin" / "busybox", _INIT)
        partial = cache / "initrd.new"
        partial.write_bytes(data)
        partial.replace(initrd)
    return Parts(cache / "vmlinuz", initrd, cache / "extra")


def _install_qemu() -> None:
    command = ["apt-get", "install", "-y", "--no-install-recommends", _QEMU_PACKAGE]
    if shutil.which("apt-get") is None:
        raise RuntimeError(f"{QEMU} is not installed, and there is no apt-get here to install it with")
    if os.geteuid() != 0:
        raise RuntimeError(f"{QEMU} is not installed, and that needs root: sudo {' '.join(command)}")
    _say(f"installing {_QEMU_PACKAGE}")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        # Package lists may be older than the archive, or not there at all.
        _run("apt-get", "update")
        _run(*command)


def _download(cache: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError("the guest's kernel comes from a Debian archive: this needs apt-get and dpkg-deb")
    kernel = _kernel_package()
    if kernel is None and os.geteuid() == 0:
        _run("apt-get", "update")
        kernel = _kernel_package()
    if kernel is None:
        raise RuntimeError(f"apt knows none of {', '.join(_KERNELS)}: sudo apt-get update, then try again")
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=f"{cache.name}-") as name:
        work = Path(name)
        _say(f"downloading {kernel} and {', '.join(_UNPACKED)}")
        # As root, apt would drop to a user who cannot write here.
        _run("apt-get", "-o", "APT::Sandbox::User=root", "download", kernel, *_UNPACKED, folder=work)
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


def _kernel_package() -> str | None:
    for meta in _KERNELS:
        shown = subprocess.run(["apt-cache", "depends", meta], capture_output=True, text=True, check=False).stdout
        if found := re.search(r"Depends: (linux-image-\S+)", shown):
            return found[1]
    return None


def _unpack_merged(package: Path, target: Path) -> None:
    """Unpack for a root where /bin, /sbin and /lib are links into /usr: a folder of that name would hide the link."""
    tree = target.parent / "tree.tar"
    with tree.open("wb") as file:
        _run("dpkg-deb", "--fsys-tarfile", str(package), stdout=file)
    merge = r"s,^\./\(bin\|sbin\|lib\)\(/\|$\),./usr/\1\2,"
    _run("tar", "-x", "-f", str(tree), "-C", str(target), "--transform", merge)
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
