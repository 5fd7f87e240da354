"""What a protocol view gets and gives, and how the bytes of a transcript are cut for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from .._transcript.gap import MIN_GAP, message_gap

if TYPE_CHECKING:
    from .._transcript.transcript import TranscriptEvent


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SerialBurst:
    """Bytes that a port sent, or received, without a pause.

    A burst ends with 2 ms of silence, with 3.5 characters of silence at slow rates, and where the direction changes.

    Attributes:
        time: Seconds from the start of the test to its first byte.
        until: The same for its last byte.
        direction: Which way it went, as seen from the port.
        data: The bytes.
    """

    time: float
    until: float
    direction: Literal["sent", "received"]
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SerialFrame:
    """What a view has found in bursts: one message of the protocol.

    Attributes:
        time: Seconds from the start of the test to its beginning.
        until: The same for its end.
        direction: Which way it went, as seen from the port.
        text: What it says, in one line.
        problem: Whether something is wrong with it, such as its checksum.
    """

    time: float
    until: float
    direction: Literal["sent", "received"]
    text: str
    problem: bool = False


class SerialView(Protocol):
    """A protocol view: any function that finds the messages of a protocol in bursts."""

    def __call__(self, bursts: Sequence[SerialBurst], /) -> Iterable[SerialFrame]:
        """The messages in the bursts of one port, which come in the order of time.

        Yields nothing if they are not of its protocol.
        """
        ...


def bursts(events: Iterable[TranscriptEvent]) -> Iterator[SerialBurst]:
    """The bytes of one port, cut where it was silent and where the direction changed."""
    gap = MIN_GAP
    open_: list[TranscriptEvent] = []
    for event in events:
        if event.kind in ("opened", "configured"):
            gap = message_gap(event.detail)
        if event.kind not in ("sent", "received"):
            continue
        if open_ and (event.kind != open_[0].kind or event.time - open_[-1].time >= gap):
            yield _burst(open_)
            open_ = []
        open_.append(event)
    if open_:
        yield _burst(open_)


def _burst(events: Sequence[TranscriptEvent]) -> SerialBurst:
    return SerialBurst(
        time=events[0].time,
        until=events[-1].time,
        direction="sent" if events[0].kind == "sent" else "received",
        data=b"".join(event.data for event in events),
    )
