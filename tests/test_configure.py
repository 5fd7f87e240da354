"""Reconfiguring an open port: all of it or none of it, and nothing else is disturbed."""

from __future__ import annotations

import errno
import random

import anyio
import pytest

from anyserial import (
    ByteSize,
    ControlLines,
    FlowControl,
    Parity,
    PortBusyError,
    PortPermissionError,
    RS485Config,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    StopBits,
    UnsupportedSettingError,
)

from .support import (
    assert_checkpoint,
    assert_raises_when_cancelled,
    faulty_pair,
    parked,
    take,
    until_stuck,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]
OTHER = SerialConfig(baudrate=9600)


async def test_the_config_applied_is_the_config_shown(ports: Ports) -> None:
    """L-70, L-72, E31: `port.config` is the very object that was applied."""
    port, _ = ports
    await port.configure(OTHER)
    assert port.config is OTHER


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EINVAL, UnsupportedSettingError),
        (errno.ENOTTY, UnsupportedSettingError),
        (errno.EBUSY, PortBusyError),
        (errno.EACCES, PortPermissionError),
        (errno.EIO, SerialDisconnectedError),
        (errno.EPERM, SerialError),
    ],
)
async def test_a_refusal_is_translated(anyio_backend: object, code: int, expected: type[SerialError]) -> None:
    """L-79, L-45, L-116, L-122, L-169, E31: an error of the OS is a serial error, and the config stays."""
    async with faulty_pair() as (port, _, backend):
        await port.configure(OTHER)
        backend.faults.configure_errno = code
        with pytest.raises(expected, match=port.path) as caught:
            await port.configure(SerialConfig(baudrate=300))
        assert type(caught.value) is expected
        assert caught.value.errno == code
        assert port.config is backend.last_config is OTHER
        backend.faults.configure_errno = None
        await port.configure(SerialConfig(baudrate=300))
        assert port.config.baudrate == 300


async def test_configure_on_a_closed_port_raises(ports: Ports) -> None:
    """L-79, L-96: closed is closed, and the config stays readable."""
    port, _ = ports
    config = port.config
    await port.aclose()
    with pytest.raises(SerialClosedError):
        await port.configure(OTHER)
    assert port.config is config


async def test_a_cancelled_scope_configures_nothing(anyio_backend: object) -> None:
    """L-70, L-73, E4, E30: neither backend nor `port.config` are touched, and the next call works."""
    async with faulty_pair() as (port, _, backend):
        await port.configure(OTHER)
        await assert_raises_when_cancelled(lambda: port.configure(SerialConfig(baudrate=300)))
        assert port.config is backend.last_config is OTHER
        await assert_checkpoint(lambda: port.configure(SerialConfig(baudrate=300)))
        assert port.config is backend.last_config
        assert port.config.baudrate == 300


async def test_config_and_device_agree_after_cancelled_calls(anyio_backend: object) -> None:
    """L-70, L-72, L-73, E29, E30: whichever calls are cut, the config shown is the one last applied."""
    chooser = random.Random(7)
    async with faulty_pair() as (port, _, backend):

        async def configure(scope: anyio.CancelScope, config: SerialConfig) -> None:
            with scope:
                await port.configure(config)

        await port.configure(OTHER)
        for _ in range(20):
            scopes = [anyio.CancelScope() for _ in range(8)]
            async with anyio.create_task_group() as tg:
                for rate, scope in enumerate(scopes, start=1):
                    tg.start_soon(configure, scope, SerialConfig(baudrate=rate))
                for _ in range(chooser.randrange(4)):
                    await anyio.lowlevel.checkpoint()
                for scope in scopes:
                    if chooser.random() < 0.5:
                        scope.cancel()
                    assert port.config is backend.last_config
            assert port.config is backend.last_config


async def test_configure_leaves_a_parked_reader_waiting(ports: Ports) -> None:
    """L-74: the reader stays parked and gets its bytes later."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        await port.configure(OTHER)
        assert not reader.done
        await peer.send(b"x")
        await reader.wait()
    assert reader.value == b"x"


async def test_configure_leaves_a_send_in_progress_intact(ports: Ports) -> None:
    """L-74: configure neither waits for the send nor damages it."""
    port, peer = ports
    data = bytes(range(256)) * 4096
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.send, data)
        await until_stuck(port)
        await port.configure(OTHER)
        assert await take(peer, len(data)) == data


async def test_exclusive_acts_only_at_open(ports: Ports) -> None:
    """L-75: a differing `exclusive` is stored as it was at open; the rest of the config applies."""
    port, _ = ports
    await port.configure(SerialConfig(baudrate=9600, exclusive=True))
    assert port.config == OTHER


async def test_lines_and_queues_are_not_touched(anyio_backend: object) -> None:
    """L-75, L-78: what acts at open acts only there, and the levels of DTR and RTS stay."""
    async with faulty_pair() as (port, peer, _):
        await port.set_control_lines(rts=True, dtr=False)
        await peer.send(b"kept")
        await port.configure(SerialConfig(dtr_on_open=True, rts_on_open=False, flush_on_open=True))
        assert await port.control_lines() == ControlLines(rts=True, dtr=False)
        assert await port.receive() == b"kept"


@pytest.mark.parametrize(
    "config",
    [
        SerialConfig(baudrate=1),
        SerialConfig(baudrate=2**32 - 1),
        *(SerialConfig(byte_size=size) for size in ByteSize),
        *(SerialConfig(parity=parity) for parity in Parity),
        *(SerialConfig(stop_bits=bits) for bits in StopBits),
        SerialConfig(flow_control=FlowControl(xon_xoff=True, rts_cts=True, dtr_dsr=True)),
        SerialConfig(low_latency=True, rs485=RS485Config(delay_before_send=0.001)),
        SerialConfig(read_chunk_size=64, hangup_on_close=False),
    ],
    ids=str,
)
def test_a_mock_takes_every_valid_config(config: SerialConfig) -> None:
    """L-161: configs round-trip, also those with features that the capabilities deny."""

    async def main() -> None:
        async with faulty_pair() as (port, _, backend):
            await port.configure(config)
            assert port.config is backend.last_config is config

    anyio.run(main)
