"""A port that writes down what it does, through the public methods of `anyserial.SerialPort` and nothing else."""

from __future__ import annotations

from anyserial import BytesLike, SerialConfig, SerialPort

from .transcript import PortLog


class Recording:
    """What a recorded port, async or blocking, remembers of its record."""

    _log: PortLog
    _bytes_logged = 0
    _close_logged = False

    def note(self, kind: str, what: str) -> None:
        """Write down what somebody else knows of it."""
        self._log.add(kind, what)

    def _note_sent(self, data: BytesLike, total: int, began: float) -> None:
        # What the device took: the growth of its own count, so that a send that was cut short is told as it was.
        taken, self._bytes_logged = total - self._bytes_logged, total
        if taken:
            whole = data if isinstance(data, bytes) else memoryview(data).tobytes()
            self._log.add("sent", whole[:taken], began)

    def _note_closed(self) -> None:
        if not self._close_logged:
            self._close_logged = True
            self._log.add("closed")


class RecordedPort(Recording, SerialPort):
    """An ordinary port; `record` gives it the log to write to before it is handed out."""

    def record(self, log: PortLog) -> None:
        """From now on, write to `log`."""
        self._log = log
        log.add("opened", describe(self.config))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        with self._log.failures_of("receive"):
            data = await super().receive(max_bytes)
        self._log.add("received", data)
        return data

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        with self._log.failures_of("receive"):
            size = await super().receive_into(buffer)
        self._log.add("received", memoryview(buffer).cast("B")[:size])
        return size

    async def receive_available(self, *, limit: int | None = None) -> bytes:
        with self._log.failures_of("receive"):
            data = await super().receive_available(limit=limit)
        self._log.add("received", data)
        return data

    async def send(self, item: bytes) -> None:
        await self.send_buffer(item)

    async def send_buffer(self, data: BytesLike) -> None:
        began = self._log.now()
        try:
            with self._log.failures_of("send"):
                await super().send_buffer(data)
        finally:
            self._note_sent(data, self.stats().bytes_sent, began)

    async def configure(self, config: SerialConfig) -> None:
        with self._log.failures_of(f"configure {describe(config)}"):
            await super().configure(config)
        self._log.add("configured", describe(config))

    async def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        await super().set_control_lines(rts=rts, dtr=dtr)
        self._log.add("lines", levels(rts=rts, dtr=dtr))

    async def send_break(self, duration: float = 0.25) -> None:
        self._log.add("break", f"{duration:g} s")
        await super().send_break(duration)

    async def reset_input_buffer(self) -> None:
        await super().reset_input_buffer()
        self._log.add("input dropped")

    async def reset_output_buffer(self) -> None:
        await super().reset_output_buffer()
        self._log.add("output dropped")

    async def aclose(self) -> None:
        self._note_closed()
        await super().aclose()


def levels(**lines: bool | None) -> str:
    """`RTS on, DTR off`; None is a line that was left alone."""
    return ", ".join(f"{name.upper()} {'on' if on else 'off'}" for name, on in lines.items() if on is not None)


def describe(config: SerialConfig) -> str:
    """`115200 8N1`, and what else is not as usual."""
    extras = [
        name
        for name, present in (
            ("XON/XOFF", config.flow_control.xon_xoff),
            ("RTS/CTS", config.flow_control.rts_cts),
            ("DTR/DSR", config.flow_control.dtr_dsr),
            ("RS-485", config.rs485 is not None),
            ("exclusive", config.exclusive),
            ("low latency", config.low_latency),
        )
        if present
    ]
    frame = f"{config.baudrate} {config.byte_size}{config.parity[0].upper()}{config.stop_bits}"
    return ", ".join([frame, *extras])
