"""Which adapters there are and how they are wired, from the text after `--adapters`; and the bench file of that."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from .adapter import MakesChip
from .cdc_acm import CdcAcm
from .cp210x import Cp210x
from .ftdi import Ftdi
from .xr import Xr

CHIPS: Final[dict[str, MakesChip]] = {"ftdi": Ftdi, "cp210x": Cp210x, "acm": CdcAcm, "xr": Xr}
#: A 16550 of the virtual machine, which loops inside.
UART: Final = "uart"
#: The two PL011s of an ARM board, and the cable that joins them.
PL011S: Final = "pl011:pl011"
_PL011: Final = "pl011"
DEFAULT: Final = "ftdi:ftdi,cp210x:cp210x,acm:acm,xr:xr,uart,uart"

# What Python under an emulated processor moves through one adapter: 36 to 63 kB/s (measured).
_FASTEST: Final = 230_400
# What the cable between two PL011s carries.
_FASTEST_PL011: Final = 115_200
# A 16550 divides 115200; the kernel answers a higher rate with 9600.
_FASTEST_16550: Final = 115_200
# Facts that a port declares. Only ftdi_sio has a latency timer, and only xr_serial RS-485. cp210x counts errors only
# where INPCK is set, and anyserial leaves it off. CDC has no XON/XOFF, and its driver sends on whatever the far end
# says. QEMU's 16550 sends without taking time, and what loops inside of it is bytes and lines, but no break. Its PL011
# passes nothing but bytes.
_LACKS: Final = {
    "ftdi": ("rs485",),
    "cp210x": ("line_errors", "low_latency", "rs485"),
    "acm": ("xon_xoff", "low_latency", "rs485"),
    "xr": ("low_latency",),
    "uart": ("pacing", "break_signal"),
    "pl011": ("pacing", "framing", "break_signal", "low_latency"),
}
# What a driver has, and no question to it tells.
_HAS: Final = {"xr": ("rs485",), "pl011": ("rs485",)}
# Wires that the host can see: CDC has no CTS.
_WIRES: Final = ("tx-rx", "rts-cts", "dtr-dsr")


@dataclasses.dataclass(frozen=True, slots=True)
class Wiring:
    """Adapters that are joined: two by a null-modem cable, or one with a loopback plug.

    Attributes:
        name: Of the link.
        chips: Keys of `CHIPS`, one per end.
    """

    name: str
    chips: tuple[str, ...]

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the ends, which are also the serial numbers."""
        return (self.name,) if len(self.chips) == 1 else (f"{self.name}-a", f"{self.name}-b")

    @property
    def wires(self) -> tuple[str, ...]:
        """What both ends have."""
        return tuple(wire for wire in _WIRES if wire != "rts-cts" or "acm" not in self.chips)


def wirings(text: str) -> list[Wiring]:
    """What `"ftdi:ftdi,cp210x"` asks for: a pair of FTDI adapters, and a CP210x with a loopback plug.

    Raises:
        ValueError: A chip is not known, or not to be had in such a way.
    """
    found: list[Wiring] = []
    seen: Counter[str] = Counter()
    if has_pl011s(text) and uart_count(text):
        raise ValueError(f"--adapters: no machine has both {PL011S} and {UART}; run one after the other")
    for part in filter(None, text.split(",")):
        if part in (UART, PL011S):
            continue
        chips = tuple(part.split(":"))
        for chip in chips:
            if chip == _PL011:
                raise ValueError(f"--adapters: {part!r}: a board has two {_PL011}s, which are joined; write {PL011S}")
            if chip == UART:
                raise ValueError(f"--adapters: {part!r}: a {UART} loops inside and takes no cable; write {UART} alone")
            if chip not in CHIPS:
                raise ValueError(
                    f"--adapters: {chip!r} is no adapter; there are {', '.join(CHIPS)}, {_PL011} and {UART}"
                )
        if len(chips) > 2:
            raise ValueError(f"--adapters: {part!r} joins {len(chips)} adapters; a cable has two ends")
        name = "-".join(dict.fromkeys(chips)) + ("-loop" if len(chips) == 1 else "")
        seen[name] += 1
        found.append(Wiring(name if seen[name] == 1 else f"{name}{seen[name]}", chips))
    return found


def uart_count(text: str) -> int:
    """How many 16550s `text` asks for."""
    return text.split(",").count(UART)


def has_pl011s(text: str) -> bool:
    """Whether `text` asks for the board that has them."""
    return PL011S in text.split(",")


def uarts(folder: Path = Path("/sys/class/tty")) -> list[str]:
    """Paths of this machine's PCI 16550s; these are the bench's, the others are not."""
    found = [
        tty
        for tty in folder.glob("ttyS*")
        if (tty / "type").exists() and (tty / "type").read_text().strip() != "0" and "/pci" in str(tty.resolve())
    ]
    return [f"/dev/{tty.name}" for tty in sorted(found, key=lambda tty: int(re.sub(r"\D", "", tty.name)))]


def bench_file(
    plan: Sequence[Wiring],
    loopbacks: Iterable[str],
    control: Sequence[str],
    *,
    pl011s: Sequence[str] = (),
    unplug: str = "unplug",
) -> str:
    """The text of `hil.toml`.

    Args:
        plan: The adapters.
        loopbacks: Paths of 16550s that loop inside.
        control: The command that plugs in with `replug NAME` behind it, and takes what is said next.
        pl011s: Paths of the two that are joined.
        unplug: How power goes off: `"unplug"`, or `"cut"` for adapters that vanish without a word.
    """
    ports: list[str] = []
    links: list[str] = []
    power: list[str] = []
    for wiring in plan:
        for port, chip in zip(wiring.ports, wiring.chips, strict=True):
            ports.append(_port(port, "serial_number", port, _FASTEST, chip) + f"power = {json.dumps(port)}\n")
            power.append(
                f"[power.{port}]\n"
                f"off = {json.dumps([*control, unplug, port])}\n"
                f"on = {json.dumps([*control, 'replug', port])}\n"
            )
        kind = "null-modem" if len(wiring.chips) == 2 else "loopback"
        links.append(_link(wiring.name, wiring.ports, kind, wiring.wires, _FASTEST))
    for number, path in enumerate(loopbacks):
        ports.append(_port(f"uart{number}", "path", path, _FASTEST_16550, "uart"))
        links.append(_link(f"uart{number}", (f"uart{number}",), "loopback", _WIRES, _FASTEST_16550))
    ends = [f"{_PL011}-{end}" for end in "ab"[: len(pl011s)]]
    for name, path in zip(ends, pl011s, strict=True):
        ports.append(_port(name, "path", path, _FASTEST_PL011, _PL011))
    if ends:
        links.append(_link(_PL011, ends, "null-modem", ("tx-rx",), _FASTEST_PL011))
    return "\n".join(["schema = 1\n", '[bench]\nname = "virtual"\n', *ports, *links, *power])


# Strings, and lists of strings, are written alike in JSON and TOML.


def _port(name: str, key: str, value: str, fastest: int, chip: str) -> str:
    return (
        f'[ports.{name}]\nmatch = {{ {key} = {json.dumps(value)} }}\nmax_baudrate = {fastest:_}\ntags = ["x-virtual"]\n'
        f"lacks = {json.dumps(_LACKS.get(chip, ()))}\nhas = {json.dumps(_HAS.get(chip, ()))}\n"
    )


def _link(name: str, ends: Sequence[str], kind: str, wires: Sequence[str], fastest: int) -> str:
    return (
        f"[links.{name}]\n"
        f"ends = {json.dumps(ends)}\n"
        f"kind = {json.dumps(kind)}\n"
        f"wires = {json.dumps(wires)}\n"
        f"max_baudrate = {fastest:_}\n"
    )
