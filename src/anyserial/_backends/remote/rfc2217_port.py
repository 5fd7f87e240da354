"""The backend of `rfc2217://`: bytes, settings and lines of a port on a server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import lowlevel

from ..._types import ControlLines, LineErrors, ModemLines, PortInfo
from ...capabilities import Capability
from ...config import Parity, SerialConfig, StopBits, seconds_per_byte
from ...exceptions import (
    PortBusyError,
    PortNotFoundError,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
    UnsupportedSettingError,
)
from ..features import Policy
from . import rfc2217
from .connection import Connection, connect
from .raw_tcp import SocketBackend, capabilities_of, unsupported
from .rfc2217 import Client, Exchange, Request, control
from .telnet import escaped, escaped_prefix
from .url import parse

#: The relative difference of two rates at which a UART still receives correctly.
_TOLERANCE: Final = 0.03

#: The most unread bytes for which a sender still reads from the socket.
_MAX_UNREAD: Final = 65_536

_PARITIES: Final = {Parity.NONE: 1, Parity.ODD: 2, Parity.EVEN: 3, Parity.MARK: 4, Parity.SPACE: 5}
_STOP_BITS: Final = {StopBits.ONE: 1, StopBits.TWO: 2, StopBits.ONE_POINT_FIVE: 3}

#: Phrases that servers send before they close a connection to a port in use by another client.
_BUSY: Final = ("already in use", "device in use", "port busy")


class Rfc2217Backend(SocketBackend):
    """A port on an RFC 2217 server."""

    def __init__(self, connection: Connection, path: str, timeout: float) -> None:
        super().__init__(connection, path, timeout)
        self._client = Client()
        connection.out = self._client.telnet.out
        self._data = self._client.telnet.data
        self._config: SerialConfig | None = None
        self._rts: bool | None = None
        self._dtr: bool | None = None

    async def start(self, config: SerialConfig) -> None:
        """Negotiate the protocol and apply `config`."""
        try:
            await self._start(config)
        except OSError:
            # The server may close the connection at any time during this. It may have sent the reason as text.
            if self._is_over:
                self._require_agreement()
            raise

    async def _start(self, config: SerialConfig) -> None:
        client = self._client
        with anyio.move_on_after(self._timeout):
            await self._until_decided()
        self._require_agreement()
        await self._ask(
            Request(rfc2217.SIGNATURE),
            Request(rfc2217.SET_LINESTATE_MASK, bytes((rfc2217.ALL_ERRORS,))),
            Request(rfc2217.SET_MODEMSTATE_MASK, bytes((rfc2217.ALL_LINES,))),
        )
        name = client.signature.decode("ascii", "replace").strip()
        self.port_info = PortInfo(device=self.path, description=name or None)
        self.capabilities = capabilities_of(
            "rfc2217", Capability.UNKNOWN if client.modem_state is None else Capability.SUPPORTED
        )
        await self._apply(config)
        if config.dtr_on_open is not None or config.rts_on_open is not None:
            await self.set_lines(rts=config.rts_on_open, dtr=config.dtr_on_open)
        if config.flush_on_open:
            await self._purge(rfc2217.PURGE_INPUT | rfc2217.PURGE_OUTPUT)

    def _require_agreement(self) -> None:
        client, path = self._client, self.path
        if self._is_over:
            words = self._closing_text()
            if any(phrase in words.lower() for phrase in _BUSY):
                raise PortBusyError(errno.EBUSY, f"the server has the port in use{words}", path)
            raise PortNotFoundError(errno.ENODEV, f"the server has closed the connection{words}", path)
        if client.has_com_port and client.is_binary:
            return
        raise self._no_agreement("an 8-bit path" if client.has_com_port else "RFC 2217")

    def _no_agreement(self, what: str) -> UnsupportedConfigurationError:
        return UnsupportedConfigurationError(
            errno.EPROTONOSUPPORT,
            f"the server does not agree on {what}; for bytes alone use socket://{self.path.partition('://')[2]}",
            self.path,
        )

    def _send_piece(self, piece: bytes) -> int | None:
        wire = escaped(piece)
        sent = self._connection.send(wire)
        if sent is None or sent == len(wire):
            return sent and len(piece)
        count, is_half = escaped_prefix(piece, sent)
        if is_half:
            self._connection.out[:0] = b"\xff"
        return count

    def _take(self, chunk: bytes) -> None:
        self._client.telnet.feed(chunk)
        if self._connection.out:
            with contextlib.suppress(OSError):
                self._connection.flush()

    def is_held(self) -> bool:
        return self._client.is_held

    def _must_wait(self) -> bool:
        if len(self._data) < _MAX_UNREAD and self._connection.may_have_input():
            self._pump()
        return self._client.is_held

    async def _ask(self, *requests: Request) -> Exchange:
        """Send requests and wait until the server has answered all that it will answer.

        A cancelled caller still waits for this, because commands that were sent cannot be withdrawn.

        Raises:
            OSError: `ETIMEDOUT` if there was no answer, for example because flow control has stopped the line; `EPIPE`
                if the connection has ended.
        """
        with self._lock:
            self._require_open()
            exchange = self._client.begin(*requests)
            self._control_calls += 1
        try:
            await self._finish(exchange)
        finally:
            with self._lock:
                self._control_calls -= 1
                if not exchange.is_over:
                    self._client.give_up()
        if not exchange.is_over:
            raise OSError(errno.ETIMEDOUT, f"the server has not answered within {self._timeout:g} s")
        return exchange

    async def _finish(self, exchange: Exchange) -> None:
        """Wait for the end of an exchange, at most for the timeout, even if the caller is cancelled."""
        was_cancelled = False
        with anyio.CancelScope(shield=True), anyio.move_on_after(self._timeout) as scope:
            while True:
                try:
                    await self._until_over(exchange)
                    break
                except asyncio.CancelledError:
                    # `task.cancel()` was called, from which a shielded scope does not protect.
                    if scope.cancel_called:
                        raise
                    was_cancelled = True
        task = asyncio.current_task() if was_cancelled else None
        if task is not None:
            # Return the result of the completed exchange. The task's next wait raises the cancellation.
            task.uncancel()
            task.cancel()

    async def _until_decided(self) -> None:
        """Wait until the negotiation is complete or the connection has ended."""
        client = self._client
        while not client.is_decided and not self._is_over:
            if not self.flush():
                await self._wait(self._output)
                continue
            with self._lock:
                self._pump()
            if not client.is_decided and not self._is_over:
                await self._wait(self._input)

    async def _until_over(self, exchange: Exchange) -> None:
        while not exchange.is_over:
            is_flushed = self.flush()
            with self._lock:
                self._pump()
            if exchange.is_over:
                return
            if self._client.is_mirrored:
                raise self._no_agreement("RFC 2217")
            if self._is_over:
                raise self._connection_lost()
            await (self._wait(self._input) if is_flushed else self._wait_both())

    async def configure(self, config: SerialConfig, /) -> None:
        """Apply all settings. If one is refused, the settings of the previous config are sent again."""
        await lowlevel.checkpoint()
        await self._apply(config)

    async def _apply(self, config: SerialConfig) -> None:
        before = self._config
        try:
            await self._set(config)
        except UnsupportedConfigurationError:
            if before is not None:
                with contextlib.suppress(OSError):
                    await self._set(before)
            raise
        self._config = config

    async def _set(self, config: SerialConfig) -> None:
        flow = rfc2217.FLOW_NONE
        if config.flow_control.rts_cts:
            flow = rfc2217.FLOW_RTS_CTS
        elif config.flow_control.xon_xoff:
            flow = rfc2217.FLOW_XON_XOFF
        settings = {
            f"{config.byte_size} data bits": Request(rfc2217.SET_DATASIZE, bytes((int(config.byte_size),))),
            f"parity {config.parity}": Request(rfc2217.SET_PARITY, bytes((_PARITIES[config.parity],))),
            f"{config.stop_bits} stop bits": Request(rfc2217.SET_STOPSIZE, bytes((_STOP_BITS[config.stop_bits],))),
            "flow control": control(flow),
        }
        exchange = await self._ask(rfc2217.rate(config.baudrate), *settings.values())
        told, *answers = exchange.answers
        rate = exchange.rate if told is None else int.from_bytes(told[:4], "big")
        if rate is not None and abs(rate - config.baudrate) > _TOLERANCE * config.baudrate:
            raise UnsupportedConfigurationError(
                errno.EINVAL, f"asked for {config.baudrate} baud, the server runs at {rate}", self.path
            )
        for (name, request), answer in zip(settings.items(), answers, strict=True):
            if answer is None or answer[:1] != request.value:
                how = "passed over it in silence" if answer is None else f"answered {answer.hex()}"
                raise UnsupportedSettingError(errno.EINVAL, f"{name}: the server {how}", self.path)

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive the output lines."""
        await lowlevel.checkpoint()
        asked = {
            name: control(value)
            for name, value in {
                "RTS": None if rts is None else rfc2217.RTS_ON if rts else rfc2217.RTS_OFF,
                "DTR": None if dtr is None else rfc2217.DTR_ON if dtr else rfc2217.DTR_OFF,
            }.items()
            if value is not None
        }
        exchange = await self._ask(*asked.values())
        for name, answer in zip(asked, exchange.answers, strict=True):
            if answer is None:
                raise UnsupportedFeatureError(errno.ENOTTY, f"{name}: the server passed over it in silence", self.path)
        self._rts = self._rts if rts is None else rts
        self._dtr = self._dtr if dtr is None else dtr

    async def control_lines(self) -> ControlLines:
        """Return the output lines as last set by this port, or else as the server reports them."""
        await lowlevel.checkpoint()
        if self._rts is None or self._dtr is None:
            exchange = await self._ask(control(rfc2217.RTS_QUERY), control(rfc2217.DTR_QUERY))
            rts, dtr = exchange.answers
            if self._rts is None and self._dtr is None and not (rts and dtr):
                raise unsupported("control lines")
            # Drivers raise both lines at open, and pyserial's server reports neither.
            self._rts = (not rts or rts[0] == rfc2217.RTS_ON) if self._rts is None else self._rts
            self._dtr = (not dtr or dtr[0] == rfc2217.DTR_ON) if self._dtr is None else self._dtr
        return ControlLines(rts=self._rts, dtr=self._dtr)

    async def modem_lines(self) -> ModemLines:
        """Return the input lines as the server last reported them."""
        await lowlevel.checkpoint()
        self.input_waiting()
        if self._client.modem_state is None:
            # Servers report the lines when the mask is set.
            await self._ask(Request(rfc2217.SET_MODEMSTATE_MASK, bytes((rfc2217.ALL_LINES,))))
        state = self._client.modem_state
        if state is None:
            raise unsupported("modem lines")
        return ModemLines(
            cts=bool(state & rfc2217.CTS),
            dsr=bool(state & rfc2217.DSR),
            ri=bool(state & rfc2217.RING),
            cd=bool(state & rfc2217.CARRIER),
        )

    async def line_errors(self) -> LineErrors:
        """Return the counts of errors that the server has reported since the open."""
        await lowlevel.checkpoint()
        self.input_waiting()
        events = self._client.line_events
        return LineErrors(
            parity=events[rfc2217.PARITY],
            framing=events[rfc2217.FRAMING],
            overrun=events[rfc2217.OVERRUN],
            breaks=events[rfc2217.BREAK],
        )

    def set_break(self, on: bool, /) -> None:
        """Begin or end a break. This does not wait for an answer, because servers answer both with the same value."""
        with self._lock:
            self._require_open()
            self._client.send(control(rfc2217.BREAK_ON if on else rfc2217.BREAK_OFF))
            self._connection.flush()

    def discard_input(self) -> Awaitable[None]:
        """Drop the received bytes, and those that arrive before the server confirms that it has dropped its own."""
        super().discard_input()
        return self._purge(rfc2217.PURGE_INPUT)

    def discard_output(self) -> Awaitable[None]:
        """Make the server drop its unsent bytes."""
        super().discard_output()
        return self._purge(rfc2217.PURGE_OUTPUT)

    async def _purge(self, what: int) -> None:
        await self._ask(Request(rfc2217.PURGE_DATA, bytes((what,))))

    async def drain_hardware(self) -> None:
        """Wait until the server has taken all bytes, then for the estimated time of the bytes in its UART."""
        await super().drain_hardware()
        await self._ask()
        if self._config is not None:
            # The FIFO of a UART holds 16 bytes.
            await anyio.sleep(16 * seconds_per_byte(self._config))


async def open_remote(
    url: str, config: SerialConfig, warn: Callable[[str], None], tls: ssl.SSLContext | None = None
) -> SocketBackend:
    """Open the port at an address, and apply `config`.

    Raises:
        ConfigurationError: The address is wrong.
        PortNotFoundError: Nothing answers there.
        PortBusyError: The server has given the port to another client.
        UnsupportedConfigurationError: The server refuses a setting, or does not speak RFC 2217.
    """
    address = parse(url)
    connection = await connect(address, url, tls)
    backend: SocketBackend | Rfc2217Backend
    try:
        policy = Policy(config.unsupported_policy, url, warn)
        if address.scheme == "socket":
            policy.settle(config, {"dtr_dsr", "rs485", "low_latency", "modem_lines"})
            backend = SocketBackend(connection, url, address.timeout)
        else:
            settled = policy.settle(config, {"dtr_dsr", "rs485", "low_latency"})
            backend = Rfc2217Backend(connection, url, address.timeout)
            await backend.start(settled)
    except BaseException:
        connection.close(discard=True)
        raise
    return backend
