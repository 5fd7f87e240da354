"""The vocabulary of links: what a test can require, kinds of wiring, names of wires, and the needs of one test."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from anyserial import SerialCapabilities, SerialConfig

#: What a device can do, as probed when it is opened.
CAPABILITIES = tuple(
    field.name for field in dataclasses.fields(SerialCapabilities) if field.name not in ("platform", "backend")
)
#: What a test may require: the capabilities, and facts about the link as a whole.
FACTS = (*CAPABILITIES, "line_errors", "framing", "path", "unplug", "power", "pacing", "control_lines")
#: Kinds of wiring.
KINDS = ("null-modem", "loopback", "rs485", "device")
#: Wires, named by the lines they join.
WIRES = ("tx-rx", "rts-cts", "dtr-dsr")

DEFAULT_CONFIG = SerialConfig()


class Needs(NamedTuple):
    """What a test needs from its link, by the keywords of the marker; an empty value asks for nothing."""

    requires: tuple[str, ...] = ()
    link: str | None = None
    wires: tuple[str, ...] = ()
    min_baudrate: int | None = None
    device: str | None = None
    links: tuple[str, ...] = ()
    config: SerialConfig | None = None
    script_strict: bool = True
    allow_leaks: bool = False
    allow_disconnects: bool = False
    by_request: bool = False
    #: Whether the test uses end B; its fixtures say so, not the marker.
    peer: bool = False
    #: Whether it uses a bus; so do they.
    bus: bool = False
