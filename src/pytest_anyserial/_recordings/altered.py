"""The replies of a recording in a run of `--serial-mutate`: they pass through a channel that may change one of them."""

from __future__ import annotations

from collections.abc import Callable

from .._wire import Channel


class AlteredReplies:
    """What stands between a recording and the cable.

    Args:
        channel: What the bytes pass through.
        send: Sends, and returns how many bytes there was room for.
        later: Calls something after so many seconds.
    """

    def __init__(
        self,
        channel: Channel,
        send: Callable[[bytes], int],
        later: Callable[[float, Callable[[], object]], object],
    ) -> None:
        self._channel = channel
        self._send = send
        self._later = later
        self._unsent = b""
        self._held = b""
        self._request = bytearray()
        self._last_request: bytes | None = None

    def send(self, data: memoryview, /) -> int:
        """Send a reply, or what has become of it; there is room for all of it."""
        altered = self._channel.reply(bytes(data), self._last_request, ())
        reply = b"".join(altered.parts)
        if altered.is_late:
            self._held += reply
            self._later(self._channel.lateness, self._release)
        else:
            self._unsent += reply
        self._flush()
        return len(data)

    def heard(self, data: bytes, /) -> bytes:
        """Return what the recording is to hear of bytes of the driver, which a late reply has waited for."""
        if data:
            self._release()
            data = self._channel.heard(data)
            self._request += data
        self._flush()
        return data

    def send_ended(self) -> None:
        """A send of the driver is over, so that what it has sent is a request."""
        if self._request:
            self._last_request = bytes(self._request)
            self._channel.met(self._last_request)
            self._request.clear()

    def _release(self) -> None:
        self._unsent += self._held
        self._held = b""
        self._flush()

    def _flush(self) -> None:
        self._unsent = self._unsent[self._send(self._unsent) :] if self._unsent else b""
