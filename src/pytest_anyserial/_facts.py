"""The vocabulary of links: what a test can require, kinds of wiring, and names of wires."""

from __future__ import annotations

import dataclasses

from anyserial import SerialCapabilities, SerialConfig

#: What a device can do, as probed when it is opened.
CAPABILITIES = tuple(
    field.name for field in dataclasses.fields(SerialCapabilities) if field.name not in ("platform", "backend")
)
#: What a test may require: the capabilities, and facts about the link as a whole.
FACTS = (*CAPABILITIES, "line_errors", "framing", "path", "unplug", "pacing", "control_lines")
#: Kinds of wiring.
KINDS = ("null-modem", "loopback", "rs485", "device")
#: Wires, named by the lines they join.
WIRES = ("tx-rx", "rts-cts", "dtr-dsr")

DEFAULT_CONFIG = SerialConfig()
