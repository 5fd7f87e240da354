"""The guest's first file system: busybox, an init script, and exactly the modules it loads, in order."""

from __future__ import annotations

import lzma
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

#: Modules of the way to the host's files, after those of the bus, and of the adapters. Names that a kernel has built in
#: are left out.
MODULES: Final = (
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
    "vhci_hcd",
    "ftdi_sio",
    "cp210x",
    "cdc_acm",
    "xr_serial",
)
_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")


def build(modules: Path, names: Iterable[str], busybox: Path, init: Path) -> bytes:
    """A cpio archive that a kernel takes as its initramfs.

    Args:
        modules: The folder of the kernel's modules, at any depth above them.
        names: Of modules to load before `MODULES`.
        busybox: A static one.
        init: The script to run first.

    Raises:
        RuntimeError: The kernel has no virtual host controller, or not all drivers.
    """
    loaded = closure(modules, (*names, *MODULES))
    files = {
        "bin/busybox": (busybox.read_bytes(), 0o755),
        "init": (init.read_bytes(), 0o755),
        "modules": ("\n".join(loaded).encode() + b"\n", 0o644),
    }
    files |= {f"lib/{name}.ko": (data, 0o644) for name, data in loaded.items()}
    return archive(("dev", "proc", "layer", "host", "extra", "root"), files)


def closure(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Modules by name, each after those it depends on; a package that is only unpacked has no `modules.dep`."""
    files = {_module_name(file): file for file in folder.rglob("*.ko*")}
    lists = folder.rglob("modules.builtin")
    built_in = {_module_name(Path(line)) for file in lists for line in file.read_text().split()}
    loaded: dict[str, bytes] = {}

    def load(name: str) -> None:
        if name in loaded or name in built_in:
            return
        if name not in files:
            raise RuntimeError(f"{folder}: no module {name}; this kernel cannot run the virtual bench")
        data = files[name].read_bytes()
        if files[name].suffix == ".xz":
            data = lzma.decompress(data)
        depends = _DEPENDS.search(data)
        for needed in filter(None, depends[1].decode().split(",") if depends else ()):
            load(needed.replace("-", "_"))
        loaded[name] = data

    for name in names:
        load(name)
    return loaded


def archive(folders: Iterable[str], files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A cpio archive in the "newc" format; files as name, content and mode, with the folders they need."""
    entries: dict[str, tuple[int, bytes]] = {}
    for name in folders:
        entries[name] = stat.S_IFDIR | 0o755, b""
    for name, (data, mode) in files.items():
        for parent in reversed(Path(name).parents[:-1]):
            entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        entries[name] = stat.S_IFREG | mode, data
    out = bytearray()
    for number, (name, (mode, data)) in enumerate(entries.items(), 1):
        _append(out, number, name, mode, data)
    # The kernel opens the console before init can mount devtmpfs.
    _append(out, len(entries) + 1, "dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1))
    _append(out, 0, "TRAILER!!!", 0, b"")
    return bytes(out)


def _append(
    out: bytearray, number: int, name: str, mode: int, data: bytes, *, device: tuple[int, int] = (0, 0)
) -> None:
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), name size, checksum
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    out += bytes(-len(out) % 4) + data
    out += bytes(-len(out) % 4)


def _module_name(file: Path) -> str:
    return file.name.partition(".ko")[0].replace("-", "_")
