"""The COM ports of `make windows`, with a plug that can be pulled; and what handles a Windows process has open.

A module has the fixtures from here by a line such as `cable = com_pair.cable`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from anyserial import SerialPort


class ComPair:
    """As `PtyPair`: both ends by name."""

    def __init__(self, path_a: str, path_b: str, orders: str) -> None:
        self.path_a = path_a
        self.path_b = path_b
        self._orders = int(orders)

    def unplug(self) -> None:
        self._order(b"unplug")

    def replug(self) -> None:
        self._order(b"replug")

    def _order(self, order: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._orders)) as there:
            there.sendall(order + b"\n")
            there.recv(64)


@contextlib.contextmanager
def com_pair() -> Iterator[ComPair]:
    """The two ports, newly plugged in: nothing is on its way."""
    if "WINDOWS_PORTS" not in os.environ:
        pytest.skip("no COM ports here: see make windows")
    pair = ComPair(*os.environ["WINDOWS_PORTS"].split())
    pair.replug()
    yield pair


@pytest.fixture(autouse=True)
def cable() -> Iterator[ComPair]:
    """The two ports; every test of the module begins with new ones."""
    with com_pair() as pair:
        yield pair


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The loops of Windows, by name."""
    return request.param


@pytest.fixture
async def pair(anyio_backend: str, cable: ComPair) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Both ports, open."""
    async with await SerialPort.open(cable.path_a) as a, await SerialPort.open(cable.path_b) as b:
        yield a, b


def handles() -> set[tuple[int, str]]:
    """The handles of this process that are devices, by number."""
    kernel32 = _kernel32()
    return {
        (number, "device")
        for number in range(4, 4 * _MOST_HANDLES, 4)
        if kernel32.GetFileType(number) == _FILE_TYPE_CHAR
    }


def is_handle(number: int) -> bool:
    """Whether a handle is open."""
    flags = ctypes.c_uint32()
    return bool(_kernel32().GetHandleInformation(number, ctypes.byref(flags)))


def handle_count() -> int:
    """How many handles of all kinds this process has."""
    count, kernel32 = ctypes.c_uint32(), _kernel32()
    kernel32.GetProcessHandleCount(kernel32.GetCurrentProcess(), ctypes.byref(count))
    return count.value


_FILE_TYPE_CHAR = 2
#: More than any test has open; Windows numbers them in fours.
_MOST_HANDLES = 2048


@functools.cache
def _kernel32() -> Any:
    library: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    library.GetCurrentProcess.restype = ctypes.c_void_p
    for name, types in {
        "GetFileType": (ctypes.c_void_p,),
        "GetHandleInformation": (ctypes.c_void_p, ctypes.c_void_p),
        "GetProcessHandleCount": (ctypes.c_void_p, ctypes.c_void_p),
    }.items():
        getattr(library, name).argtypes = types
    return library
