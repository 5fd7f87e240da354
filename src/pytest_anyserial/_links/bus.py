"""Several ports on one line: `serial_bus`. In memory on the mock; on a bench the ends of a link of kind rs485."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from anyserial import SerialConfig, SerialPort
from anyserial.testing import MockBus, mock_bus

from .._transcript.recording import Opening
from .base import BusCable

if TYPE_CHECKING:
    from .._transcript.transcript import End
    from .link import SerialLink

_ENDS: Final[tuple[End, ...]] = ("port", "peer")
#: Buses that may be in use at the same time, in one process.
_MOST_BUSES: Final = 1000


class SerialBusPorts:
    """The ports of a bus, in order; made by `serial_bus`. Unpack it, or take one by its number.

    Attributes:
        paths: Of its ends, for drivers that open a path themselves.
        cable: The bus in memory, with faults, unplug and replug by end; None on hardware.
    """

    def __init__(self, ports: tuple[SerialPort, ...], paths: tuple[str, ...], cable: MockBus | None) -> None:
        self.paths = paths
        self.cable = cable
        self._ports = ports

    def __repr__(self) -> str:
        return f"<SerialBusPorts {', '.join(self.paths)}>"

    def __len__(self) -> int:
        return len(self._ports)

    def __iter__(self) -> Iterator[SerialPort]:
        return iter(self._ports)

    def __getitem__(self, number: int) -> SerialPort:
        return self._ports[number]


class SerialBus:
    """Opens buses: `async with serial_bus(3) as (controller, first, second)`."""

    def __init__(self, link: SerialLink, config: SerialConfig) -> None:
        self._link = link
        self._config = config

    @asynccontextmanager
    async def __call__(
        self, ends: int = 3, *, config: SerialConfig | None = None, echo: bool = False, opened: int | None = None
    ) -> AsyncGenerator[SerialBusPorts]:
        """The ports of a fresh bus, open for the length of an `async with` block.

        On the mock bytes take as long as on a wire. While two ports send at the same time, the others receive garbled
        bytes, one for each byte time, and count framing errors.

        Args:
            ends: How many there are. A bench link gives its first ones; a test that asks for more is skipped.
            config: How all are opened; without one, as `serial_config` says.
            echo: Whether a port receives what it sends itself; on hardware its transceiver decides.
            opened: How many of them are opened, from the first; the others are left to code that opens `paths`.

        Raises:
            ValueError: There are fewer than two ends.
        """
        __tracebackhide__ = True
        if ends < 2:
            raise ValueError(f"a bus has at least two ends, not {ends}")
        cable, opened_with = self._link._cable, config or self._config
        if isinstance(cable, BusCable):
            bus = self._wired(cable, ends, opened_with, opened)
        else:
            bus = self._made(ends, echo, opened_with, opened)
        async with bus as ports:
            yield ports

    @asynccontextmanager
    async def _wired(
        self, cable: BusCable, ends: int, config: SerialConfig, opened: int | None
    ) -> AsyncGenerator[SerialBusPorts]:
        __tracebackhide__ = True
        link, found = self._link, cable.paths
        if ends > len(found):
            has = f'link "{link._wiring.title}" has {len(found)}{link._wiring.declared}'
            pytest.skip(f"needs a bus of {ends} ends: {has}")
        paths = (link.path("port"), link.path("peer"), *found[2:ends])
        async with AsyncExitStack() as stack:
            ports = [await stack.enter_async_context(link.opened(side, config)) for side in _ENDS[:opened]]
            for number in range(ends)[len(_ENDS) : opened]:
                with Opening(f"serial_bus_{number + 1}").applied():
                    port = await SerialPort.open(paths[number], link._config_of(number, config))
                ports.append(await stack.enter_async_context(port))
            yield SerialBusPorts(tuple(ports), paths, None)

    @asynccontextmanager
    async def _made(
        self, ends: int, echo: bool, config: SerialConfig, opened: int | None
    ) -> AsyncGenerator[SerialBusPorts]:
        __tracebackhide__ = True
        clock = None if self._link._test.clock is None else self._link._test.clock.timers
        with ExitStack() as cables:
            for number in range(_MOST_BUSES):
                paths = [f"/dev/mockBus{number or ''}.{end + 1}" for end in range(ends)]
                # Another bus of the test, or of a pytest that runs this test, may have these.
                with suppress(ValueError):
                    bus = cables.enter_context(mock_bus(paths, echo=echo, clock=clock))
                    break
            else:
                pytest.fail(
                    f"no path is left for a bus: {_MOST_BUSES} are open. Close those that the run does not need."
                )
            async with AsyncExitStack() as stack:
                ports = list[SerialPort]()
                for path in bus.paths[:opened]:
                    with Opening(f"serial_bus_{path.rpartition('.')[2]}").applied():
                        ports.append(await SerialPort.open(path, config))
                    await stack.enter_async_context(ports[-1])
                yield SerialBusPorts(tuple(ports), bus.paths, bus)
