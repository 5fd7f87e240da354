"""The keys of a bench file: one table, from which both the validation and the JSON schema come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from anyserial import Parity, UnsupportedPolicy

from .._facts import FACTS, KINDS, WIRES
from .._text import count
from .shapes import Array, Choice, Flag, Integer, Named, Rule, Seconds, Shape, Table, Text, UsbId, shown

#: The values of `schema` that this version reads.
SCHEMAS: Final = (1,)

#: The maximum number of ends of a bus, because reports name each end with one letter.
_MOST_ENDS: Final = 26
#: The minimum and maximum number of ends of each kind of link.
ENDS: Final = {"null-modem": (2, 2), "loopback": (1, 1), "rs485": (2, _MOST_ENDS), "device": (1, 1)}

_SWITCH: Final = ("off", "on")
_USB_KEYS: Final = ("vid", "pid", "serial_number", "interface", "location")
#: Keys that name a device on their own, with the keys that may be given together with them.
_WAYS: Final[Mapping[str, tuple[str, ...]]] = {"path": (), "url": (), "place": ("resource",), "tags": ("resource",)}
#: A scheme, of the library or the project, and the rest. The library checks the address when it opens the port.
ADDRESS: Final = r"[A-Za-z][A-Za-z0-9+.-]*://[^\x00-\x20\x7f]+"
_MAX_U32: Final = 2**32 - 1


def _check_match(match: Mapping[str, object]) -> list[tuple[str, str]]:
    if not match:
        text = f"is empty: name the device with path, url, or {', '.join(_USB_KEYS)}; or with place or tags of labgrid"
        return [("", text)]
    for way in _WAYS:
        others = [key for key in (*_WAYS, *_USB_KEYS) if key in match and key != way]
        if way in match and others:
            what = "path or by what it is, not by both" if way == "path" else f"{way} alone"
            return [(way, f"excludes {', '.join(others)}: name the device by its {what}")]
    if "resource" in match and not any("resource" in _WAYS[way] for way in _WAYS if way in match):
        return [("resource", "is for a place of labgrid: it stands beside place or tags")]
    return []


def _way_schema(way: str) -> dict[str, Any]:
    return {"if": {"required": [way]}, "then": {"propertyNames": {"enum": [way, *_WAYS[way]]}}}


def _check_ends(link: Mapping[str, object]) -> list[tuple[str, str]]:
    kind, ends = link.get("kind"), link.get("ends")
    if not isinstance(kind, str) or kind not in ENDS or not isinstance(ends, list):
        return []
    number = len(cast("list[object]", ends))
    least, most = ENDS[kind]
    # The Array shape of `ends` checks its own length limits.
    if least <= number <= most or not 1 <= number <= _MOST_ENDS:
        return []
    return [
        ("ends", f"a link of kind {shown(kind)} has {count(least, 'end')}{' or more' * (most > least)}, not {number}")
    ]


def _check_device(link: Mapping[str, object]) -> list[tuple[str, str]]:
    kind = link.get("kind")
    if kind == "device" and "device" not in link:
        return [("device", 'is missing: a link of kind "device" names its device under test')]
    if kind in KINDS and kind != "device" and "device" in link:
        return [("device", f'is for links of kind "device", and this one is {shown(kind)}')]
    return []


def _check_power_of_link(link: Mapping[str, object]) -> list[tuple[str, str]]:
    kind = link.get("kind")
    if kind in KINDS and kind != "device" and "power" in link:
        return [("power", f'is for links of kind "device", and this one is {shown(kind)}: ports name their own')]
    return []


def _check_supply(power: Mapping[str, object]) -> list[tuple[str, str]]:
    if "place" in power:
        return []
    return [(key, "is missing") for key in _SWITCH if key not in power]


def _if_kind(kind: str, then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"required": ["kind"], "properties": {"kind": {"const": kind}}}, "then": then}


def _ends_schema(kind: str) -> dict[str, Any]:
    device: dict[str, Any] = {"required": ["device"]}
    least, most = ENDS[kind]
    ends = {"properties": {"ends": {"minItems": least, "maxItems": most}}}
    return _if_kind(kind, ends | (device if kind == "device" else {"not": device}))


_FLOW_CONTROL = Table(
    "Flow-control methods; none if not given.",
    {
        "xon_xoff": Flag("XON and XOFF bytes."),
        "rts_cts": Flag("RTS and CTS."),
        "dtr_dsr": Flag("DTR and DSR."),
    },
)

_RS485 = Table(
    "RS-485 driver enable by the kernel.",
    {
        "enabled": Flag("Switch it on; default true."),
        "rts_on_send": Flag("Level of RTS while sending; default true."),
        "rts_after_send": Flag("Level of RTS afterwards; default false."),
        "delay_before_send": Seconds("Seconds before each transmission; default 0.", _MAX_U32 // 1000),
        "delay_after_send": Seconds("Seconds after each transmission; default 0.", _MAX_U32 // 1000),
        "rx_during_tx": Flag("Leave the receiver on while sending; default false."),
    },
)

_PARITIES = tuple(Parity) + tuple(letter for parity in Parity for letter in (parity[0], parity[0].upper()))

_OPEN = Table(
    "How tests open the port unless they say otherwise: fields of SerialConfig.",
    {
        "baudrate": Integer("Bits per second; default 115200.", 1, _MAX_U32),
        "byte_size": Choice("Data bits; default 8.", "byte size", (5, 6, 7, 8)),
        "parity": Choice("The parity bit; default none.", "parity", tuple(map(str, _PARITIES))),
        "stop_bits": Choice("Length of the stop condition; default 1.", "stop bits", (1, 1.5, 2)),
        "flow_control": _FLOW_CONTROL,
        "exclusive": Flag("Refuse to share the device with another opener; default false."),
        "hangup_on_close": Flag("Drop DTR and RTS at the last close; default true."),
        "low_latency": Flag("Hand bytes over at once instead of batching them; default false."),
        "read_chunk_size": Integer("Bytes read at once when the queue depth is unknown.", 64, 16_777_216),
        "rs485": _RS485,
        "unsupported_policy": Choice(
            "What to do when an optional feature is missing; default raise.",
            "policy",
            tuple(map(str, UnsupportedPolicy)),
        ),
        "dtr_on_open": Flag("Level of DTR at open; control_lines is the usual place."),
        "rts_on_open": Flag("Level of RTS at open; control_lines is the usual place."),
        "flush_on_open": Flag("Discard both queues at open; default false."),
    },
)

_TAG = Text("Value of a tag.", r"[A-Za-z0-9_.-]+", "a label of letters, digits, _, . and -")

#: The match of a port.
MATCH: Final = Table(
    "The device: a path, an address, properties that only one device has, or a labgrid place.",
    {
        "path": Text("Path of the device; a relative one is relative to this file."),
        "url": Text("Address of a remote port, such as rfc2217://pi:7001.", ADDRESS, "an address: rfc2217://host:port"),
        "vid": UsbId("USB vendor id, such as 0x0403."),
        "pid": UsbId("USB product id, such as 0x6001."),
        "serial_number": Text("The whole serial number of the adapter."),
        "interface": Integer("USB interface number, for adapters with several ports.", 0, 255),
        "location": Text("Where it is plugged in, such as 1-4.2 or 1-4.2:1.0; valid until a hub moves."),
        "place": Text("Name of a labgrid place."),
        "tags": Named("Any labgrid place that has these tags.", _TAG, 1, of="a table of labels"),
        "resource": Text("Name of the serial port in the place, if it has several."),
    },
    rules=(
        Rule(
            _check_match,
            {
                "minProperties": 1,
                "allOf": [_way_schema(way) for way in _WAYS],
                "if": {"required": ["resource"]},
                "then": {"anyOf": [{"required": ["place"]}, {"required": ["tags"]}]},
            },
        ),
    ),
)

_FACT = Choice("A fact that tests can require.", "capability", FACTS)

_PORT = Table(
    "One serial port of the bench.",
    {
        "match": MATCH,
        "open": _OPEN,
        "control_lines": Table(
            "Levels applied at open and before every test: protects boot-strap pins.",
            {"rts": Flag("Level of RTS."), "dtr": Flag("Level of DTR.")},
        ),
        "max_baudrate": Integer("The highest rate that works; default: no limit is known.", 1, _MAX_U32),
        "lacks": Array("Known defects: treated as unsupported, whatever the probe says.", _FACT),
        "has": Array("Features that cannot be detected; messages call them declared.", _FACT),
        "tags": Array(
            "Free labels, which begin with x-.",
            Text("A label.", r"x-[A-Za-z0-9._-]+", 'a label such as "x-isolated"'),
        ),
        "power": Text("Name of the [power.NAME] that switches its supply."),
    },
    required=("match",),
)

_LINK = Table(
    "One wiring; tests ask for wirings, not for ports.",
    {
        "ends": Array(
            "The ports it joins, end A first; one for a loopback plug or a device, two or more for rs485.",
            Text("A port."),
            1,
            _MOST_ENDS,
        ),
        "kind": Choice("How it is wired.", "kind", KINDS),
        "wires": Array("The wires that exist; default tx-rx alone.", Choice("A wire.", "wire", WIRES), 1),
        "max_baudrate": Integer("The highest rate that the cable carries; the ports have theirs.", 1, _MAX_U32),
        "device": Text("The device under test; only tests with device=... of this name use the link."),
        "power": Text("Name of the [power.NAME] that switches the supply of the device under test."),
    },
    required=("ends", "kind"),
    rules=(
        Rule(_check_ends, {"allOf": [_ends_schema(kind) for kind in KINDS]}),
        Rule(_check_device, {}),
        Rule(
            _check_power_of_link,
            {"if": {"properties": {"kind": {"const": "device"}}}, "else": {"not": {"required": ["power"]}}},
        ),
    ),
)

_ARGV = Array(
    "A command and its arguments, run without a shell in the folder of this file.", Text("A word."), 1, distinct=False
)

_POWER = Table(
    "Commands that switch a supply: of the adapters of ports, or of the device under test of a link.",
    {
        "off": _ARGV,
        "on": _ARGV,
        "get": Array(
            "A command that prints whether it is on or off; default: not checked.", Text("A word."), 1, distinct=False
        ),
        "place": Text("The labgrid place that it belongs to, which supplies its commands."),
        "off_time": Seconds("Seconds that a power cycle leaves it off; default 2.", 3600),
        "within": Seconds("Seconds for a device to vanish or to come back; default 15.", 3600),
        "limit": Seconds("Seconds for one command; default 30.", 3600),
    },
    rules=(Rule(_check_supply, {"if": {"not": {"required": ["place"]}}, "then": {"required": [*_SWITCH]}}),),
)

_LABGRID = Table(
    "How to reach labgrid, for ports that are places.",
    {
        "coordinator": Text("host:port; default: LG_COORDINATOR in the environment, else this machine."),
        "client": Text("The program labgrid-client; default: the one on PATH. A path is relative to this file."),
        "wait": Seconds("Seconds to wait for a place that another user has; default 600.", 86_400),
    },
)

_BENCH = Table(
    "The bench as a whole.",
    {
        "name": Text("Its name in headers, reports and messages; default: the name of the file."),
        "lease_timeout": Seconds("Seconds to wait for a device that another test run uses; default 60.", 86_400),
        "lease_dir": Text("Folder of the lease files, the same for all users of the host."),
    },
)

_KEYS: Final[Mapping[str, Shape]] = {
    "schema": Choice("Version of this format.", "schema", SCHEMAS),
    "bench": _BENCH,
    "ports": Named("The serial ports, by name.", _PORT, least=1),
    "links": Named("How they are wired, by name.", _LINK),
    "power": Named("Switchable supplies, by name.", _POWER),
    "labgrid": _LABGRID,
}

#: A whole bench file.
FILE: Final = Table("A bench of serial ports for pytest.", _KEYS, required=("schema", "ports"))


def json_schema() -> dict[str, Any]:
    """The JSON schema of a bench file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "anyserial bench file", **FILE.schema()}
