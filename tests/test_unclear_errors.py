"""An error of a control call that does not say whether the device has vanished: the kernel is asked."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import Any

import pytest

from anyserial import (
    SerialCapabilities,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedPolicy,
)
from anyserial._backends.posix.linux import LinuxFacts
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import PtyPair

from .support import AWAITABLES
from .sync_support import over, provider

pytestmark = [pytest.mark.anyio, pytest.mark.posix("on Windows each code says by itself whether the device is gone")]

# What USB drivers return for a control transfer: no answer in time, a transaction error, the device is being released.
UNCLEAR = [errno.ETIMEDOUT, errno.EPROTO, errno.ESHUTDOWN]
CALLS = ["modem_lines", "control_lines", "set_control_lines", "configure"]

codes = pytest.mark.parametrize("code", UNCLEAR, ids=errno.errorcode.get)
calls = pytest.mark.parametrize("name", CALLS)


class WiredFacts(LinuxFacts):
    """Takes the pty for a USB adapter."""

    def capabilities(self, device: int) -> SerialCapabilities:
        return super().capabilities(os.makedev(188, 0))


class Adapter:
    """The kernel's ioctls for a pty with wires, whose control transfers can fail after `meanwhile`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers_left: int | None = None
        self.code = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def fail(self, code: int, after: int, meanwhile: Callable[[], None]) -> None:
        """Answer so many more transfers, then none."""
        self.code, self.answers_left, self.meanwhile = code, after, meanwhile

    def ioctl(self, fd: int, request: int, arg: bytes | int = 0, *rest: bool) -> bytes | int:
        if request not in (termios.TIOCMGET, termios.TIOCMBIS, termios.TIOCMBIC):
            return fcntl.ioctl(fd, request, arg, *rest)
        if self.answers_left == 0:
            self.meanwhile()
            raise OSError(self.code, os.strerror(self.code))
        if self.answers_left is not None:
            self.answers_left -= 1
        return struct.pack("i", termios.TIOCM_DTR | termios.TIOCM_RTS)

    async def open(self, **fields: Any) -> SerialPort:
        config = SerialConfig(**fields)
        return SerialPort(await open_tty(self.path, config, WiredFacts(ioctl=self.ioctl)), config)


def answers_before(name: str) -> int:
    """How many transfers succeed: `configure` looks at the lines first, where a failure only means that it has none."""
    return int(name == "configure")


@calls
@codes
async def test_an_unplug_during_a_control_call_is_a_disconnect(ptys: PtyPair, code: int, name: str) -> None:
    """L-125, H-30: whatever the driver returned for its last transfer; the errno stays in the error."""
    adapter = Adapter(ptys.path_a)
    async with await adapter.open() as port:
        adapter.fail(code, answers_before(name), ptys.unplug)
        with pytest.raises(SerialDisconnectedError) as caught:
            await AWAITABLES[name](port)
    error = caught.value
    assert (error.errno, error.strerror, error.filename) == (code, os.strerror(code), ptys.path_a)
    assert isinstance(error.__cause__, OSError)
    assert not isinstance(error.__cause__, SerialError)


@calls
@codes
async def test_a_control_call_that_fails_on_a_device_that_is_there_is_none(ptys: PtyPair, code: int, name: str) -> None:
    """L-125: a transfer that a bad cable has spoiled ends one call."""
    adapter = Adapter(ptys.path_a)
    async with await adapter.open() as port:
        adapter.fail(code, answers_before(name), lambda: None)
        with pytest.raises(SerialError) as caught:
            await AWAITABLES[name](port)
        assert type(caught.value) is SerialError
        assert caught.value.errno == code
        adapter.answers_left = None
        await AWAITABLES[name](port)


async def test_what_configure_could_not_put_back_is_in_the_error_of_an_unplug(ptys: PtyPair) -> None:
    """L-71, L-125: the notes go where the caller looks."""
    adapter = Adapter(ptys.path_a)
    async with await adapter.open() as port:
        adapter.fail(errno.EPROTO, 1, ptys.unplug)
        with pytest.raises(SerialDisconnectedError) as caught:
            await port.configure(SerialConfig(baudrate=9600))
    assert any("could not be put back completely" in note for note in caught.value.__notes__)


# An open asks for the lines once to know whether there are any, once before and once after the settings; then it sets
# them.
@pytest.mark.parametrize("answers", [2, 3])
@codes
async def test_an_unplug_during_an_open_is_a_disconnect(ptys: PtyPair, code: int, answers: int) -> None:
    """L-125, L-129: under every policy, because a device that has vanished refuses nothing."""
    adapter = Adapter(ptys.path_a)
    adapter.fail(code, answers, ptys.unplug)
    with pytest.raises(SerialDisconnectedError) as caught:
        await adapter.open(rts_on_open=False, unsupported_policy=UnsupportedPolicy.IGNORE)
    assert (caught.value.errno, caught.value.filename) == (code, ptys.path_a)


@codes
def test_an_unplug_during_a_blocking_control_call_is_a_disconnect(ptys: PtyPair, code: int) -> None:
    """L-125, L-147: the blocking twin says the same."""
    adapter = Adapter(ptys.path_a)
    with provider("asyncio") as portals:
        with portals as portal:
            backend = portal.call(open_tty, adapter.path, SerialConfig(), WiredFacts(ioctl=adapter.ioctl))
            port = over(backend, portals)
        with port:
            adapter.fail(code, 1, ptys.unplug)
            with pytest.raises(SerialDisconnectedError) as caught:
                port.configure(SerialConfig(baudrate=9600))
    assert caught.value.errno == code
