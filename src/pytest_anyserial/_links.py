"""Links and their facts, and which of them has what a test needs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Final, Protocol

import anyio

from anyserial import (
    Capability,
    Parity,
    SerialCapabilities,
    SerialConfig,
    SerialError,
    UnsupportedPolicy,
    open_serial_port,
)
from anyserial.config import ByteSize, StopBits
from anyserial.testing import MockBackend, pty_pair

from ._marker import CAPABILITIES, WIRES, Needs

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED


class Wiring(Protocol):
    """What is known about a link before it is used."""

    @property
    def name(self) -> str:
        """What options and test ids call it."""
        ...

    @property
    def kind(self) -> str:
        """How it is wired: `"null-modem"`."""
        ...

    @property
    def wires(self) -> tuple[str, ...]:
        """The lines that are joined."""
        ...

    def capabilities(self) -> tuple[SerialCapabilities, SerialCapabilities]:
        """Of both ends, probed once.

        Raises:
            SerialError: The link cannot be opened.
        """
        ...

    def fact(self, name: str) -> tuple[Capability, str]:
        """Whether it has something that is no capability of one device, and why."""
        ...

    def refuses(self, config: SerialConfig) -> str | None:
        """What of `config` the link cannot do, as `"need: why"`."""
        ...


class MockWiring:
    """Two ports in memory."""

    name = "mock"
    kind = "null-modem"
    wires = WIRES

    _FACTS: Final = {
        "line_errors": (_S, ""),
        "framing": (_N, "bytes pass whole, whatever the parity and size"),
        "path": (_N, "its paths open in this process only"),
        "unplug": (_S, ""),
        "pacing": (_S, ""),
        "control_lines": (_S, ""),
    }

    @functools.cache  # noqa: B019  one instance for the process
    def capabilities(self) -> tuple[SerialCapabilities, SerialCapabilities]:
        port, peer = MockBackend.pair()
        port.close()
        peer.close()
        return port.capabilities, peer.capabilities

    def fact(self, name: str) -> tuple[Capability, str]:
        return self._FACTS[name]

    def refuses(self, config: SerialConfig) -> str | None:
        del config
        return None


class PtyWiring:
    """Two joined pseudo terminals."""

    name = "pty"
    kind = "null-modem"
    wires = ("tx-rx",)

    _FACTS: Final = {
        "line_errors": (_N, "a pseudo terminal counts none"),
        "framing": (_N, "a pseudo terminal has no parity and no 5 to 7 bits"),
        "path": (_S, ""),
        "unplug": (_S, ""),
        "pacing": (_N, "bytes pass at once"),
        "control_lines": (_N, "a pseudo terminal has no RTS and DTR"),
    }

    @functools.cache  # noqa: B019  one instance for the process
    def capabilities(self) -> tuple[SerialCapabilities, SerialCapabilities]:
        with pty_pair() as pair:
            return _probe(pair.path_a), _probe(pair.path_b)

    def fact(self, name: str) -> tuple[Capability, str]:
        return self._FACTS[name]

    def refuses(self, config: SerialConfig) -> str | None:
        if config.parity is not Parity.NONE:
            return f"parity {config.parity}: a pseudo terminal has none"
        if config.byte_size is not ByteSize.EIGHT:
            return f"{config.byte_size} data bits: a pseudo terminal has 8"
        if config.unsupported_policy is UnsupportedPolicy.RAISE:
            for need in _features(config):
                if any(getattr(end, need) is _N for end in self.capabilities()):
                    return f"{need}: a pseudo terminal does not have it"
        return None


WIRINGS: Final[dict[str, Wiring]] = {wiring.name: wiring for wiring in (MockWiring(), PtyWiring())}


def match(needs: Needs, selected: tuple[str, ...], *, mock_only: bool = False) -> tuple[list[Wiring], str]:
    """The selected links that have what a test needs; when there is none, also the reason, for people.

    A `mock_only` test runs on the mock, selected or not.
    """
    if mock_only:
        problem = lacks(WIRINGS["mock"], needs)
        note = "serial_faults and serial_clock exist on the mock only"
        return ([WIRINGS["mock"]], "") if problem is None else ([], f"{problem}; {note}")
    complaints: list[str] = []
    matching: list[Wiring] = []
    for name in selected:
        problem = lacks(WIRINGS[name], needs)
        if problem is None:
            matching.append(WIRINGS[name])
        else:
            complaints.append(problem)
    if matching:
        return matching, ""
    others = [name for name in WIRINGS if name not in selected and lacks(WIRINGS[name], needs) is None]
    hint = f" (--serial-links={','.join((*selected, *others))} would run it)" if others else ""
    return [], "; ".join(complaints) + hint


def lacks(wiring: Wiring, needs: Needs) -> str | None:
    """The first need that a link does not meet, as `needs WHAT: link "NAME" ...`; None when it meets all.

    No rate is too high for a link where bytes pass at once.
    """
    here = f'link "{wiring.name}"'
    if needs.links and wiring.name not in needs.links:
        return f"needs link {' or '.join(needs.links)}: selected is {wiring.name}"
    if needs.device is not None:
        return f"needs device {needs.device}: {here} has no device behind it"
    if needs.link not in (None, wiring.kind):
        return f"needs link {needs.link}: {here} is wired as {wiring.kind}"
    for wire in needs.wires:
        if wire not in wiring.wires:
            return f"needs wire {wire}: {here} has {', '.join(wiring.wires)}"
    for need in needs.requires:
        for value, why in _facts(wiring, need):
            if value is not _S:
                return f"needs {need}: {here} {value.name}{why and f': {why}'}"
    refusal = None if needs.config is None else wiring.refuses(needs.config)
    return None if refusal is None else f"needs {refusal} ({here})"


def _facts(wiring: Wiring, need: str) -> Iterator[tuple[Capability, str]]:
    if need not in CAPABILITIES:
        yield wiring.fact(need)
        return
    try:
        ends = wiring.capabilities()
    except SerialError as exc:
        yield Capability.UNKNOWN, f"it cannot be opened: {exc}"
        return
    for end in ends:
        value: Capability = getattr(end, need)
        yield value, "only the operation itself would tell" if value is Capability.UNKNOWN else ""


def _features(config: SerialConfig) -> Iterator[str]:
    """The optional features that a config asks for."""
    asked = {
        "rs485": config.rs485 is not None and config.rs485.enabled,
        "low_latency": config.low_latency,
        "dtr_dsr": config.flow_control.dtr_dsr,
        "one_point_five_stop_bits": config.stop_bits is StopBits.ONE_POINT_FIVE,
    }
    return (name for name, wanted in asked.items() if wanted)


def _probe(path: str) -> SerialCapabilities:
    """Open `path` on a loop of its own: the main thread may have one that must not be disturbed."""
    found: list[SerialCapabilities] = []
    failed: list[SerialError] = []

    async def look() -> None:
        async with await open_serial_port(path) as port:
            found.append(port.capabilities)

    def work() -> None:
        try:
            anyio.run(look)
        except SerialError as exc:
            failed.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
