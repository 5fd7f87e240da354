"""Drivers for a scale that answers b"W" with the weight in grams: b"+00125" and a carriage return."""

import anyio

from anyserial import SerialPort


class Scale:
    """A scale on an open port. `patience` is how many seconds an answer may take."""

    def __init__(self, port: SerialPort, *, patience: float = 1.0) -> None:
        self._port = port
        self._patience = patience

    async def grams(self) -> int:
        """Ask for the weight."""
        await self._port.send(b"W\r")
        with anyio.fail_after(self._patience):
            return int(await self._answer())

    async def _answer(self) -> bytes:
        answer = b""
        while not answer.endswith(b"\r"):
            answer += await self._port.receive()
        return answer


class HastyScale(Scale):
    """The same, as it was at first: a bug that shows only when an answer comes in pieces."""

    async def _answer(self) -> bytes:
        answer = await self._port.receive()
        for _ in range(3):
            if answer.endswith(b"\r"):
                break
            # Not all there yet: wait until something comes, and try again.
            with anyio.move_on_after(self._patience / 4):
                await self._port.receive(1)
                answer += await self._port.receive_available()
        return answer
