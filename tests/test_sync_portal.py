"""The event loop behind blocking ports: one for all of them, of the chosen kind, gone with the last, not inherited."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from anyserial import PortNotFoundError, SerialConfig, SerialPort, sync
from anyserial.testing import PtyPair

from .stuck_output import StuckOutput
from .support import descriptors, leaked
from .sync_support import Background, Interrupt, assert_runs, provider, until


async def sniff() -> str:
    """The kind of loop that this runs on."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "trio"
    return "asyncio"


class LoopOfOpens(logging.Handler):
    """Notes on which thread and which kind of loop ports are opened; an open says so in the log, from the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()
        self.kinds: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.add(record.thread or 0)
        try:
            self.kinds.add(type(asyncio.get_running_loop()).__module__.partition(".")[0])
        except RuntimeError:
            self.kinds.add("trio" if "trio" in record.threadName or "" else "none")


@pytest.fixture
def opens() -> Iterator[LoopOfOpens]:
    handler, logger = LoopOfOpens(), logging.getLogger("anyserial.open")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def default_portal() -> Iterator[None]:
    """What a test configures is undone, and no port is left open."""
    yield
    sync.configure_portal()


def test_all_ports_share_one_thread(ptys: PtyPair, opens: LoopOfOpens) -> None:
    """L-144, A22, L-110: however many there are; it is gone after the last close."""
    before, threads = descriptors(), set(threading.enumerate())
    ports = [sync.open_serial_port(ptys.path_a)]
    with_one = set(threading.enumerate())
    assert len(with_one - threads) >= 1
    ports += [sync.open_serial_port(ptys.path_a) for _ in range(7)]
    assert set(threading.enumerate()) == with_one
    assert len(opens.threads) == 1
    assert threading.get_ident() not in opens.threads
    for port in ports[1:]:
        port.close()
    ports[0].drain()
    ports[0].close()
    assert not opens.threads & {thread.ident for thread in threading.enumerate()}
    until(lambda: set(threading.enumerate()) <= threads)
    assert not leaked(before)


def test_the_default_loop_is_asyncio(ptys: PtyPair, opens: LoopOfOpens) -> None:
    """A23, L-145, L-3: the plain one."""
    with sync.open_serial_port(ptys.path_a):
        pass
    assert opens.kinds == {"asyncio"}


@pytest.mark.parametrize(
    ("kind", "backend", "options"),
    [
        ("asyncio", "asyncio", {}),
        ("asyncio", "asyncio", None),
        ("uvloop", "asyncio", {"use_uvloop": True}),
        ("trio", "trio", None),
    ],
)
def test_ports_run_on_the_chosen_loop(
    ptys: PtyPair, opens: LoopOfOpens, kind: str, backend: str, options: dict[str, Any] | None
) -> None:
    """A24, A25, A27, L-145: runs, and everything works on it."""
    pytest.importorskip(kind)
    sync.configure_portal(backend=backend, backend_options=options)
    with sync.SerialPort.open(ptys.path_a) as port, sync.SerialPort.open(ptys.path_b) as peer:
        port.send(b"hello")
        assert peer.receive(5, timeout=5)
        port.drain(timeout=5)
        port.configure(SerialConfig(baudrate=9600))
    assert opens.kinds == {kind}


def test_the_options_are_copied(ptys: PtyPair, opens: LoopOfOpens) -> None:
    """L-145: a change of the mapping afterwards changes nothing."""
    pytest.importorskip("uvloop")
    options = {"use_uvloop": True}
    sync.configure_portal(backend_options=options)
    options.clear()
    with sync.open_serial_port(ptys.path_a):
        pass
    assert opens.kinds == {"uvloop"}


def test_it_is_chosen_before_the_first_port(ptys: PtyPair, opens: LoopOfOpens) -> None:
    """A26, L-145: while a port is open the choice is refused, afterwards it is free again."""
    pytest.importorskip("trio")
    with sync.open_serial_port(ptys.path_a):
        with sync.open_serial_port(ptys.path_b):
            pass
        with pytest.raises(RuntimeError, match="already started: close all blocking ports"):
            sync.configure_portal(backend="trio")
    sync.configure_portal(backend="trio")
    with sync.open_serial_port(ptys.path_a):
        pass
    assert opens.kinds == {"asyncio", "trio"}


def test_a_failed_open_gives_the_loop_back(ptys: PtyPair) -> None:
    """L-144: whether it was the first port or not."""
    threads = set(threading.enumerate())
    with pytest.raises(PortNotFoundError):
        sync.open_serial_port("/dev/there-is-none")
    with pytest.raises(LookupError, match="no-such-loop"):
        sync.configure_portal(backend="no-such-loop")
        sync.open_serial_port(ptys.path_a)
    sync.configure_portal()
    with sync.open_serial_port(ptys.path_a) as port:
        with pytest.raises(PortNotFoundError):
            sync.open_serial_port("/dev/there-is-none")
        port.drain(timeout=5)
    sync.configure_portal()
    until(lambda: set(threading.enumerate()) <= threads)


def test_opens_and_closes_leave_nothing(ptys: PtyPair) -> None:
    """L-144, L-90: hundreds of times, with the loop restarted each time and with one that stays."""
    with sync.open_serial_port(ptys.path_b):
        sync.open_serial_port(ptys.path_a).close()
        before, threads = descriptors(), threading.active_count()
        for _ in range(300):
            with sync.open_serial_port(ptys.path_a) as port:
                port.send(b"x", timeout=5)
        assert not leaked(before)
        assert threading.active_count() <= threads
    before, threads = descriptors(), threading.active_count()
    for _ in range(100):
        sync.open_serial_port(ptys.path_a).close()
    assert not leaked(before)
    until(lambda: threading.active_count() <= threads)


def test_an_open_that_times_out_closes_a_late_device(ptys: PtyPair) -> None:
    """L-155, L-149: the caller is told in time; the device that comes later is closed by whoever opens it."""
    queue, before = StuckOutput(), descriptors()
    with provider() as portals:
        closing = Background(queue.open(ptys.path_a, portals).close)
        until(lambda: queue.looks > 1)
        # An open of the device waits for the output of the port before.
        for timeout in (0, 0.1):
            with pytest.raises(TimeoutError, match=f"{ptys.path_a}: not finished within {timeout} s"):
                sync.open_serial_port(ptys.path_a, timeout=timeout)
        sync.configure_portal()
        queue.depth = 0
        closing.result()
    until(lambda: not leaked(before))
    with sync.open_serial_port(ptys.path_a, timeout=20) as port:
        port.drain()


def test_an_interrupted_open_leaves_nothing(ptys: PtyPair) -> None:
    """L-155: either there is a port, or there is nothing left of it."""
    before, late, deadline = descriptors(), 0, time.monotonic() + 20
    # An open that is nearly there is let through, and on a busy machine many are.
    for step in itertools.count():
        try:
            sync.open_serial_port(ptys.path_a, timeout=step % 60 * 0.00005).close()
        except TimeoutError:
            late += 1
        if (step >= 60 and late) or time.monotonic() > deadline:
            break
    assert late
    until(lambda: not leaked(before))
    sync.configure_portal()


def test_a_port_can_use_a_running_portal(ptys: PtyPair) -> None:
    """L-144: the constructor takes a portal that is running; a port leaves it once, others keep it."""
    with provider() as portals, portals as portal:
        queue = StuckOutput(0)
        first, second = (queue.open(ptys.path_a, portals) for _ in range(2))
        first.close()
        first.close()
        second.drain(timeout=5)
        second.close()
        assert portal.call(threading.get_ident)


def test_code_beside_the_ports_shares_their_loop(ptys: PtyPair, opens: LoopOfOpens) -> None:
    """P-122, L-144: on the same thread, which ends when the last of both has left."""
    threads = set(threading.enumerate())
    portals = sync.portal_provider()
    with portals as portal:
        sync.open_serial_port(ptys.path_a).close()
        with sync.open_serial_port(ptys.path_a) as port:
            assert {portal.call(threading.get_ident)} == opens.threads
            port.drain(timeout=5)
        assert portal.call(threading.get_ident) in opens.threads
    assert sync.portal_provider() is portals
    until(lambda: set(threading.enumerate()) <= threads)


def test_the_provider_has_the_name_that_drivers_import() -> None:
    """P-122: drivers on a registry take it by its name in another implementation of this API."""
    assert sync._get_provider is sync.portal_provider


def test_an_entry_of_the_provider_counts_as_a_port() -> None:
    """P-122, A26: the choice of the loop is refused while code runs on it, and free again afterwards."""
    pytest.importorskip("trio")
    portals = sync.portal_provider()
    with portals:
        with portals as portal, pytest.raises(RuntimeError, match="already started"):
            sync.configure_portal(backend="trio")
        with pytest.raises(RuntimeError, match="already started"):
            sync.configure_portal(backend="trio")
    sync.configure_portal(backend="trio")
    with portals as portal:
        assert portal.call(sniff) == "trio"


def test_a_port_made_on_the_provided_portal_is_counted(ptys: PtyPair) -> None:
    """P-122: the constructor takes what `portal_provider` gives; `close` leaves it once."""
    portals = sync.portal_provider()
    portal = portals.__enter__()
    port = sync.SerialPort(portal.call(SerialPort.open, ptys.path_a), portal=portal, provider=portals)
    with pytest.raises(RuntimeError, match="already started"):
        sync.configure_portal()
    port.send(b"x", timeout=5)
    port.close()
    port.close()
    sync.configure_portal()


def test_a_loop_that_cannot_start_is_not_counted() -> None:
    """P-122: after the error another one can be chosen."""
    sync.configure_portal(backend="no-such-loop")
    with pytest.raises(LookupError, match="no-such-loop"), sync.portal_provider():
        pass
    sync.configure_portal()
    with sync.portal_provider() as portal:
        assert portal.call(sniff) == "asyncio"


@pytest.mark.posix("fork")
def test_a_forked_child_enters_the_provider_afresh() -> None:
    """P-122, L-156: it gets a loop of its own, from the same object, whether or not the parent's runs."""
    assert_runs(
        """
        import os, threading
        from anyserial import sync

        portals = sync.portal_provider()
        for is_running in True, False:
            portal = portals.__enter__()
            if not is_running:
                portals.__exit__(None, None, None)
            pid = os.fork()
            if pid == 0:
                sync.configure_portal()
                with portals as own:
                    assert own.call(os.getpid) == os.getpid()
                assert threading.active_count() == 1
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            if is_running:
                assert portal.call(os.getpid) == os.getpid()
                portals.__exit__(None, None, None)
        print("ok")
        """
    )


def test_what_a_call_raises_passes_through() -> None:
    """L-147, L-152: an exception that is no `Exception` too."""

    async def stop() -> None:
        raise Interrupt

    with provider() as portals, portals as portal, pytest.raises(Interrupt):
        portal.call(stop)


@pytest.mark.posix("a limit on descriptors")
def test_an_open_without_free_descriptors_keeps_nothing(ptys: PtyPair) -> None:
    """L-144, L-33, L-121: no descriptors are left for it: the error says so, and nothing is kept."""
    assert_runs(
        """
        import errno, os, resource, sys
        from anyserial import SerialError, sync

        with sync.open_serial_port(sys.argv[2]):
            sync.open_serial_port(sys.argv[1]).close()
            free = os.open(os.devnull, os.O_RDONLY)
            os.close(free)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            failures = []
            for allowed in range(10):
                resource.setrlimit(resource.RLIMIT_NOFILE, (free + allowed, hard))
                try:
                    sync.open_serial_port(sys.argv[1]).close()
                    break
                except SerialError as exc:
                    assert (exc.errno, exc.filename) == (errno.EMFILE, sys.argv[1]), exc
                    failures.append(exc)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert os.open(os.devnull, os.O_RDONLY) == free
                os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(failures) >= 2, failures
        sync.configure_portal(backend="trio")
        print("ok")
        """,
        ptys.path_a,
        ptys.path_b,
    )
