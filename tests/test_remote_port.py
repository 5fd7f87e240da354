"""Remote ports against a server in this process: TLS, blocking ports, bytes alone, missing features, dropped ports."""

from __future__ import annotations

import dataclasses
import gc
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import anyserial.sync
from anyserial import (
    Capability,
    ConfigurationError,
    PortNotFoundError,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedFeatureError,
    open_serial_port,
)
from anyserial._backends.remote import rfc2217

from .servers import FakeServer, serving
from .servers import certificate as make_certificate

pytestmark = pytest.mark.posix("servers for Linux")


class Secure(FakeServer):
    """One behind TLS."""

    context: ssl.SSLContext

    def serve(self) -> None:
        assert self.client is not None
        with self.context.wrap_socket(self.client, server_side=True) as self.client:
            super().serve()


class Raw(FakeServer):
    """One that sends bytes back, and knows nothing else."""

    def serve(self) -> None:
        assert self.client is not None
        while chunk := self.client.recv(65_536):
            self.client.sendall(chunk)


class InPieces(FakeServer):
    """One that answers in two pieces, the second of which waits for a confirmation of the first."""

    def took(self, data: bytes) -> None:
        assert self.client is not None
        for _ in range(2):
            self.client.sendall(data)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


async def echoed(port: SerialPort, data: bytes) -> bytes:
    got = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(port.send, data)
        with anyio.fail_after(10):
            while len(got) < len(data):
                got += await port.receive()
    return bytes(got)


@pytest.mark.anyio
async def test_everything_passes_through_tls(certificate: Path) -> None:
    """R-01, R-03: bytes, settings, and sends that are cancelled while OpenSSL has a record under way."""
    Secure.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Secure.context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    data = bytes(range(256)) * 200
    with serving(Secure) as server:
        async with await open_serial_port(server.url, tls=trusting) as port:
            assert await echoed(port, data) == data
            await port.configure(SerialConfig(baudrate=9600))
            with anyio.move_on_after(0.01):
                await port.send(bytes(4_000_000))
            sent = port.stats().bytes_sent - len(data)
            got = 0
            with anyio.fail_after(10):
                while got < sent:
                    got += len(await port.receive())
            assert got == sent


@pytest.mark.anyio
@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_what_a_send_has_taken_needs_no_other_call(certificate: Path, is_encrypted: bool) -> None:
    """R-03: also half of a 0xFF, and a record that OpenSSL has made, leave without help."""

    class Slow(Secure):
        def took(self, data: bytes) -> None:
            time.sleep(0.001)

        def serve(self) -> None:
            super().serve() if is_encrypted else FakeServer.serve(self)

    Secure.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Secure.context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    sent = 0
    with serving(Slow) as server:
        async with await open_serial_port(server.url, tls=trusting if is_encrypted else None) as port:
            for size in range(3000, 3008):
                await port.send(bytes(300_000) + b"\xff" * size)
                sent += 300_000 + size
                with anyio.fail_after(5):
                    while len(server.received) < sent:
                        await anyio.sleep(0.001)


@pytest.mark.anyio
async def test_a_certificate_that_is_not_trusted_is_refused(certificate: Path) -> None:
    """R-01: naming the reason."""
    Secure.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Secure.context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with serving(Secure) as server, pytest.raises(SerialError, match=r"no TLS with 127\.0\.0\.1: .*certificate"):
        await open_serial_port(server.url, tls=ssl.create_default_context())


@pytest.mark.anyio
async def test_tls_is_for_addresses() -> None:
    """R-01: a device path with it is a mistake."""
    with pytest.raises(ConfigurationError, match="tls is for remote ports"):
        await open_serial_port("/dev/ttyUSB0", tls=ssl.create_default_context())


@pytest.mark.anyio
async def test_a_raw_port_ignores_settings_and_lacks_features() -> None:
    """R-01, R-10: what it cannot do is a missing feature, and settings have no effect."""
    with serving(Raw) as server:
        async with await open_serial_port(server.url.replace("rfc2217", "socket")) as port:
            assert port.capabilities.modem_lines == "unsupported"
            assert await echoed(port, bytes(range(256))) == bytes(range(256))
            await port.configure(SerialConfig(baudrate=300))
            for call in (
                port.modem_lines,
                port.control_lines,
                port.line_errors,
                lambda: port.set_control_lines(rts=True),
                lambda: port.send_break(0.01),
            ):
                with pytest.raises(UnsupportedFeatureError):
                    await call()
            await port.send(b"dropped")
            with anyio.fail_after(5):
                while port.input_waiting() < 7:
                    await anyio.sleep(0.01)
            await port.reset_input_buffer()
            await port.reset_output_buffer()
            assert port.input_waiting() == 0
            await port.drain_exact()


@pytest.mark.anyio
@pytest.mark.parametrize("feature", [{"low_latency": True}, {"rs485": "on"}])
async def test_features_that_remote_ports_lack_follow_the_policy(feature: dict[str, object]) -> None:
    """R-10: as the policy says."""
    fields = {"rs485": anyserial.RS485Config()} if "rs485" in feature else feature
    with serving() as server:
        with pytest.raises(UnsupportedFeatureError):
            await SerialPort.open(server.url, **fields)
        async with await SerialPort.open(server.url, unsupported_policy="ignore", **fields) as port:
            assert await echoed(port, b"x") == b"x"


@pytest.mark.anyio
async def test_queues_are_counted_and_drain_asks_the_server() -> None:
    """R-10: what has arrived is counted; drain is answered by the server."""
    with serving() as server:
        async with await open_serial_port(server.url) as port:
            await port.send(b"12345")
            await port.drain_exact()
            with anyio.fail_after(5):
                while port.input_waiting() < 5:
                    await anyio.sleep(0.01)
            await port.reset_input_buffer()
            assert port.input_waiting() == 0
            await port.reset_output_buffer()
            await port.send(b"after")
            assert await port.receive() == b"after"


UNKNOWN = {
    "custom_baudrate",
    "mark_space_parity",
    "one_point_five_stop_bits",
    "xon_xoff",
    "rts_cts",
    "break_signal",
    "output_waiting",
}
UNSUPPORTED = {"dtr_dsr", "rs485", "low_latency", "exclusive_access", "port_discovery"}
SUPPORTED = {"input_waiting"}


class WithoutLines(FakeServer):
    """One that never tells its modem lines."""

    def notify(self, command: int, value: bytes) -> None:
        if command != rfc2217.NOTIFY_MODEMSTATE:
            super().notify(command, value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("server", "scheme", "expected"),
    [
        (FakeServer, "rfc2217", (SUPPORTED | {"modem_lines"}, UNKNOWN, UNSUPPORTED)),
        (WithoutLines, "rfc2217", (SUPPORTED, UNKNOWN | {"modem_lines"}, UNSUPPORTED)),
        (Raw, "socket", (SUPPORTED, {"output_waiting"}, UNSUPPORTED | {"modem_lines"} | UNKNOWN - {"output_waiting"})),
    ],
)
async def test_a_feature_is_supported_once_the_server_confirms_it(server, scheme, expected) -> None:
    """R-10: modem lines once it has told them; what only the operation itself tells is unknown."""
    with serving(server) as running:
        async with await open_serial_port(running.url.replace("rfc2217", scheme)) as port:
            found = dataclasses.asdict(port.capabilities)
    assert (found.pop("platform"), found.pop("backend")) == ("remote", scheme)
    kinds = Capability.SUPPORTED, Capability.UNKNOWN, Capability.UNSUPPORTED
    assert tuple({name for name in found if found[name] is kind} for kind in kinds) == expected


@pytest.mark.anyio
async def test_a_dropped_port_ends_its_connection() -> None:
    """R-01: with a warning, as every port that nobody has closed."""
    with serving() as server:
        port = await open_serial_port(server.url)
        with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031 - both are needed to drop it
            del port
            gc.collect()
        async with await open_serial_port(server.url) as port:
            assert await echoed(port, b"next") == b"next"


@pytest.mark.anyio
async def test_an_answer_in_pieces_comes_at_once() -> None:
    """R-03: a server with Nagle's algorithm is not left waiting for the 40 ms of a late confirmation."""
    times = []
    with serving(InPieces) as server:
        async with await open_serial_port(server.url) as port:
            for _ in range(8):
                start = time.monotonic()
                await port.send(b"ping")
                got = b""
                while len(got) < 8:
                    got += await port.receive()
                times.append(time.monotonic() - start)
    assert min(times[1:]) < 0.03, times


def test_a_blocking_answer_in_pieces_comes_at_once() -> None:
    """R-03: the same without an event loop."""
    times = []
    with serving(InPieces) as server, anyserial.sync.SerialPort.open(server.url) as port:
        for _ in range(8):
            start = time.monotonic()
            port.send(b"ping")
            got = b""
            while len(got) < 8:
                got += port.receive(timeout=5)
            times.append(time.monotonic() - start)
    assert min(times[1:]) < 0.03, times


@pytest.mark.anyio
async def test_a_reading_task_passes_answers_to_other_tasks() -> None:
    """R-04: each answer to a setting may be read by the task that receives, also after a send that nothing answers."""
    with serving() as server:
        async with await open_serial_port(server.url) as port, anyio.create_task_group() as group:
            got = bytearray()

            async def receive() -> None:
                while True:
                    got.extend(await port.receive())

            group.start_soon(receive)
            with anyio.fail_after(10):
                for number in range(30):
                    await port.send(bytes((number,)))
                    await port.configure(port.config)
                while len(got) < 30:
                    await anyio.sleep(0)
            group.cancel_scope.cancel()
    assert bytes(got) == bytes(range(30))


@pytest.mark.anyio
async def test_a_round_trip_makes_one_read_and_one_write() -> None:
    """R-12: what a request and its answer cost; a look that finds nothing would cost as much as the rest."""
    with serving() as server:
        async with await open_serial_port(server.url) as port:
            before = port.stats()
            for _ in range(50):
                await port.send(b"x")
                assert await port.receive() == b"x"
            after = port.stats()
    assert after.write_calls - before.write_calls == 50
    assert after.read_calls - before.read_calls == 50


def test_a_blocking_round_trip_makes_one_read_and_one_write() -> None:
    """R-12: the same without an event loop."""
    with serving() as server, anyserial.sync.SerialPort.open(server.url) as port:
        before = port.stats()
        for _ in range(50):
            port.send(b"x")
            assert port.receive(timeout=5) == b"x"
        after = port.stats()
    assert after.write_calls - before.write_calls == 50
    assert after.read_calls - before.read_calls == 50


def test_a_receive_without_a_wait_finds_an_answer() -> None:
    """R-03: the first look after a send, although a device needs time to answer."""
    with serving() as server, anyserial.sync.SerialPort.open(server.url) as port:
        for _ in range(20):
            port.send(b"x")
            while not port.input_waiting():
                time.sleep(0.001)
            assert port.receive(timeout=0) == b"x"
        port.send(b"y")
        time.sleep(0.1)
        assert port.receive(timeout=0) == b"y"
        with pytest.raises(TimeoutError):
            port.receive(timeout=0)


def test_a_blocking_port_works_on_a_remote_server() -> None:
    """R-01, R-12: bytes without an event loop; timeouts, settings, and a close from another thread."""
    with serving() as server, anyserial.sync.SerialPort.open(server.url) as port:
        with pytest.raises(TimeoutError):
            port.receive(timeout=0.05)
        port.send(b"\xff\x00ab", timeout=5)
        assert port.receive(2, timeout=5) == b"\xff\x00"
        port.send(b"c", timeout=5)
        got = bytearray()
        while len(got) < 3:
            got += port.receive(timeout=5)
        assert bytes(got) == b"abc"
        port.configure(SerialConfig(baudrate=9600), timeout=5)
        assert port.modem_lines(timeout=5).cts
        threading.Timer(0.2, port.close).start()
        start = time.monotonic()
        with pytest.raises(SerialClosedError):
            port.receive(timeout=10)
        assert time.monotonic() - start < 5


def test_a_blocking_port_sees_its_server_go() -> None:
    """R-11."""
    with serving() as server, anyserial.sync.SerialPort.open(server.url) as port:
        threading.Timer(0.1, server.close).start()
        with pytest.raises(SerialDisconnectedError):
            port.receive(timeout=10)
    with pytest.raises(PortNotFoundError):
        anyserial.sync.SerialPort.open(server.url)


def test_a_device_path_loads_no_socket_code() -> None:
    """R-01: sockets of a program that uses devices only are none."""
    code = (
        "import sys, anyio, anyserial; from anyserial.testing import pty_pair\n"
        "async def main():\n"
        "    with pty_pair() as pair:\n"
        "        async with await anyserial.open_serial_port(pair.path_a): pass\n"
        "anyio.run(main)\n"
        "print(sorted(name for name in sys.modules if '.remote' in name and name.startswith('anyserial')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
