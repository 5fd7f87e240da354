"""The link `replay`: end A in memory, and at its other end the recording of what a device has said to this test."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from anyserial import Capability, SerialCapabilities, SerialConfig
from anyserial.testing import MockPair, watch_ports

from .._facts import DEFAULT_CONFIG, WIRES
from .._keys import PLAYER
from .._options import REPLAY
from .._recordings import settings
from .._recordings.events import config_from_fields
from .._recordings.file import RecordingError, load
from .._recordings.key import key_of
from .._recordings.player import Player, RealClock
from .._text import plain, plain_lines
from .._transcript.recording import belongs_to_test
from .base import Fact, Wiring, built_in

if TYPE_CHECKING:
    from anyserial.testing import OpenedPort

    from .._test import SerialTest


class ReplayWiring:
    """A recording. It was made on a link that had what the test needs."""

    name = title = REPLAY
    kind = "device"
    wires = WIRES
    declared = ""
    device = None
    bench = None
    has_peer = False
    max_baudrate = None

    def config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        if end:
            raise LookupError("replay has only end A: the far end is the recording")
        return asked or DEFAULT_CONFIG

    def capabilities(self) -> tuple[SerialCapabilities, ...]:
        return built_in("mock").capabilities()[:1]

    def facts(self, name: str) -> Iterable[Fact]:
        del name
        return [Fact(value=Capability.SUPPORTED)]

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        del config
        return None

    @contextmanager
    def connected(self, test: SerialTest, number: int) -> Generator[ReplayCable]:
        item = test.item
        folder = settings.recordings_folder(item.config)
        assert folder is not None
        key = key_of(item)
        path = folder / key.file
        record_command = settings.record_command(item, folder)
        try:
            recording = load(path, plain(settings.shown(path)), record_command)
        except RecordingError as exc:
            raise pytest.fail.Exception(plain_lines(str(exc)), pytrace=False) from None
        pace = settings.pace(item.config)
        with built_in("mock").connected(test, number) as pair:
            assert isinstance(pair, MockPair)
            player = item.stash[PLAYER] = Player(
                recording,
                pair,
                RealClock() if test.clock is None else test.clock.timers,
                paced=pace != "none",
                by_request=test.needs.by_request,
                record_command=settings.record_command(item, folder, str(recording.head.get("link"))),
                on_failure=test.end_from_anywhere,
                channel=None if test.wire is None else test.wire.channel(test),
            )

            def attach(opened: OpenedPort) -> None:
                if belongs_to_test():
                    player.attach(opened)

            player.warn_of_age(settings.max_age(item.config))
            try:
                with watch_ports(attach):
                    yield ReplayCable(pair, config_from_fields(recording.head["config"]))
                if test.passed:
                    player.raise_verdict()
            finally:
                player.end()
            player.warn_of_config()


class ReplayCable:
    """End A of a recording.

    Attributes:
        recorded_config: How the port was opened when the recording was made.
    """

    def __init__(self, pair: MockPair, recorded_config: SerialConfig) -> None:
        self.recorded_config = recorded_config
        self._pair = pair

    @property
    def path_a(self) -> str:
        return self._pair.path_a

    @property
    def path_b(self) -> str:
        """There is none.

        Raises:
            LookupError: Always.
        """
        raise LookupError("replay has only end A: the far end is the recording")

    def unplug(self) -> None:
        self._pair.unplug()

    def replug(self) -> None:
        self._pair.replug()

    def power_cycle(self) -> float:
        """Do nothing: the recording goes on where the device came back."""
        return 0.0


WIRING: Final[Wiring] = ReplayWiring()
