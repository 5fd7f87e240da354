"""A line in manual time, and a kernel to talk USB/IP with."""

from __future__ import annotations

import asyncio
import socket

from virtualbench.cable import Cable
from virtualbench.uart import Uart
from virtualbench.usbip import Setup, Transfer, submission

from ..manual_clock import ManualClock

NO_SETUP = Setup(0, 0, 0, 0, 0)


class Time:
    """What a UART asks for the time; moves when told to."""

    def __init__(self):
        self.clock = ManualClock()
        self.call_at = self.clock.call_at

    def time(self):
        return self.clock.now()

    def advance(self, seconds):
        self.clock.advance(seconds)


def line(*names):
    """Time, and powered UARTs on one cable."""
    time = Time()
    uarts = [Uart(name, time) for name in names]
    Cable(*uarts)
    for uart in uarts:
        uart.power(True)
    return time, *uarts


def arrived(uart):
    """Everything in a UART's FIFO, as runs."""
    runs = []
    while len(uart.fifo):
        runs.append(uart.fifo.take(10_000))
    return runs


class Kernel:
    """The kernel's end of an attached adapter's socket."""

    def __init__(self, adapter):
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        adapter.connect(theirs)
        self._adapter = adapter
        self._sequence = 0
        self._inputs = set()

    async def release(self):
        """Let go of the adapter, and wait until it has noticed."""
        self.sock.close()
        async with asyncio.timeout(10):
            while self._adapter.is_plugged:
                await asyncio.sleep(0.001)

    async def send(self, message):
        await asyncio.get_running_loop().sock_sendall(self.sock, message)

    async def submit(self, endpoint, *, data=b"", length=None, setup=NO_SETUP):
        """Submit a transfer; an input when it has a length. Returns its number."""
        self._sequence += 1
        is_input = length is not None
        size = length if is_input else len(data)
        await self.send(submission(Transfer(self._sequence, endpoint, is_input, size, setup, data)))
        return self._sequence

    async def answer(self):
        """The next answer, as command, number, status, data; for an output the number of bytes instead."""
        header = await self._exactly(48)
        command, number = (int.from_bytes(header[at : at + 4]) for at in (0, 4))
        status = int.from_bytes(header[20:24], signed=True)
        length = int.from_bytes(header[24:28])
        is_input = command == 3 and number in self._inputs
        return command, number, status, await self._exactly(length) if is_input else length

    async def control(self, kind, request, value=0, index=0, *, data=b"", length=0):
        """A control transfer from beginning to end: its status, and what was read."""
        setup = Setup(kind, request, value, index, length or len(data))
        if kind & 0x80:
            number = await self.read(0, length, setup=setup)
        else:
            number = await self.submit(0, data=data, setup=setup)
        _, answered, status, what = await self.answer()
        assert answered == number
        return status, what

    async def read(self, endpoint, length, *, setup=NO_SETUP):
        """Submit an input; returns its number."""
        number = await self.submit(endpoint, length=length, setup=setup)
        self._inputs.add(number)
        return number

    async def _exactly(self, count):
        data = b""
        async with asyncio.timeout(10):
            while len(data) < count:
                data += await asyncio.get_running_loop().sock_recv(self.sock, count - len(data))
        return data
