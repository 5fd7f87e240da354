"""Mock ports with a cable whose wires can be opened, crossed and tied."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Self

import anyio

from anyserial import ModemLines, SerialConfig, SerialPort
from anyserial.testing import FaultEvent, FaultPlan, MockBackend
from pytest_anyserial._doctor.wiring import End, Timing

#: In memory everything follows at once.
QUICK = Timing(settle=0.001, silence=0.3)
#: Where each input of an end comes from: `"peer.rts"`, `"own.dtr"`, `"on"`, or nowhere.
CROSSED = {"cts": "peer.rts", "dsr": "peer.dtr", "cd": "peer.dtr"}


class CableEnd(MockBackend):
    """A mock whose inputs follow `inputs`, whose breaks may be lost, and which may be bad at some rates."""

    peer: Self
    inputs: Mapping[str, str] = CROSSED
    breaks = True
    refused: Collection[int] = ()
    plan_at: Callable[[int], FaultPlan] = staticmethod(lambda rate: FaultPlan())

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.moved: list[str] = []

    async def modem_lines(self) -> ModemLines:
        levels = {"on": True}
        for owner, lines in (("own", await self.control_lines()), ("peer", await self.peer.control_lines())):
            levels |= {f"{owner}.rts": lines.rts, f"{owner}.dtr": lines.dtr}
        on = {line: levels.get(self.inputs.get(line, ""), False) for line in ("cts", "dsr", "cd")}
        return ModemLines(ri=False, **on)

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        self.moved += [line for line, level in (("rts", rts), ("dtr", dtr)) if level is not None]
        await super().set_lines(rts=rts, dtr=dtr)

    def set_break(self, on: bool) -> None:
        if self.breaks:
            super().set_break(on)

    async def configure(self, config: SerialConfig) -> None:
        if config.baudrate in self.refused:
            raise OSError(22, "Invalid argument")
        await super().configure(config)
        self.faults = self.plan_at(config.baudrate)


def lost(at: int = 0, count: int = 1_000_000) -> FaultPlan:
    """Some of what an end sends does not arrive."""
    return FaultPlan(schedule=[FaultEvent(action="drop", direction="write", at_byte=at, count=count)])


class Cable:
    """The two ends of a cable, `a` and `b`, and the open ports there."""

    def __init__(self) -> None:
        self.a, self.b = CableEnd.pair()
        self.a.peer, self.b.peer = self.b, self.a
        self.ends: list[End] = []
        config = SerialConfig()
        for name, backend in (("a", self.a), ("b", self.b)):
            backend.open(name, config)
            self.ends.append(End(name, SerialPort(backend, config)))


@contextlib.asynccontextmanager
async def cable() -> AsyncIterator[Cable]:
    """A good null-modem cable; spoil it in the test."""
    made = Cable()
    try:
        yield made
    finally:
        for end in made.ends:
            await end.port.aclose()


@contextlib.asynccontextmanager
async def loopback(alter: Callable[[bytes], bytes] = bytes) -> AsyncIterator[list[End]]:
    """One port whose outputs are its inputs, given as the ends of a link."""
    async with cable() as made, anyio.create_task_group() as group:
        made.a.inputs = {"cts": "own.rts", "dsr": "own.dtr", "cd": "own.dtr"}

        async def echo() -> None:
            port = made.ends[1].port
            while True:
                await port.send(alter(await port.receive()))

        group.start_soon(echo)
        yield made.ends[:1]
        group.cancel_scope.cancel()
