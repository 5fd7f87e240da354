"""Exclusive access: a second owner is refused, and the first one's close lets it in."""

from __future__ import annotations

import os

import pytest

from anyserial import PortBusyError, SerialConfig, SerialPort
from pytest_anyserial import SerialLink

from .support import deliver, one_loop

EXCLUSIVE = SerialConfig(exclusive=True)

pytestmark = [one_loop, pytest.mark.anyserial(requires=["path", "exclusive_access"])]


async def test_a_second_exclusive_open_is_refused(serial_link: SerialLink, serial_peer: SerialPort) -> None:
    """H-30, L-38, L-39: PortBusyError while the first has it; afterwards the port is to be had, and works."""
    async with serial_link.opened("port", EXCLUSIVE):
        with pytest.raises(PortBusyError):
            async with serial_link.opened("port", EXCLUSIVE):
                pass
    async with serial_link.opened("port", EXCLUSIVE) as port:
        await deliver(port, serial_peer, b"mine now")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may open what others have for themselves")
async def test_an_ordinary_open_is_refused_too(serial_link: SerialLink) -> None:
    """H-30, L-39: the kernel keeps out who does not ask as well."""
    async with serial_link.opened("port", EXCLUSIVE):
        with pytest.raises(PortBusyError):
            async with serial_link.opened("port"):
                pass
    async with serial_link.opened("port"):
        pass


async def test_without_it_a_port_is_shared(serial_link: SerialLink, serial_peer: SerialPort) -> None:
    """H-30, L-39: two opens coexist, and either can send."""
    async with serial_link.opened("port") as one, serial_link.opened("port") as other:
        await deliver(one, serial_peer, b"one")
        await deliver(other, serial_peer, b"other")
