"""A Modbus RTU client on an open serial port: one request at a time, each with its own answer or an error.

RTU replies carry no sequence number, so a late reply looks like the answer to whatever was asked last. The
rule that keeps them apart: a request is sent only on a silent line. One frame gap of silence will do after an
answer; after a try that ended without one (too late, broken, cancelled) it takes a whole timeout.
"""

from contextlib import suppress

import anyio

from anyserial import Parity, SerialPort
from modbus_meter.errors import BadReplyError, NoReplyError
from modbus_meter.frames import Function, Request


class ModbusClient:
    """Talks to the devices on one line.

    Args:
        port: The open port. The client does not close it.
        timeout: Seconds that a device has for one answer.
        retries: Further tries after a missing or broken answer. A refusal by the device is an answer.
    """

    def __init__(self, port: SerialPort, *, timeout: float = 0.5, retries: int = 2) -> None:
        self._port = port
        self._timeout = timeout
        self._retries = retries
        self._turn = anyio.Lock()
        self._answered = True

    async def read_holding(self, unit: int, address: int, count: int = 1) -> list[int]:
        """Return ``count`` holding registers from ``address`` on."""
        return await self._ask(Request(unit=unit, function=Function.READ_HOLDING, address=address, value=count))

    async def read_input(self, unit: int, address: int, count: int = 1) -> list[int]:
        """Return ``count`` input registers from ``address`` on."""
        return await self._ask(Request(unit=unit, function=Function.READ_INPUT, address=address, value=count))

    async def write_register(self, unit: int, address: int, value: int) -> None:
        """Write one holding register."""
        await self._ask(Request(unit=unit, function=Function.WRITE_SINGLE, address=address, value=value))

    async def _ask(self, request: Request) -> list[int]:
        async with self._turn:
            for _ in range(self._retries):
                with suppress(BadReplyError, NoReplyError):
                    return await self._try(request)
            return await self._try(request)

    async def _try(self, request: Request) -> list[int]:
        await self._wait_for_silence(self._frame_gap() if self._answered else self._timeout)
        self._answered = False
        reply = b""
        try:
            with anyio.fail_after(self._timeout):
                await self._port.send(request.frame)
                while missing := request.missing(reply):
                    reply += await self._port.receive(missing)
        except TimeoutError:
            got = reply.hex(" ") or "nothing"
            raise NoReplyError(f"{request}: no answer within {self._timeout} s, received {got}") from None
        request.check(reply)
        self._answered = True
        return request.registers(reply)

    async def _wait_for_silence(self, seconds: float) -> None:
        with anyio.move_on_after(seconds + self._timeout):
            while True:
                with anyio.move_on_after(seconds) as silence:
                    await self._port.receive_available()
                if silence.cancelled_caught:
                    await self._port.reset_input_buffer()
                    return
        raise NoReplyError(f"{self._port.path}: never silent for {seconds} s; is something else sending?")

    def _frame_gap(self) -> float:
        config = self._port.config
        if config.baudrate > 19_200:
            return 0.00175
        bits = 1 + int(config.byte_size) + (config.parity is not Parity.NONE) + float(config.stop_bits)
        return 3.5 * bits / config.baudrate
