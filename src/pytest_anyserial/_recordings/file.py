"""Load recordings from files, a line at a time. A file that cannot be replayed is refused with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from .._text import count, plain
from .events import FORMAT, check_event, config_from_fields, parse_object

#: The most bytes of one line, far more than any event has.
_MAX_LINE: Final = 2**24
#: Bytes that are read together, up to the end of a line.
_BLOCK: Final = 8192


class RecordingError(Exception):
    """A recording cannot be replayed; the message names it, the reason and the next step."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recording:
    """A file that was read completely and is valid.

    Attributes:
        path: The file.
        shown: The name of the file in messages.
        head: The first line of the file.
    """

    path: Path
    shown: str
    head: dict[str, Any]

    @property
    def age(self) -> timedelta:
        """The time since the recording was made."""
        return datetime.now(UTC) - datetime.fromisoformat(self.head["recorded"])

    def events(self, offset: int = 0, line: int = 0) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield the events in order as `(line, offset, event)`, from an offset on at which a line begins.

        The file is closed between blocks, because a test that fails leaves its replay unfinished.
        """
        while lines := self._lines(offset):
            for text in lines:
                line += 1
                is_head = offset == 0
                offset += len(text)
                if is_head:
                    continue
                found = parse_object(text.decode("utf-8"))
                if found.get("kind") == "end":
                    return
                yield line, offset, check_event(found)

    def _lines(self, offset: int) -> list[bytes]:
        """A block of whole lines from an offset on; none at the end of the file."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.readlines(_BLOCK)


def load(path: Path, shown: str, command: str) -> Recording:
    """Read a whole recording, so that later reads find no error.

    Args:
        path: The file.
        shown: The name of the file in messages.
        command: The command that makes the file.

    Raises:
        RecordingError: The recording cannot be replayed.
    """
    advice = f"Record it again: {command}"
    try:
        with path.open("rb") as file:
            head = _read_head(file, shown, advice)
            number, events = 1, 0
            for text in iter(lambda: file.readline(_MAX_LINE), b""):
                number += 1
                try:
                    found = parse_object(text.decode("utf-8"))
                    if found.get("kind") == "end":
                        _check_end(found, events, file)
                        return Recording(path, shown, head)
                    event = check_event(found)
                except ValueError as exc:
                    raise RecordingError(_damaged_text(f"{shown}:{number}", plain(str(exc), 200), advice)) from exc
                if event["kind"] == "failed" and not is_playable(event):
                    raise RecordingError(
                        f"{event['call']} failed with {event['error']}, which the mock cannot play: {shown}:{number}. "
                        "Such a test needs its device"
                    )
                events += 1
    except FileNotFoundError:
        raise RecordingError(
            f"no recording of this test: {shown} is not there. Make it on the device: {command}"
        ) from None
    except OSError as exc:
        raise RecordingError(f"a recording cannot be read: {shown}: {exc.strerror or exc}") from exc
    raise RecordingError(_damaged_text(shown, f"it ends after {count(events, 'event')}, without a last line", advice))


def _read_head(file: IO[bytes], shown: str, advice: str) -> dict[str, Any]:
    try:
        head = parse_object(file.readline(_MAX_LINE).decode("utf-8"))
    except ValueError as exc:
        raise RecordingError(_damaged_text(f"{shown}:1", plain(str(exc), 200), advice)) from exc
    if head.get("not_kept"):
        events = count(int(head["not_kept"]), "event")
        raise RecordingError(f"{events} were not kept, so this cannot be replayed: {shown} is a transcript. {advice}")
    if "format" not in head:
        raise RecordingError(f"this file is no recording, its first line names no format: {shown}. {advice}")
    if head["format"] != FORMAT:
        raise RecordingError(
            f"a recording of format {head['format']!r}, and this version plays {FORMAT}: {shown}. {advice}"
        )
    try:
        if datetime.fromisoformat(head["recorded"]).tzinfo is None:
            raise ValueError("recorded has no time zone")  # noqa: TRY301  the reader of the head judges all of it
        config_from_fields(head["config"])
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise RecordingError(_damaged_text(f"{shown}:1", plain(f"{type(exc).__name__}: {exc}", 200), advice)) from exc
    return head


def is_playable(event: dict[str, Any]) -> bool:
    """Whether the mock can reproduce the failure of the device."""
    if event["error"] == "SerialDisconnectedError":
        return True
    return event["errno"] is not None and event["call"] not in ("receive", "send")


def _check_end(end: dict[str, Any], events: int, file: IO[bytes]) -> None:
    if end.get("events") != events:
        raise ValueError(f"the last line counts {end.get('events')} events, and there are {events}")
    if file.read(1):
        raise ValueError("something follows the last line")


def _damaged_text(place: str, why: str, advice: str) -> str:
    return f"damaged recording, {place}: {why}. Restore the file, or {advice[:1].lower()}{advice[1:]}"
