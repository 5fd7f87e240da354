"""Frames: every size, parity and stop bit passes, and two ends that do not agree are noticed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from anyserial import LineErrors, Parity, SerialConfig, SerialPort, UnsupportedSettingError
from anyserial.config import ByteSize, StopBits
from pytest_anyserial import SerialPair

from .support import deliver, errors_of, one_loop, until

Record = Callable[[str, object], None]

pytestmark = [one_loop, pytest.mark.anyserial(requires=["framing"])]


@pytest.mark.parametrize("byte_size", ByteSize)
async def test_a_frame_passes_or_is_refused(
    serial_pair: SerialPair, byte_size: ByteSize, record_property: Record
) -> None:
    """H-30, L-46: with each parity and stop bit all values that fit pass, both ways, and no error is counted."""
    for parity, stop_bits in itertools.product((Parity.NONE, Parity.EVEN, Parity.ODD), (StopBits.ONE, StopBits.TWO)):
        config = SerialConfig(byte_size=byte_size, parity=parity, stop_bits=stop_bits)
        try:
            await deliver_framed(serial_pair, config)
        except UnsupportedSettingError as exc:
            record_property(f"{byte_size} bits, parity {parity}, {stop_bits} stop", str(exc))
            assert config not in [end.config for end in serial_pair]


@pytest.mark.parametrize("parity", [Parity.MARK, Parity.SPACE])
@pytest.mark.anyserial(requires=["mark_space_parity"])
async def test_mark_and_space_parity_pass(serial_pair: SerialPair, parity: Parity) -> None:
    """H-30: as the other parities, where the platform has them."""
    await deliver_framed(serial_pair, SerialConfig(parity=parity))


@pytest.mark.anyserial(requires=["line_errors"])
async def test_a_parity_mismatch_is_counted(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-86, L-87: even at one end, odd at the other: the bytes arrive, and each one counts as an error."""
    await serial_port.configure(serial_port.config.with_changes(parity=Parity.EVEN))
    await serial_peer.configure(serial_peer.config.with_changes(parity=Parity.ODD))
    await serial_port.send(b"mismatch")

    async def counted() -> bool:
        return (await serial_peer.line_errors()).parity > 0

    await until(counted, "parity errors at the far end")


@pytest.mark.anyserial(requires=["line_errors"])
async def test_a_rate_mismatch_is_counted(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-86: a sender at half the rate of the receiver shows as framing errors."""
    await serial_port.configure(serial_port.config.with_changes(baudrate=serial_peer.config.baudrate // 2))
    await serial_port.send(b"U" * 20)

    async def counted() -> bool:
        return (await serial_peer.line_errors()).framing > 0

    await until(counted, "framing errors at the far end")


async def deliver_framed(pair: SerialPair, config: SerialConfig) -> None:
    """Configure both ends and send every value that fits, in both directions, without an error."""
    for end in pair:
        await end.configure(config)
    values = bytes(range(2 ** int(config.byte_size)))
    await deliver(pair.port, pair.peer, values)
    await deliver(pair.peer, pair.port, values)
    assert [await errors_of(end) for end in pair] == [LineErrors(), LineErrors()]
