"""A blocking port that writes down what it does, as `_recorder` does for async ones."""

from __future__ import annotations

from anyserial import BytesLike, SerialConfig
from anyserial.sync import SerialPort

from .recorder import Recording, describe, levels
from .transcript import PortLog


class RecordedSyncPort(Recording, SerialPort):
    """An ordinary blocking port; `record` gives it the log to write to before it is handed out."""

    def record(self, log: PortLog) -> None:
        """From now on, write to `log`."""
        self._log = log
        log.add("opened", describe(self.config))

    def receive(self, max_bytes: int = 65536, *, timeout: float | None = None) -> bytes:
        with self._log.failures_of("receive"):
            data = super().receive(max_bytes, timeout=timeout)
        self._log.add("received", data)
        return data

    def receive_into(self, buffer: bytearray | memoryview, *, timeout: float | None = None) -> int:
        with self._log.failures_of("receive"):
            size = super().receive_into(buffer, timeout=timeout)
        self._log.add("received", memoryview(buffer).cast("B")[:size])
        return size

    def receive_available(self, *, limit: int | None = None, timeout: float | None = None) -> bytes:
        with self._log.failures_of("receive"):
            data = super().receive_available(limit=limit, timeout=timeout)
        self._log.add("received", data)
        return data

    def send(self, item: bytes, *, timeout: float | None = None) -> None:
        self.send_buffer(item, timeout=timeout)

    def send_buffer(self, data: BytesLike, *, timeout: float | None = None) -> None:
        began = self._log.now()
        try:
            with self._log.failures_of("send"):
                super().send_buffer(data, timeout=timeout)
        finally:
            self._note_sent(data, self.stats().bytes_sent, began)

    def configure(self, config: SerialConfig, *, timeout: float | None = None) -> None:
        with self._log.failures_of(f"configure {describe(config)}"):
            super().configure(config, timeout=timeout)
        self._log.add("configured", describe(config))

    def set_control_lines(
        self, *, rts: bool | None = None, dtr: bool | None = None, timeout: float | None = None
    ) -> None:
        super().set_control_lines(rts=rts, dtr=dtr, timeout=timeout)
        self._log.add("lines", levels(rts=rts, dtr=dtr))

    def send_break(self, duration: float = 0.25, *, timeout: float | None = None) -> None:
        self._log.add("break", f"{duration:g} s")
        super().send_break(duration, timeout=timeout)

    def reset_input_buffer(self, *, timeout: float | None = None) -> None:
        super().reset_input_buffer(timeout=timeout)
        self._log.add("input dropped")

    def reset_output_buffer(self, *, timeout: float | None = None) -> None:
        super().reset_output_buffer(timeout=timeout)
        self._log.add("output dropped")

    def close(self, *, timeout: float | None = None) -> None:
        self._note_closed()
        super().close(timeout=timeout)
