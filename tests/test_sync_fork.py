"""A fork: the parent's ports stay its own, and the child opens new ones."""

from __future__ import annotations

import pytest

from anyserial.testing import PtyPair

from .sync_support import assert_runs

pytestmark = pytest.mark.posix("fork")

FORK = """
    import gc, os, sys, threading, time
    from anyserial import SerialClosedError, sync

    PATH, PEER = sys.argv[1:]

    def raises_closed(call):
        try:
            call()
        except SerialClosedError:
            return True

    def wait_for(pid):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_port_is_not_inherited(ptys: PtyPair, loop: str) -> None:
    """L-156: in a forked child it is closed; neither its use nor its end, nor the child's, disturbs the parent's."""
    pytest.importorskip(loop)
    assert_runs(
        f"""{FORK}
    sync.configure_portal(backend="{loop}")
    with sync.open_serial_port(PATH) as port, sync.open_serial_port(PEER) as peer:
        peer.send(b"for the parent")
        while port.input_waiting() < 14:
            time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            assert not port.is_open
            for call in port.receive, port.receive_available, port.drain, port.modem_lines, port.input_waiting:
                assert raises_closed(call), call
            assert raises_closed(lambda: port.send(b"from the child"))
            assert raises_closed(lambda: port.send_break(60))
            port.close()
            port.send_eof()
            assert port.stats().bytes_received == 0
            assert port.path == PATH
            sys.exit()
        wait_for(pid)
        port.drain(timeout=5)
        assert port.receive_available(timeout=5) == b"for the parent"
        port.send(b"to the peer", timeout=5)
        assert peer.receive(timeout=5)
    print("ok")
    """,
        ptys.path_a,
        ptys.path_b,
    )


def test_a_child_opens_ports_of_its_own(ptys: PtyPair) -> None:
    """L-156: on a loop of its own, of the kind that was chosen before; also the device that the parent has open."""
    pytest.importorskip("trio")
    assert_runs(
        f"""{FORK}
    sync.configure_portal(backend="trio")
    port = sync.open_serial_port(PATH)
    pid = os.fork()
    if pid == 0:
        with sync.open_serial_port(PEER) as own:
            own.send(b"child", timeout=5)
            own.drain(timeout=5)
            assert any("trio" in thread.name for thread in threading.enumerate())
        sync.configure_portal()
        sys.exit()
    wait_for(pid)
    assert port.receive(5, timeout=5)
    port.drain(timeout=5)
    port.close()
    print("ok")
    """,
        ptys.path_a,
        ptys.path_b,
    )


def test_a_child_takes_the_device_over(ptys: PtyPair) -> None:
    """L-156: a daemon opens again what its parent leaves; the copy that it inherited does not keep it locked."""
    assert_runs(
        f"""{FORK}
    port = sync.SerialPort.open(PATH, exclusive=True)
    mine, parents = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(parents)
        os.read(mine, 1)
        with sync.SerialPort.open(PATH, exclusive=True, timeout=20) as own:
            own.send(b"x", timeout=5)
        sys.exit()
    port.close()
    os.close(parents)
    wait_for(pid)
    print("ok")
    """,
        ptys.path_a,
        ptys.path_b,
    )


def test_a_close_wakes_the_parent_beside_a_child(ptys: PtyPair) -> None:
    """L-156, L-148: a close wakes the parent's calls while a child that was forked under them lives on."""
    assert_runs(
        f"""{FORK}
    port = sync.open_serial_port(PATH)
    errors = []

    def receive():
        try:
            port.receive()
        except SerialClosedError as exc:
            errors.append(exc)

    thread = threading.Thread(target=receive)
    thread.start()
    while not port.stats().read_eagain:
        time.sleep(0.001)
    mine, parents = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(parents)
        # The thread that was receiving does not exist here, but its traces do.
        port.close()
        os.read(mine, 1)
        sys.exit()
    port.close(timeout=5)
    thread.join(20)
    assert errors, "still receiving"
    os.close(parents)
    wait_for(pid)
    print("ok")
    """,
        ptys.path_a,
        ptys.path_b,
    )


def test_a_child_gives_no_warning_about_inherited_ports(ptys: PtyPair) -> None:
    """L-156, L-98: no warning in the child about a port that is its parent's, and nothing that waits."""
    assert_runs(
        f"""{FORK}
    port = sync.open_serial_port(PATH)
    pid = os.fork()
    if pid == 0:
        del port
        gc.collect()
        sys.exit()
    wait_for(pid)
    port.close()
    print("ok")
    """,
        ptys.path_a,
        ptys.path_b,
    )
