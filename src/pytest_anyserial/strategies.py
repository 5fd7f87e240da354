"""Hypothesis strategies for serial lines: what goes wrong, how bytes are cut, how a line is set.

They make values, which shrink to the one fault that matters and print as code that can be pasted into a test. This
module needs Hypothesis, and nothing else of the plugin imports it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from . import _library

_library.require()

from anyserial import SerialConfig
from anyserial.testing import FaultAction, FaultEvent, FaultPlan

__all__ = ["ANY", "HARMLESS", "chunkings", "fault_plans", "serial_configs"]

_A = FaultAction

#: What a driver should not even notice: bytes come in other pieces, or later, and none is lost.
HARMLESS: Final = (_A.SHORT_READ, _A.SHORT_WRITE, _A.EAGAIN, _A.EINTR, _A.DELAY)
#: Everything, from harmless to hopeless.
ANY: Final = (
    *HARMLESS,
    *(_A.PARITY, _A.FRAMING, _A.OVERRUN, _A.BREAK),
    *(_A.CORRUPT, _A.DROP, _A.DUPLICATE),
    *(_A.EIO, _A.EOF, _A.DISCONNECT),
)

_RATES: Final = (115_200, 9600, 19_200, 38_400, 57_600, 300, 921_600)
_ONE_WAY: Final = {_A.SHORT_READ: "read", _A.EOF: "read", _A.SHORT_WRITE: "write"}
_COUNTED: Final = frozenset(ANY) - {_A.DELAY, _A.DISCONNECT}


def fault_plans(
    *,
    actions: Collection[FaultAction] = ANY,
    max_faults: int = 3,
    max_byte: int = 32,
    seconds: Sequence[float] = (0.01, 0.05),
) -> st.SearchStrategy[FaultPlan]:
    """Plans for `serial_factory(faults=...)`. No fault has to happen, and a plan shrinks to those that matter.

    Args:
        actions: What may go wrong, the most harmless first. An unplugged device may be replugged.
        max_faults: How many moments a plan has at most.
        max_byte: Faults come up to this byte of their direction, or this attempt.
        seconds: How long delays and unplugs may last.
    """
    return _plans(st.lists(_faults(tuple(actions), max_byte, seconds), max_size=max_faults))


# Composite strategies print what they give; `map` would print how it was made.
@st.composite
def _plans(draw: st.DrawFn, moments: st.SearchStrategy[list[list[FaultEvent]]]) -> FaultPlan:
    return FaultPlan(schedule=itertools.chain.from_iterable(draw(moments)))


@st.composite
def _faults(
    draw: st.DrawFn, actions: Sequence[FaultAction], max_byte: int, seconds: Sequence[float]
) -> list[FaultEvent]:
    """Fault events of one moment."""
    action = draw(st.sampled_from(actions))
    fields: dict[str, Any] = {"optional": True}
    fields["direction"] = _ONE_WAY.get(action) or draw(st.sampled_from(["read", "write"]))
    if draw(st.booleans()):
        fields["on_op"] = draw(st.integers(1, max_byte))
    else:
        fields["at_byte"] = draw(st.integers(0, max_byte))
    details: dict[str, Any] = {}
    if action in _COUNTED:
        details["count"] = draw(st.integers(1, 3))
    if action is _A.CORRUPT:
        details["mask"] = draw(st.sampled_from([1 << bit for bit in range(8)]))
    if action is _A.DELAY:
        details["seconds"] = draw(st.sampled_from(seconds))
    events = [FaultEvent(action=action, **fields, **details)]
    if action is _A.DISCONNECT and draw(st.booleans()):
        events.append(FaultEvent(action=_A.REPLUG, **fields, seconds=draw(st.sampled_from(seconds))))
    return events


@st.composite
def chunkings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` cut into pieces, none of them empty; shrinks to a single one."""
    cuts = draw(st.sets(st.integers(1, len(data) - 1))) if len(data) > 1 else ()
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)] if data else []


def serial_configs(**fields: Any) -> st.SearchStrategy[SerialConfig]:
    """Rates, sizes, parities and stop bits that a UART has; shrinks to 115200 8N1.

    Args:
        fields: Fields of `SerialConfig`, each as a value or a strategy.

    Raises:
        TypeError: `SerialConfig` has no such field.
    """
    usual: dict[str, Any] = {
        "baudrate": st.sampled_from(_RATES),
        "byte_size": st.sampled_from([8, 7, 6, 5]),
        "parity": st.sampled_from(["none", "even", "odd"]),
        "stop_bits": st.sampled_from([1, 2]),
    }
    given: dict[str, Any] = {
        name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in fields.items()
    }
    return st.builds(SerialConfig, **(usual | given))
