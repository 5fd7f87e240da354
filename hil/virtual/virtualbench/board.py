"""What the ARM board needs besides a command line: a device tree with whole PL011s, and the cable between the two."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

assert sys.platform == "linux" or not TYPE_CHECKING

# QEMU calls the board's UARTs SBSA UARTs as well as PL011s, and Linux believes the former, which have no rates and no
# RS-485. As a "primecell" it is asked what it is, and answers. Both names are of one length.
_LIMITED: Final = b"arm,pl011\0arm,sbsa-uart\0"
_WHOLE: Final = b"arm,pl011\0arm,primecell\0"
# magic, size of all, offsets of structure, strings and reserved memory, versions (2), processor, sizes of strings and
# structure
_HEAD: Final = struct.Struct(">10I")
#: Of the cable: 115200 baud. QEMU takes some microseconds to send a byte, and none of the guest's time; a faster cable
#: would carry much before the guest's clock moves.
BYTES_PER_SECOND: Final = 11_520
_AT_ONCE: Final = 32


def device_tree(machine: Sequence[str], file: Path) -> None:
    """Write the tree of the board that an emulator's command line describes.

    Raises:
        RuntimeError: The emulator has none, or one with other UARTs.
    """
    done = subprocess.run(
        [*machine, "-machine", f"dumpdtb={file}"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not file.exists():
        raise RuntimeError(f"{machine[0]}: writes no device tree: {done.stderr.strip()}")
    file.write_bytes(whole_pl011s(file.read_bytes()))


def whole_pl011s(tree: bytes) -> bytes:
    """A tree whose two UARTs are PL011s and nothing less.

    Raises:
        RuntimeError: It has other UARTs.
    """
    if tree.count(_LIMITED) != 2:
        raise RuntimeError(f"this QEMU's board has {tree.count(_LIMITED)} UARTs of the expected kind, not 2")
    # QEMU leaves room for more, a megabyte in all, and doubles that when it reads the tree. A kernel takes two at most.
    _, _, structure, strings, *_, strings_size, structure_size = _HEAD.unpack_from(tree)
    end = max(structure + structure_size, strings + strings_size)
    return tree[:4] + struct.pack(">I", end) + tree[8:end].replace(_LIMITED, _WHOLE)


def join(one: socket.socket, other: socket.socket, *, rate: float = BYTES_PER_SECOND) -> None:
    """Carry what comes out of either into the other; returns when one is closed.

    Reads whatever comes: QEMU writes under its big lock, and for a full socket the whole machine would wait. Passes on
    `rate` bytes per second: QEMU sends and receives in no time, and the guest would lose what it has no room for.
    """
    far = {one: other, other: one}
    waiting = {end: bytearray() for end in far}
    free_at = dict.fromkeys(far, 0.0)
    try:
        while True:
            now = time.monotonic()
            due = [end for end, data in waiting.items() if data and free_at[end] <= now]
            later = [free_at[end] - now for end, data in waiting.items() if data and free_at[end] > now]
            readable, writable, _ = select.select(far, due, (), min(later, default=None))
            for end in readable:
                data = end.recv(65_536)
                if not data:
                    return
                waiting[far[end]] += data
            for end in writable:
                sent = end.send(waiting[end][:_AT_ONCE], socket.MSG_DONTWAIT)
                del waiting[end][:sent]
                free_at[end] = now + sent / rate
    except ConnectionError:
        return
