"""Who takes part: a library on an event loop. Each module drives one library in the way its own pages show.

A module for an event loop has `async def open_port(path)` and says with `together` how it runs tasks side by side;
the port it opens has the methods of `AsyncPort`. A module for plain threads has the same as ordinary functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from benchmarks.loops import Jobs


class AsyncPort(Protocol):
    """What the cases ask of a port."""

    async def exchange(self, data: bytes) -> None:
        """Send `data` and receive as many bytes."""
        ...

    async def read_some(self, limit: int) -> object:
        """Receive 1..`limit` bytes."""
        ...

    async def read_all(self, total: int) -> None:
        """Receive `total` bytes and drop them."""
        ...

    async def write_all(self, data: bytes) -> None:
        """Send `data`."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


class BlockingPort(Protocol):
    """The same without a loop."""

    def exchange(self, data: bytes) -> None: ...
    def read_all(self, total: int) -> None: ...
    def write_all(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class AsyncLibrary(Protocol):
    """A module of this package, for an event loop."""

    async def open_port(self, path: str) -> AsyncPort: ...
    async def together(self, jobs: Jobs) -> None: ...


class BlockingLibrary(Protocol):
    """A module of this package, for plain threads."""

    def open_port(self, path: str) -> BlockingPort: ...


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A library on a loop; `blocking` counts as one."""

    library: str
    loop: str
    module: str

    @property
    def name(self) -> str:
        return f"{self.library}/{self.loop}"

    @property
    def floor(self) -> str:
        """Whom it is compared with."""
        return f"raw/{self.loop}"

    def load(self) -> AsyncLibrary | BlockingLibrary:
        return cast("AsyncLibrary | BlockingLibrary", import_module(f"{__name__}.{self.module}"))


# Those that are compared with each other stand, and run, next to each other.
CONTESTANTS = [
    Contestant(library="raw", loop="asyncio", module="raw_asyncio"),
    Contestant(library="anyserial", loop="asyncio", module="ours"),
    Contestant(library="anyserial, buffered", loop="asyncio", module="ours_buffered"),
    Contestant(library="pyserial-asyncio-fast", loop="asyncio", module="peer_pyserial_asyncio"),
    Contestant(library="serialx", loop="asyncio", module="peer_serialx"),
    Contestant(library="aioserial", loop="asyncio", module="peer_aioserial"),
    Contestant(library="raw", loop="uvloop", module="raw_asyncio"),
    Contestant(library="anyserial", loop="uvloop", module="ours"),
    Contestant(library="pyserial-asyncio-fast", loop="uvloop", module="peer_pyserial_asyncio"),
    Contestant(library="serialx", loop="uvloop", module="peer_serialx"),
    Contestant(library="raw", loop="trio", module="raw_trio"),
    Contestant(library="raw with turns", loop="trio", module="raw_trio_turns"),
    Contestant(library="anyserial", loop="trio", module="ours"),
    Contestant(library="trio-serial", loop="trio", module="peer_trio_serial"),
    Contestant(library="raw", loop="blocking", module="raw_blocking"),
    Contestant(library="anyserial", loop="blocking", module="ours_blocking"),
    Contestant(library="pyserial", loop="blocking", module="peer_pyserial"),
]
BY_NAME = {contestant.name: contestant for contestant in CONTESTANTS}
