"""The conformance suite: what the mock and the pty pair pass, and what a broken link fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from anyserial import SerialConfig, SerialPort
from anyserial.testing import MockBackend, check_port_pair

from .support import open_pair

pytestmark = pytest.mark.anyio

# What a pseudo-terminal does not have, in the words of the capabilities.
PTY_LACKS = [
    "modem_lines",
    "control_lines",
    "break_signal",
    "line_errors",
    "framing",
    "mark_space_parity",
    "low_latency",
    "rs485",
    "pacing",
]


async def test_the_mock_conforms(anyio_backend: object) -> None:
    """L-223, L-158, L-23: nothing is left out."""
    await check_port_pair(lambda config: open_pair("mock", config))


async def test_the_pty_pair_conforms(anyio_backend: object) -> None:
    """L-223, L-221, L-23: but for what a pty has no wires for."""
    await check_port_pair(lambda config: open_pair("pty", config), lacks=PTY_LACKS)


async def test_what_is_not_declared_lacking_is_checked(anyio_backend: object) -> None:
    """L-223: a pty that does not say what it lacks fails on a rule about lines or breaks."""
    with pytest.raises(AssertionError, match=r"L-8[1236]"):
        await check_port_pair(lambda config: open_pair("pty", config))


class Garbling(MockBackend):
    """A line that turns each byte into its successor."""

    def try_read(self, view: memoryview) -> int | None:
        count = super().try_read(view)
        for index in range(count or 0):
            view[index] = (view[index] + 1) % 256
        return count


@asynccontextmanager
async def garbled(config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """A pair on a line that changes every byte."""
    a, b = Garbling.pair()
    async with SerialPort(a, config) as port, SerialPort(b, config) as peer:
        yield port, peer


async def test_a_garbling_link_fails_on_the_byte_path(anyio_backend: object) -> None:
    """L-223: the text says which promise of the byte path was broken."""
    with pytest.raises(AssertionError, match=r"L-(47|58)"):
        await check_port_pair(garbled)


@asynccontextmanager
async def closed(config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """A pair whose ports were closed before anybody used them."""
    async with open_pair("mock", config) as pair:
        for port in pair:
            await port.aclose()
        yield pair


async def test_a_closed_pair_fails_with_a_rule(anyio_backend: object) -> None:
    """L-223: the failure is an `AssertionError` that names the rule and keeps the cause."""
    with pytest.raises(AssertionError, match=r"L-\d+") as caught:
        await check_port_pair(closed)
    assert caught.value.__cause__ is not None


async def test_each_check_gets_a_pair_of_its_own(anyio_backend: object) -> None:
    """L-223: `make_pair` is called with a config, and every pair is left again."""
    entered: list[SerialPort] = []

    @asynccontextmanager
    async def counting(config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
        assert isinstance(config, SerialConfig)
        async with open_pair("mock", config) as pair:
            entered.append(pair[0])
            yield pair

    await check_port_pair(counting)
    assert len(entered) > 5
    assert not any(port.is_open for port in entered)
