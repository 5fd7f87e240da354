"""Remote ports whose server does something wrong: each kind that other clients stumbled over, on every loop."""

from __future__ import annotations

import errno
import socket
import threading
import time

import anyio
import pytest

from anyserial import (
    PortBusyError,
    PortNotFoundError,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
    UnsupportedSettingError,
)
from anyserial._backends.remote import rfc2217
from anyserial._backends.remote.telnet import BINARY, COM_PORT, DO, IAC, SUPPRESS_GO_AHEAD, WILL

from .servers import FakeServer, reserved_ports, serving

pytestmark = [pytest.mark.anyio, pytest.mark.posix("servers for Linux")]


async def echoed(port, data: bytes) -> bytes:
    await port.send(data)
    got = bytearray()
    with anyio.fail_after(5):
        while len(got) < len(data):
            got += await port.receive()
    return bytes(got)


async def test_a_purge_that_is_never_confirmed_costs_no_timeout():
    """R-13, R-06."""

    class Server(FakeServer):
        def answer(self, command, value):
            return None if command == rfc2217.PURGE_DATA else super().answer(command, value)

    with serving(Server) as server:
        start = time.monotonic()
        async with await SerialPort.open(server.url, flush_on_open=True) as port:
            assert time.monotonic() - start < 1
            assert await echoed(port, b"still there") == b"still there"


async def test_a_second_confirmation_of_a_purge_is_ignored():
    """R-13, R-06: the second answer is nobody's."""

    class Server(FakeServer):
        def answer(self, command, value):
            if command == rfc2217.PURGE_DATA:
                self.notify(command, value)
            return super().answer(command, value)

    with serving(Server) as server:
        async with await SerialPort.open(server.url, flush_on_open=True) as port:
            await port.configure(port.config.with_changes(baudrate=9600))
            assert await echoed(port, b"\xff\x00\xff") == b"\xff\x00\xff"


@pytest.mark.parametrize("line", ["rts", "dtr"])
async def test_a_line_that_is_not_confirmed_is_a_missing_feature(line):
    """R-13, R-06: as ser2net on a pty."""

    class Server(FakeServer):
        def answer(self, command, value):
            lines = (rfc2217.RTS_ON, rfc2217.RTS_OFF, rfc2217.DTR_ON, rfc2217.DTR_OFF)
            return None if command == rfc2217.SET_CONTROL and value[0] in lines else super().answer(command, value)

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            start = time.monotonic()
            with pytest.raises(UnsupportedFeatureError, match=f"{line.upper()}: the server passed over it in silence"):
                await port.set_control_lines(**{line: True})
            assert time.monotonic() - start < 1


async def test_a_line_confirmed_with_another_value_is_accepted():
    """R-13, R-06: the value of such an answer means nothing; the setting it belongs to does."""

    class Server(FakeServer):
        def answer(self, command, value):
            wrong = {rfc2217.RTS_OFF: rfc2217.RTS_ON, rfc2217.BREAK_OFF: rfc2217.BREAK_ON}
            return (
                bytes((wrong.get(value[0], value[0]),))
                if command == rfc2217.SET_CONTROL
                else super().answer(command, value)
            )

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            await port.set_control_lines(rts=False, dtr=True)
            lines = await port.control_lines()
            assert (lines.rts, lines.dtr) == (False, True)
            await port.send_break(0.01)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (SerialConfig(stop_bits=1.5), "1.5 stop bits"),
        (SerialConfig(parity="mark"), "parity mark"),
        (SerialConfig(byte_size=7), "7 data bits"),
    ],
)
async def test_a_setting_without_an_answer_is_refused_at_once(config, what):
    """R-06, R-11, R-13: not after the timeout; what was set before is in force again."""

    class Server(FakeServer):
        def answer(self, command, value):
            refused = {(rfc2217.SET_STOPSIZE, b"\x03"), (rfc2217.SET_PARITY, b"\x04"), (rfc2217.SET_DATASIZE, b"\x07")}
            return None if (command, value) in refused else super().answer(command, value)

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            start = time.monotonic()
            with pytest.raises(UnsupportedSettingError, match=f"{what}: the server passed over it in silence"):
                await port.configure(config.with_changes(baudrate=9600))
            assert time.monotonic() - start < 1
            assert port.config == SerialConfig()
            rates = [
                int.from_bytes(value, "big") for command, value in server.commands if command == rfc2217.SET_BAUDRATE
            ]
            assert [rate for rate in rates if rate][-1] == 115_200


async def test_a_rate_that_the_server_does_not_run_at_is_refused():
    """R-11: with what it runs at."""

    class Server(FakeServer):
        def answer(self, command, value):
            return (9600).to_bytes(4, "big") if command == rfc2217.SET_BAUDRATE else super().answer(command, value)

    message = "asked for 115200 baud, the server runs at 9600"
    with serving(Server) as server, pytest.raises(UnsupportedConfigurationError, match=message):
        await SerialPort.open(server.url)


async def test_four_extra_bytes_behind_a_rate():
    """R-13."""

    class Server(FakeServer):
        def answer(self, command, value):
            answer = super().answer(command, value)
            return answer + bytes(4) if command == rfc2217.SET_BAUDRATE else answer

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            assert await echoed(port, b"x") == b"x"


async def test_endless_negotiation_does_not_disturb_data():
    """R-05, R-13: a server that answers answers, and asks for more each time."""

    class Server(FakeServer):
        def greet(self):
            super().greet()
            for option in range(256):
                self.telnet.ask(WILL, option)
                self.telnet.ask(DO, option)

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            assert await echoed(port, b"x") == b"x"


async def test_every_byte_value_passes_and_a_nul_stays():
    """R-13: 0xFF is doubled and NUL is not touched."""
    data = bytes(range(256)) * 40 + b"\xff" * 1000 + b"\r\x00\r\n\xff\xf0"
    with serving() as server:
        async with await SerialPort.open(server.url) as port:
            assert await echoed(port, data) == data
            assert bytes(server.received) == data


async def test_a_half_open_connection_times_out():
    """R-08, R-13: a server that has stopped answering."""

    class Server(FakeServer):
        is_dead = False

        def answer(self, command, value):
            return None if self.is_dead else super().answer(command, value)

    with serving(Server) as server:
        async with await SerialPort.open(f"{server.url}?timeout=0.3") as port:
            server.is_dead = True
            start = time.monotonic()
            with pytest.raises(SerialError, match=r"the server has not answered within 0\.3 s") as caught:
                await port.configure(port.config.with_changes(baudrate=9600))
            assert caught.value.errno == errno.ETIMEDOUT
            assert 0.25 < time.monotonic() - start < 2
            server.is_dead = False
            assert await echoed(port, b"usable") == b"usable"


async def test_a_connection_attempt_times_out():
    """R-13: a listener whose queue is full does not answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            start = time.monotonic()
            with pytest.raises(PortNotFoundError, match=r"no connection within 0\.3 s"):
                await SerialPort.open(f"socket://127.0.0.1:{port}?timeout=0.3")
            assert time.monotonic() - start < 2
        finally:
            for filler in fillers:
                filler.close()


async def test_a_port_without_a_listener_gives_advice():
    """R-11."""
    with (
        reserved_ports(1) as (port,),
        pytest.raises(PortNotFoundError, match=r"Is the server running, and is that its port\?"),
    ):
        await SerialPort.open(f"rfc2217://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"Port already in use\r\n", PortBusyError),
        (b"Port's device already in use\r\n", PortBusyError),
        (b"Device open failure: No such file or directory\r\n", PortNotFoundError),
        (b"", PortNotFoundError),
    ],
)
async def test_a_server_that_hangs_up_says_why(words, error):
    """R-11: its text, not an end of file."""

    class Server(FakeServer):
        def serve(self):
            self.client.sendall(words)

    with serving(Server) as server:
        with pytest.raises(error) as caught:
            await SerialPort.open(server.url)
        assert words.decode().strip() in str(caught.value)


async def test_a_banner_is_data():
    """R-13: what a server says after it agreed is for the user."""

    class Server(FakeServer):
        def greet(self):
            super().greet()
            self.say(b"ser2net port 7001\r\n")

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            assert await port.receive() == b"ser2net port 7001\r\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (frozenset({BINARY, SUPPRESS_GO_AHEAD}), "does not agree on RFC 2217; for bytes alone use socket://"),
        (frozenset({SUPPRESS_GO_AHEAD, COM_PORT}), "does not agree on an 8-bit path"),
    ],
)
async def test_another_protocol_is_refused_with_advice(options, message):
    """R-11: naming what would work."""

    class Server(FakeServer):
        def greet(self):
            pass

    Server.options = options
    with serving(Server) as server, pytest.raises(UnsupportedConfigurationError, match=message):
        await SerialPort.open(f"{server.url}?timeout=0.5")


async def test_a_raw_port_is_a_clear_error():
    """R-11: an echo server sends the negotiation back."""

    class Server(FakeServer):
        def serve(self):
            while chunk := self.client.recv(4096):
                self.client.sendall(chunk)

    with serving(Server) as server:
        with pytest.raises(UnsupportedConfigurationError):
            await SerialPort.open(f"{server.url}?timeout=0.5")
        async with await SerialPort.open(server.url.replace("rfc2217", "socket")) as port:
            assert await echoed(port, bytes(range(256))) == bytes(range(256))


async def test_a_connection_that_ends_is_a_disconnect():
    """R-11: a parked reader hears of it, then a sender does."""
    with serving() as server:
        async with await SerialPort.open(server.url) as port:
            threading.Timer(0.1, server.client.shutdown, (socket.SHUT_RDWR,)).start()
            with pytest.raises(SerialDisconnectedError), anyio.fail_after(2):
                await port.receive()
            with pytest.raises(SerialDisconnectedError), anyio.fail_after(2):
                while True:
                    await port.send(bytes(1000))


async def test_a_client_that_does_not_read_can_still_set():
    """R-13, R-08: the server's answer stands behind data that nobody has received."""

    class Server(FakeServer):
        def took(self, data):
            self.say(bytes(300_000))

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            await port.send(b"go")
            await port.configure(port.config.with_changes(baudrate=9600))
            left = 300_000
            while left:
                left -= len(await port.receive())


async def test_close_wakes_a_reader_and_a_setter():
    """R-13: closing races with both."""

    class Server(FakeServer):
        is_dead = False

        def answer(self, command, value):
            return None if self.is_dead else super().answer(command, value)

    with serving(Server) as server:
        port = await SerialPort.open(server.url)
        server.is_dead = True
        woken = []

        async def wait(call):
            with pytest.raises(SerialClosedError):
                await call()
            woken.append(call)

        async with anyio.create_task_group() as group:
            group.start_soon(wait, port.receive)
            group.start_soon(wait, lambda: port.configure(SerialConfig(baudrate=9600)))
            await anyio.sleep(0.1)
            start = time.monotonic()
            await port.aclose()
        assert time.monotonic() - start < 1
        assert len(woken) == 2


async def test_a_reader_waits_while_another_task_sets():
    """R-04: whoever reads the socket finds the other's answers too, and a cancelled reader takes none along."""
    with serving() as server:
        async with await SerialPort.open(server.url) as port:
            got = bytearray()

            async def read():
                while len(got) < 20:
                    with anyio.move_on_after(0.01):
                        got.extend(await port.receive(1))

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                for number in range(20):
                    await port.configure(port.config.with_changes(baudrate=9600 + number))
                    await port.send(bytes((number,)))
            assert bytes(got) == bytes(range(20))


async def test_a_send_waits_while_the_server_suspends():
    """R-06: FLOWCONTROL-SUSPEND and RESUME."""
    with serving() as server:
        async with await SerialPort.open(server.url) as port:
            server.notify(rfc2217.FLOWCONTROL_SUSPEND, b"")
            server.flush()
            await anyio.sleep(0.1)
            with anyio.move_on_after(0.1) as scope:
                await port.send(b"held")
            assert scope.cancelled_caught
            assert port.stats().bytes_sent == 0
            server.notify(rfc2217.FLOWCONTROL_RESUME, b"")
            server.flush()
            assert await echoed(port, b"goes") == b"goes"


async def test_lines_and_errors_are_reported():
    """R-07, R-10."""
    with serving() as server:
        async with await SerialPort.open(server.url) as port:
            assert port.capabilities.modem_lines == "supported"
            lines = await port.modem_lines()
            assert (lines.cts, lines.dsr, lines.ri, lines.cd) == (True, False, False, False)
            server.notify(rfc2217.NOTIFY_MODEMSTATE, bytes((rfc2217.DSR | rfc2217.RING | rfc2217.CARRIER,)))
            server.notify(rfc2217.NOTIFY_LINESTATE, bytes((rfc2217.FRAMING | rfc2217.BREAK,)))
            server.flush()
            with anyio.fail_after(2):
                while not (await port.modem_lines()).dsr:
                    await anyio.sleep(0.01)
            lines = await port.modem_lines()
            assert (lines.cts, lines.dsr, lines.ri, lines.cd) == (False, True, True, True)
            errors = await port.line_errors()
            assert (errors.framing, errors.breaks, errors.parity) == (1, 1, 0)


async def test_a_subnegotiation_may_be_split_anywhere():
    """R-06: cut at every byte."""

    class Server(FakeServer):
        def took(self, data):
            wire = b"a\xff\xff" + bytes((IAC, 250, COM_PORT, 107, 16, IAC, 240)) + b"\xff\xffb"
            for byte in wire:
                self.client.sendall(bytes((byte,)))

    with serving(Server) as server:
        async with await SerialPort.open(server.url) as port:
            await port.send(b"go")
            got = bytearray()
            with anyio.fail_after(2):
                while len(got) < 4:
                    got += await port.receive()
            assert bytes(got) == b"a\xff\xffb"


@pytest.mark.parametrize("after", ["greeting", "agreement"])
async def test_a_hang_up_during_a_call_gives_the_reason(after):
    """R-11: its reason is found whether a send or a receive notices the end first."""

    class Server(FakeServer):
        def serve(self):
            if after == "greeting":
                self.greet()
                self.flush()
                self.client.sendall(b"Port already in use\r\n")
                # What has come and was not read makes this a reset.
                return
            super().serve()

        def answer(self, command, value):
            if after == "agreement":
                self.flush()
                self.client.sendall(b"Port already in use\r\n")
                raise ConnectionError
            return super().answer(command, value)

    with serving(Server) as server:
        for _ in range(5):
            with pytest.raises(PortBusyError, match="Port already in use"):
                await SerialPort.open(server.url)
