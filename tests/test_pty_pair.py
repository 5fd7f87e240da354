"""The pty pair: a null-modem cable that any program can plug into."""

from __future__ import annotations

import errno
import os
import select
import stat
import subprocess
import sys
import termios
import threading
import time
from contextlib import ExitStack

import pytest

from anyserial.testing import PtyPair, pty_pair

from .support import descriptors, leaked, raw_fd

pytestmark = pytest.mark.posix("pseudo-terminals")


def read_exactly(fd: int, count: int, seconds: float = 10.0) -> bytes:
    """`count` bytes from a non-blocking descriptor, or as many as came in time."""
    data, deadline = bytearray(), time.monotonic() + seconds
    while len(data) < count and (left := deadline - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            data += os.read(fd, count - len(data))
    return bytes(data)


def test_both_ends_are_ttys_with_stable_names(ptys: PtyPair) -> None:
    """L-221, L-222: symlinks to terminals."""
    assert ptys.path_a != ptys.path_b
    for path in (ptys.path_a, ptys.path_b):
        assert os.path.islink(path)
        assert stat.S_ISCHR(os.stat(path).st_mode)
        with raw_fd(path) as fd:
            assert os.isatty(fd)


def test_every_byte_passes_both_ways_unchanged(ptys: PtyPair) -> None:
    """L-221: raw from the start, without anybody setting it up; nothing is echoed."""
    data = bytes(range(256))
    with raw_fd(ptys.path_a) as a, raw_fd(ptys.path_b) as b:
        for source, sink in ((a, b), (b, a)):
            assert not termios.tcgetattr(source)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
            assert os.write(source, data) == len(data)
            assert read_exactly(sink, len(data)) == data
            assert select.select([source], [], [], 0.02)[0] == []


def test_ends_can_be_opened_again_and_again(ptys: PtyPair) -> None:
    """L-221: a close of one end ends nothing, and bytes sent to a closed end wait for its next user."""
    with raw_fd(ptys.path_a) as a:
        for round_number in range(5):
            frame = b"frame %d" % round_number
            os.write(a, frame)
            with raw_fd(ptys.path_b) as b:
                assert read_exactly(b, len(frame)) == frame
                os.write(b, frame)
            assert read_exactly(a, len(frame)) == frame


def test_a_reader_that_sleeps_holds_the_writer_back(ptys: PtyPair) -> None:
    """L-221: back-pressure instead of loss; everything that was taken arrives."""
    with raw_fd(ptys.path_a) as a, raw_fd(ptys.path_b) as b:
        pattern = bytes(range(251)) * 16
        written = bytearray()
        while select.select([], [a], [], 0.3)[1]:
            chunk = pattern[len(written) % 251 :]
            written += chunk[: os.write(a, chunk)]
            assert len(written) < 1024 * 1024, "nothing holds the writer back"
        assert read_exactly(b, len(written)) == written
        assert os.write(a, b"more") == 4
        assert read_exactly(b, 4) == b"more"


def test_all_pairs_share_one_thread() -> None:
    """L-5, L-221: ten pairs cost what one costs, and each carries its own bytes."""
    with ExitStack() as stack:
        stack.enter_context(pty_pair())
        threads = threading.active_count()
        pairs = [stack.enter_context(pty_pair()) for _ in range(9)]
        # The test runner has a thread of its own, which is counted from its first log record on.
        assert threading.active_count() <= threads + 1
        for number, pair in enumerate(pairs):
            with raw_fd(pair.path_a) as a, raw_fd(pair.path_b) as b:
                os.write(a, b"%d" % number)
                assert read_exactly(b, 1) == b"%d" % number


def test_a_closed_pty_pair_leaves_nothing_behind() -> None:
    """L-221, L-222: descriptors, links and their folder are gone, also when the block raises."""
    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        with pytest.raises(KeyError), pty_pair() as pair:
            raise KeyError
        assert not os.path.lexists(pair.path_a)
        assert not os.path.lexists(os.path.dirname(pair.path_a))
    assert not leaked(before)
    assert threading.active_count() <= threads + 1


def test_an_idle_pair_costs_nothing(ptys: PtyPair) -> None:
    """L-221: the relay sleeps, whether ends are open or not."""
    with raw_fd(ptys.path_a):
        pass
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.04


def test_an_unplugged_end_hangs_up(ptys: PtyPair) -> None:
    """L-222: open handles see what a pulled adapter shows, and the paths are gone first."""
    with raw_fd(ptys.path_a) as a, raw_fd(ptys.path_b) as b:
        ptys.unplug()
        for fd in (a, b):
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            assert poll.poll(1000)[0][1] & select.POLLHUP
            assert hangs_up(fd)
            with pytest.raises(OSError, match="Input/output") as caught:
                os.write(fd, b"x")
            assert caught.value.errno == errno.EIO
    assert not os.path.lexists(ptys.path_a)
    assert not os.path.lexists(ptys.path_b)


def hangs_up(fd: int) -> bool:
    try:
        return os.read(fd, 1) == b""
    except OSError as exc:
        return exc.errno == errno.EIO


def test_replugging_brings_fresh_ends_under_the_old_names(ptys: PtyPair) -> None:
    """L-222: the same paths, new devices, and the bytes of before are gone."""
    paths = (ptys.path_a, ptys.path_b)
    with raw_fd(ptys.path_a) as old:
        os.write(old, b"lost")
        for _ in range(3):
            ptys.unplug()
            ptys.replug()
            assert (ptys.path_a, ptys.path_b) == paths
            with raw_fd(ptys.path_a) as a, raw_fd(ptys.path_b) as b:
                os.write(a, b"fresh")
                assert read_exactly(b, 5) == b"fresh"
        assert hangs_up(old)


def test_plugging_twice_changes_nothing(ptys: PtyPair) -> None:
    """L-222: both calls may be repeated."""
    target = os.readlink(ptys.path_a)
    ptys.replug()
    assert os.readlink(ptys.path_a) == target
    ptys.unplug()
    ptys.unplug()
    assert not os.path.lexists(ptys.path_a)
    ptys.replug()
    assert os.path.exists(ptys.path_a)


def test_another_pair_is_not_disturbed_by_an_unplug(ptys: PtyPair) -> None:
    """L-221, L-222: the shared thread goes on for the others."""
    with pty_pair() as other:
        other.unplug()
        with raw_fd(ptys.path_a) as a, raw_fd(ptys.path_b) as b:
            os.write(a, b"still here")
            assert read_exactly(b, 10) == b"still here"


_OTHER_PROGRAM = """
import sys, serial
with serial.Serial(sys.argv[1], 115200, timeout=10) as port:
    port.write(b"ready")
    port.write(port.read(4)[::-1])
    port.flush()
"""


def test_another_program_can_be_the_far_end(ptys: PtyPair) -> None:
    """L-221: any program on any library, in another process."""
    pytest.importorskip("serial")
    with raw_fd(ptys.path_a) as a:
        program = subprocess.Popen([sys.executable, "-c", _OTHER_PROGRAM, ptys.path_b])
        try:
            assert read_exactly(a, 5) == b"ready"
            os.write(a, b"ping")
            assert read_exactly(a, 4) == b"gnip"
        finally:
            assert program.wait(timeout=10) == 0
