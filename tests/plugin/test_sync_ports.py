"""Blocking ports, paths that a driver opens itself, ends that are opened again."""

from __future__ import annotations

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

ALL = ["--serial-links=mock,pty"]
ONE = ["--serial-loops=asyncio"]


def test_blocking_ports_face_each_other(project: Project) -> None:
    """P-14, P-20: open, with the config, once per link and on no loop; both threads and the test may use them."""
    run = project.run(
        *ALL,
        test="""
        import threading
        import pytest
        from anyserial import SerialConfig, sync

        @pytest.fixture
        def serial_config():
            return SerialConfig(baudrate=9600)

        def test_it(sync_serial_port, sync_serial_peer):
            assert isinstance(sync_serial_port, sync.SerialPort) and isinstance(sync_serial_peer, sync.SerialPort)
            assert sync_serial_port.config == sync_serial_peer.config == SerialConfig(baudrate=9600)

            def device():
                request = sync_serial_peer.receive(timeout=10)
                sync_serial_peer.send(request.upper(), timeout=10)

            thread = threading.Thread(target=device)
            thread.start()
            sync_serial_port.send(b"ping")
            assert sync_serial_port.receive(timeout=10) == b"PING"
            thread.join()
        """,
    )
    assert run.outcomes() == {"test_it[mock]": "passed", "test_it[pty]": "passed"}


def test_a_blocking_driver_meets_a_script(project: Project) -> None:
    """P-52: in a thread of an async test; what it has sent is heard before the script judges."""
    run = project.run(
        *ALL,
        test="""
        from anyio import to_thread

        def ask(port):
            port.send(b"ID?\\n")
            return port.receive(timeout=10)

        async def test_it(sync_serial_port, serial_script):
            serial_script.on(b"ID?\\n").reply(b"ACME\\n")
            assert await to_thread.run_sync(ask, sync_serial_port) == b"ACME\\n"

        async def test_unexpected(sync_serial_port, serial_script):
            await to_thread.run_sync(sync_serial_port.send, b"nobody asked for this\\n")
        """,
    )
    outcomes = {name: outcome for name, outcome in run.outcomes().items() if "unexpected" not in name}
    assert list(outcomes.values()) == ["passed"] * 6
    assert [run.outcomes()[name] for name in run.outcomes() if name not in outcomes] == ["failed"] * 6


def test_everything_that_a_blocking_port_does_is_recorded(project: Project) -> None:
    """P-80: bytes, configs, lines, breaks, errors; as for async ports."""
    run = project.run(
        test="""
        import pytest
        from anyserial import FlowControl, SerialConfig

        def test_it(sync_serial_port, sync_serial_peer, serial_transcript):
            port = sync_serial_port
            port.send(b"one")
            port.send_buffer(memoryview(b"two"))
            sync_serial_peer.send(b"abcdef")
            assert port.receive(2, timeout=10) == b"ab"
            assert port.receive_into(bytearray(2), timeout=10) == 2
            assert port.receive_available(timeout=10) == b"ef"
            with pytest.raises(TimeoutError):
                port.receive(timeout=0)
            port.configure(SerialConfig(baudrate=9600))
            port.set_control_lines(rts=True, dtr=False)
            port.send_break(0.001)
            port.reset_input_buffer()
            port.reset_output_buffer()
            port.close()
            port.close()
            events = [event for event in serial_transcript.events if event.port == "sync_serial_port"]
            assert [(event.kind, event.data or event.detail) for event in events] == [
                ("opened", "115200 8N1"),
                ("sent", b"one"),
                ("sent", b"two"),
                ("received", b"ab"),
                ("received", b"cd"),
                ("received", b"ef"),
                ("failed", "receive: TimeoutError: /dev/mockA: nothing received within 0 s"),
                ("configured", "9600 8N1"),
                ("lines", "RTS on, DTR off"),
                ("break", "0.001 s"),
                ("input dropped", ""),
                ("output dropped", ""),
                ("closed", ""),
            ]
        """,
    )
    assert run.outcomes() == {"test_it[mock]": "passed"}, run.text


def test_a_blocking_send_that_timed_out_shows_its_real_length(project: Project) -> None:
    """P-80, L-151: the transcript holds the bytes that the device took."""
    run = project.run(
        *ALL,
        test="""
        import pytest

        def test_it(sync_serial_port, serial_transcript):
            with pytest.raises(TimeoutError):
                sync_serial_port.send(bytes(10_000_000), timeout=0.05)
            (sent,) = [event.data for event in serial_transcript.events if event.kind == "sent"]
            assert len(sent) == sync_serial_port.stats().bytes_sent < 10_000_000
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 2


@pytest.mark.parametrize("ending", ["pass", "raise RuntimeError", "pytest.skip()"])
def test_blocking_ports_are_closed_when_the_test_is_over(project: Project, ending: str) -> None:
    """P-25: however it ended; no port and no thread of ours stays behind."""
    run = project.run(
        *ALL,
        test=f"""
        import threading
        import pytest

        opened = []

        def test_it(sync_serial_port, sync_serial_peer):
            opened.extend((sync_serial_port, sync_serial_peer))
            {ending}

        def test_all_are_closed():
            assert len(opened) == 4
            assert not any(port.is_open for port in opened)
            assert not [thread for thread in threading.enumerate() if "portal" in thread.name.lower()]
        """,
    )
    assert run.outcomes()["test_all_are_closed"] == "passed"


def test_a_timeout_ends_a_blocking_test_and_not_the_run(project: Project) -> None:
    """P-16, P-25: the signal interrupts the call that waits."""
    run = project.run(
        "--timeout-method=signal",
        *ALL,
        test="""
        import pytest

        @pytest.mark.timeout(0.5, func_only=True)
        def test_hangs(sync_serial_port):
            sync_serial_port.receive()

        def test_goes_on(sync_serial_port, sync_serial_peer):
            sync_serial_port.send(b"x")
            assert sync_serial_peer.receive(timeout=10) == b"x"
        """,
        plugins=["pytest_timeout"],
    )
    assert run.outcomes() == {
        f"test_{name}[{link}]": outcome
        for name, outcome in (("hangs", "failed"), ("goes_on", "passed"))
        for link in ("mock", "pty")
    }


def test_a_path_opens_on_every_link(project: Project) -> None:
    """P-85: in async and blocking form, any number of times, whoever plays the far end."""
    run = project.run(
        *ALL,
        test="""
        from anyserial import open_serial_port, sync

        async def test_async(serial_path, serial_script):
            for _ in range(2):
                serial_script.on(b"?").reply(b"!")
                async with await open_serial_port(serial_path) as port:
                    await port.send(b"?")
                    assert await port.receive() == b"!"

        def test_blocking(serial_path, serial_peer_path, sync_serial_peer):
            assert sync_serial_peer.path == serial_peer_path
            for _ in range(2):
                with sync.open_serial_port(serial_path) as port:
                    port.send(b"x")
                    assert sync_serial_peer.receive(timeout=10) == b"x"
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 8, run.text


def test_a_driver_on_another_library_requires_a_path(project: Project) -> None:
    """P-85, P-22: `path` is the fact that others can open the path; pyserial does on a pty."""
    run = project.run(
        *ALL,
        *ONE,
        test="""
        import anyio, pytest, serial

        def ask(path):
            with serial.Serial(path, timeout=10) as port:
                port.write(b"ID?\\n")
                return port.readline()

        @pytest.mark.anyserial(requires=["path"])
        async def test_marked(serial_path, serial_script):
            serial_script.on(b"ID?\\n").reply(b"ACME\\n")
            assert await anyio.to_thread.run_sync(ask, serial_path) == b"ACME\\n"
        """,
    )
    assert run.outcomes() == {"test_marked[pty-asyncio]": "passed"}, run.text


def test_a_path_that_others_do_not_find_is_explained(project: Project) -> None:
    """P-85: on the mock, if the test has failed and nothing of ours has opened the path."""
    test = """
    import os, pytest
    from anyserial import sync

    def test_other(serial_path, serial_peer_path):
        with sync.open_serial_port(serial_peer_path):
            os.close(os.open(serial_path, os.O_RDWR))

    def test_ours(serial_path):
        with sync.open_serial_port(serial_path):
            raise RuntimeError("on purpose")
    """
    run = project.run(test=test)
    assert run.outcomes() == {"test_other[mock]": "failed", "test_ours[mock]": "failed"}
    sections = [dict(report.sections) for report in run.reports if report.failed]
    assert sections[0]["serial_path"] == (
        "/dev/mockA was not opened. It is a path in memory, which only anyserial in this process can open."
        " For a driver on another library, or another program, mark the test with"
        " @pytest.mark.anyserial(requires=['path']) and run it with --serial-links=pty."
    )
    assert "serial_peer_path" not in sections[0]
    assert "serial_path" not in sections[1]
    failed = [report for report in project.run("--serial-links=pty", test=test).reports if report.failed]
    assert [dict(report.sections).get("serial_path") for report in failed] == [None]


def test_an_end_can_be_opened_again(project: Project) -> None:
    """P-20, P-24: after it was closed or unplugged; recorded like the others, with the link's config or another."""
    run = project.run(
        *ALL,
        test="""
        import pytest
        from anyserial import PortNotFoundError, SerialConfig

        pytestmark = pytest.mark.anyserial(config=SerialConfig(baudrate=300))

        async def test_async(serial_link, serial_port, serial_transcript):
            assert serial_link.path() == serial_port.path
            serial_link.unplug()
            await serial_port.aclose()
            with pytest.raises(PortNotFoundError):
                async with serial_link.opened():
                    pass
            serial_link.replug()
            async with serial_link.opened() as port, serial_link.opened("peer", SerialConfig(baudrate=600)) as peer:
                assert (port.config.baudrate, peer.config.baudrate) == (300, 600)
                await peer.send(b"x")
                assert await port.receive() == b"x"
            kinds = [event.kind for event in serial_transcript.events if event.port == "serial_port"]
            assert kinds == ["opened", "closed", "opened", "received", "closed"]

        def test_blocking(serial_link):
            with serial_link.sync_opened() as port, serial_link.sync_opened("peer") as peer:
                assert port.config.baudrate == 300
                assert peer.path == serial_link.path("peer")
                peer.send(b"x")
                assert port.receive(timeout=10) == b"x"
            assert not port.is_open
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 8, run.text


CLASHES = {
    "serial_port, sync_serial_port": "serial_port and sync_serial_port both open end A of the link. Use one of them.",
    "sync_serial_peer, serial_peer": "serial_peer and sync_serial_peer both open end B of the link. Use one of them.",
    "serial_script, sync_serial_peer": (
        "serial_script and sync_serial_peer both need end B: the script plays the far end, and sync_serial_peer hands"
        " it to the test. Use one of them."
    ),
}


@pytest.mark.parametrize("arguments", CLASHES)
def test_two_fixtures_for_one_end_are_refused(project: Project, arguments: str) -> None:
    """P-15, P-51: before anything is opened, with what to do."""
    run = project.run(*ONE, test=f"async def test_it({arguments}): pass")
    assert run.problem("test_it[mock-asyncio]") == CLASHES[arguments]


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_wider_fixture_with_a_blocking_port_gets_an_error(project: Project, scope: str) -> None:
    """P-15: a blocking port has no event loop, but it is made anew as well."""
    run = project.run(
        test=f"""
        import pytest

        @pytest.fixture(scope="{scope}")
        def meter(sync_serial_port, serial_link):
            yield

        def test_it(meter): pass
        """
    )
    assert run.problem("test_it[mock]") == (
        f"fixture 'meter' has {scope} scope and asks for serial_link and sync_serial_port, which is made afresh"
        " for each test, on that test's link. Give 'meter' function scope."
    )
