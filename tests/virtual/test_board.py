"""The ARM board: its device tree, and the cable between its UARTs."""

import contextlib
import random
import socket
import struct
import sys
import threading
import time

import pytest

from virtualbench.board import device_tree, join, whole_pl011s

pytestmark = pytest.mark.posix("the virtual bench runs on Linux")

LIMITED = b"arm,pl011\0arm,sbsa-uart\0"
WHOLE = b"arm,pl011\0arm,primecell\0"


def tree(*, uarts):
    """A tree as QEMU writes it: header, structure, strings, and room for more; as bytes with names, not as nodes."""
    structure = b"\0\0\0\1" + uarts * LIMITED
    strings = b"compatible\0"
    start = 40
    head = (0xD00DFEED, 65_536, start, start + len(structure), 0, 17, 16, 0, len(strings), len(structure))
    return (struct.pack(">10I", *head) + structure + strings).ljust(65_536, b"\0")


def test_the_uarts_of_the_tree_are_whole_pl011s():
    """H-40: under the name by which Linux finds rates and RS-485 in them; without the room that no kernel takes."""
    before, after = tree(uarts=2), whole_pl011s(tree(uarts=2))
    assert after.count(WHOLE) == 2
    assert LIMITED not in after
    assert int.from_bytes(after[4:8]) == len(after)
    assert after.endswith(b"compatible\0")
    assert after[8:] == before[8 : len(after)].replace(LIMITED, WHOLE)


@pytest.mark.parametrize("uarts", [0, 1, 3])
def test_another_board_is_refused(uarts):
    """H-41: an emulator that names its UARTs otherwise would give a bench that is none."""
    with pytest.raises(RuntimeError, match=f"has {uarts} UARTs of the expected kind, not 2"):
        whole_pl011s(tree(uarts=uarts))


def emulator(program):
    """A command that is called as QEMU is, and has the name of the file to write in `file`."""
    return [sys.executable, "-c", f"import sys; file = sys.argv[-1].removeprefix('dumpdtb=')\n{program}"]


def test_the_emulator_is_asked_for_its_tree(tmp_path):
    """H-40: what it writes is changed in its place."""
    (tmp_path / "original").write_bytes(tree(uarts=2))
    device_tree(
        emulator(f"open(file, 'wb').write(open({str(tmp_path / 'original')!r}, 'rb').read())"), tmp_path / "tree"
    )
    assert (tmp_path / "tree").read_bytes() == whole_pl011s(tree(uarts=2))


@pytest.mark.parametrize("program", ["sys.exit('no such board')", "print('no such board', file=sys.stderr)"])
def test_an_emulator_without_the_board_is_an_error(program, tmp_path):
    """H-41: in its own words, whether it fails or just writes nothing."""
    with pytest.raises(RuntimeError, match=r"writes no device tree: no such board$"):
        device_tree(emulator(program), tmp_path / "tree")


@contextlib.contextmanager
def cable(rate):
    """The sockets of two UARTs that are joined."""
    (a, one), (b, other) = socket.socketpair(), socket.socketpair()
    joined = threading.Thread(target=join, args=(one, other), kwargs={"rate": rate})
    with one, other, b:
        joined.start()
        with a:
            a.settimeout(20)
            b.settimeout(20)
            yield a, b
        joined.join(20)
        assert not joined.is_alive()


def receive(end, count):
    received = bytearray()
    while len(received) < count:
        received += end.recv(65_536)
    return received


def test_the_cable_buffers_megabytes_until_they_are_received():
    """H-42: megabytes wait in it, so that neither end ever waits to send; they arrive complete, and both ways."""
    data = random.Random(1).randbytes(1_000_000)
    with cable(rate=1e9) as ends:
        for end in ends:
            end.sendall(data)
        for end in ends:
            assert receive(end, len(data)) == data


def test_the_cable_delays_bytes():
    """H-42: what was sent at once takes its time on the way."""
    with cable(rate=10_000) as (a, b):
        began = time.monotonic()
        a.sendall(bytes(3000))
        receive(b, 3000)
        assert time.monotonic() - began > 0.25
