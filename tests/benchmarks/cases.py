"""The cases, as data: what is measured, on whom, with which far end, which figures are shown, which bars are set."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

OURS: Final = "anyserial"
#: In a bar: whoever else on that loop does best.
BEST_PEER: Final = "best peer"
#: The floor on trio that keeps the promises of a call.
WITH_TURNS: Final = "raw with turns"
LOOPS: Final = ("asyncio", "uvloop", "trio")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What our figure should reach: itself, or as a multiple of that of `versus` on the same loop.

    `versus` is a library, or `BEST_PEER`.
    """

    metric: str
    limit: float
    versus: str | None = None
    at_least: bool = False
    loops: tuple[str, ...] = LOOPS

    @property
    def holds(self) -> Callable[[float, float], bool]:
        return operator.ge if self.at_least else operator.le

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g}" + (f" · {self.versus}" if self.versus else "")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement.

    `metrics` maps the figures to their column titles. `quick` replaces some of `settings` in a quick run. `skips` are
    libraries that cannot do it, and `only` those that are asked when not all are. `how` is who measures, `awake` that
    idle processors are kept from sleeping meanwhile. Many short rounds beat few long ones where other processes
    disturb; figures that nothing disturbs need few.
    """

    name: str
    title: str
    measure: str
    metrics: Mapping[str, str]
    far: str = "echo"
    ports: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    skips: tuple[str, ...] = ("anyserial, buffered", WITH_TURNS)
    only: tuple[str, ...] | None = None
    loops: tuple[str, ...] = LOOPS
    bars: tuple[Bar, ...] = ()
    how: str = "timed"
    awake: bool = False
    rounds: int = 15

    def asks(self, library: str, loop: str) -> bool:
        """Whether this contestant takes part."""
        wanted = library not in self.skips if self.only is None else library in self.only
        return wanted and loop in self.loops


MIB: Final = 1024**2
ROUND_TRIP: Final = {"p50": "p50 µs", "p99": "p99 µs", "cpu": "CPU µs"}
RATE: Final = {"rate": "MiB/s", "cpu": "CPU ms per MiB"}
CALLS: Final = {"read": "reads", "write": "writes", "register": "registrations", "wait": "waits", "other": "others"}
# On a busy machine the wall clock tells little; it is shown because CPU time does not see a sleep.
PYTEST: Final = {
    "wall": "wall ms",
    "bare_wall": "without, wall ms",
    "cpu": "CPU ms",
    "bare_cpu": "without, CPU ms",
    "overhead": "overhead, CPU ms",
}
#: Figures that say more as a multiple of the floor's; counts speak for themselves.
COMPARED: Final = frozenset({"p50", "p99", "cpu", "wall", "rate", "percent"})
ANYWHERE: Final = (*LOOPS, "blocking")
# Those that leave unread bytes in the kernel, so that a queue can be prepared.
WITHOUT_READ_AHEAD: Final = ("raw", OURS, "trio-serial")
# A thread that reads cannot be cancelled.
CANCELLABLE: Final = ("raw", OURS, "pyserial-asyncio-fast", "serialx", "trio-serial")


def _round_trip(size: int, *bars: Bar) -> Case:
    return Case(
        name=f"round-trip-{size}",
        title=f"Round trip of {size} byte{'s'[: size > 1]}",
        measure="round_trip",
        metrics=ROUND_TRIP,
        settings={"size": size, "count": 800},
        quick={"count": 200},
        skips=(),
        bars=bars,
    )


def _fan_out(ports: int, *bars: Bar) -> Case:
    return Case(
        name=f"fan-out-{ports}",
        title=f"Exchanges of 64 bytes on {ports} port{'s'[: ports > 1]} at once",
        measure="fan_out",
        metrics={"cpu": "CPU µs", "wall": "wall µs", "threads": "threads"},
        ports=ports,
        settings={"size": 64, "count": 3840},
        quick={"count": 640},
        loops=ANYWHERE,
        skips=("anyserial, buffered",),
        bars=bars,
    )


def _per_test(name: str, title: str, kind: str, *bars: Bar) -> Case:
    return Case(
        name=f"plugin-{name}",
        title=title,
        measure="per_test",
        metrics={**PYTEST, "hand_overhead": "overhead by hand, CPU ms"},
        settings={"count": 360, "kind": kind},
        quick={"count": 30},
        only=(OURS,),
        rounds=5,
        bars=bars,
        how="pytest",
    )


def _counted(name: str, title: str, measure: str) -> Case:
    """Whole processes with and without us, too short for a clock on a busy machine."""
    return Case(
        name=f"instructions-{name}",
        title=f"{title}: machine instructions",
        measure=measure,
        metrics={"ours": "millions", "bare": "without, millions", "more": "more, millions", "percent": "% more"},
        only=(OURS,),
        loops=("pytest",),
        how="counted",
        rounds=1,
    )


def _bulk(direction: str, title: str, far: str, *bars: Bar) -> Case:
    return Case(
        name=f"bulk-{direction}",
        title=title,
        measure=f"bulk_{direction}",
        metrics=RATE,
        far=far,
        settings={"size": 16 * MIB, "times": 5},
        quick={"size": MIB},
        rounds=9,
        bars=(Bar(metric="rate", versus="raw", limit=0.95, at_least=True), *bars),
    )


def _recorded(what: str, title: str, **changes: Any) -> Case:
    settings: dict[str, Any] = {"size": 4 * MIB, "times": 16}
    case = Case(
        name=f"recorded-{what}",
        title=f"{title}, recorded",
        measure=f"recorded_{what}",
        metrics={
            "cpu": "not recorded, CPU ms per MiB",
            "recorded": "recorded",
            "percent": "% more",
            "by_hand": "written by hand",
            "percent_by_hand": "% more",
        },
        settings=settings,
        quick={"times": 2},
        rounds=5,
        only=(OURS,),
        loops=ANYWHERE,
        bars=(Bar(metric="percent", limit=5, loops=ANYWHERE),),
    )
    return replace(case, **changes)


def _open(name: str, title: str, limit: float) -> Case:
    return Case(
        name=f"{name}-open",
        title=f"Opening a port of {title}",
        measure="open",
        metrics=ROUND_TRIP,
        far=name,
        settings={"count": 20},
        quick={"count": 3},
        rounds=5,
        only=(OURS, "serialx"),
        bars=(Bar(metric="p50", limit=limit),),
    )


def _asleep_and_awake(case: Case) -> tuple[Case, Case]:
    """As the machine is, and where no time passes until a processor has woken up."""
    title = f"{case.title}, no processor asleep"
    return case, replace(case, name=f"{case.name}-awake", title=title, awake=True, rounds=9)


CASES: Final = [
    *_asleep_and_awake(
        _round_trip(1, Bar(metric="p50", versus="raw", limit=1.15), Bar(metric="p50", versus=BEST_PEER, limit=1.0))
    ),
    _round_trip(64),
    *_asleep_and_awake(
        Case(
            name="blocking",
            title="Round trip of 1 byte without a loop",
            measure="round_trip",
            metrics=ROUND_TRIP,
            settings={"size": 1, "count": 2000},
            quick={"count": 200},
            loops=("blocking",),
            bars=tuple(
                Bar(metric=metric, versus=versus, limit=limit, loops=("blocking",))
                for metric in ("p50", "cpu")
                for versus, limit in (("raw", 1.1), ("pyserial", 1.0))
            ),
        )
    ),
    _fan_out(1),
    _fan_out(4),
    _fan_out(16),
    _fan_out(
        64,
        Bar(metric="cpu", versus="raw", limit=0.45, loops=("asyncio",)),
        Bar(metric="cpu", versus="raw", limit=0.47, loops=("uvloop",)),
        Bar(metric="cpu", versus="raw", limit=0.80, loops=("trio",)),
        Bar(metric="cpu", versus=BEST_PEER, limit=1.0),
    ),
    _fan_out(128),
    replace(
        _fan_out(1024),
        settings={"size": 64, "count": 20_480},
        quick={"count": 1024},
        loops=LOOPS,
        # A thread each.
        skips=("anyserial, buffered", "aioserial"),
        rounds=5,
    ),
    *_asleep_and_awake(
        _bulk("read", "Receiving 16 MiB", "source", Bar(metric="rate", versus=BEST_PEER, limit=1.0, at_least=True))
    ),
    *_asleep_and_awake(_bulk("write", "Sending 16 MiB", "sink")),
    _recorded("read", "Receiving 4 MiB", far="source"),
    _recorded("write", "Sending 4 MiB", far="sink"),
    _recorded("exchange", "Exchanges of 64 bytes", settings={"size": 64, "count": 400, "times": 16}),
    Case(
        name="queued",
        title="Receiving 16 bytes that are there",
        measure="queued",
        metrics={"cpu": "CPU µs"},
        far="source",
        settings={"size": 16, "count": 200, "batches": 20},
        quick={"batches": 2},
        only=WITHOUT_READ_AHEAD,
    ),
    Case(
        name="steady",
        title="A line busy at 115200 baud",
        measure="steady",
        metrics={"percent": "% of a core"},
        far="steady",
        settings={"size": 115},
        rounds=5,
        only=("raw", OURS),
        bars=(Bar(metric="percent", limit=2),),
    ),
    Case(
        name="cancel",
        title="How late a deadline ends a receive, and a sleep",
        measure="cancel",
        metrics={
            "p50": "p50 µs",
            "p99": "p99 µs",
            "sleep_p50": "sleep p50 µs",
            "sleep_p99": "sleep p99 µs",
            "ratio": "p99 ÷ sleep p99",
        },
        settings={"delay": 0.001, "count": 500},
        quick={"count": 20},
        only=CANCELLABLE,
        bars=(Bar(metric="ratio", limit=1.2), Bar(metric="p50", limit=1000)),
    ),
    Case(
        name="open-close",
        title="Opening and closing",
        measure="open_close",
        metrics=ROUND_TRIP,
        settings={"count": 30},
        quick={"count": 5},
        bars=(Bar(metric="cpu", versus=BEST_PEER, limit=1.0),),
    ),
    Case(
        name="remote-round-trip",
        title="Round trip of 1 byte through ser2net",
        measure="round_trip",
        metrics=ROUND_TRIP,
        far="remote",
        settings={"size": 1, "count": 800},
        quick={"count": 100},
        only=("raw", OURS, "pyserial", "serialx"),
        loops=ANYWHERE,
        bars=(Bar(metric="p50", versus="raw", limit=1.3, loops=ANYWHERE),),
    ),
    _open("remote", "ser2net with nodelay and without chardelay", 15_000),
    _open("remote-default", "ser2net as it is without options", 50_000),
    Case(
        name="idle",
        title="Sixteen ports with nothing to do",
        measure="idle",
        metrics={"wakeups": "wake-ups per second"},
        ports=16,
        settings={"seconds": 1.0},
        quick={"seconds": 0.2},
        rounds=5,
        only=CANCELLABLE,
        bars=(Bar(metric="wakeups", limit=0),),
    ),
    Case(
        name="memory",
        title="What each of 300 open ports takes while a task waits for its bytes",
        measure="memory",
        metrics={"kib": "KiB", "descriptors": "descriptors", "threads": "threads"},
        ports=300,
        # A process that has done it once has the memory already.
        rounds=1,
        # A thread each.
        skips=("anyserial, buffered", "aioserial"),
        bars=(
            Bar(metric="kib", limit=5),
            Bar(metric="kib", versus=BEST_PEER, limit=1),
            Bar(metric="descriptors", limit=1),
            Bar(metric="threads", limit=0.01),
        ),
    ),
    Case(
        name="allocations",
        title="KiB that 200 receives of 16 bytes allocate",
        measure="allocations",
        metrics={
            "receive_net": "receive, kept",
            "receive_peak": "at most",
            "into_net": "receive_into, kept",
            "into_peak": "at most",
            "available_net": "receive_available, kept",
            "available_peak": "at most",
        },
        far="source",
        settings={"size": 16, "count": 200},
        rounds=5,
        only=WITHOUT_READ_AHEAD,
        bars=(
            Bar(metric="receive_net", limit=256),
            Bar(metric="into_net", limit=16),
            Bar(metric="available_net", limit=64),
        ),
    ),
    Case(
        name="calls-queued",
        title="System calls per receive with data queued",
        measure="traced_queued",
        metrics=CALLS,
        far="source",
        settings={"size": 16, "count": 100},
        only=WITHOUT_READ_AHEAD,
        bars=(Bar(metric="read", limit=1), Bar(metric="register", limit=0)),
        how="traced",
        rounds=1,
    ),
    Case(
        name="calls-exchange",
        title="System calls per exchange of 64 bytes, with an answer that takes its time",
        measure="traced_exchanges",
        metrics=CALLS,
        far="late",
        settings={"size": 64, "count": 100},
        how="traced",
        rounds=1,
    ),
    _per_test(
        "test",
        "A test with `serial_port`, and one with a socket pair of its own",
        "port",
        Bar(metric="overhead", limit=0.35),
    ),
    _per_test(
        "script",
        "A test with a scripted far end, and one over two memory streams",
        "script",
        Bar(metric="overhead", limit=1),
    ),
    replace(
        _per_test(
            "hardware",
            "A test on a bench of two ptys, and one that opens two ptys and waits for 20 ms of silence",
            "hardware",
            Bar(metric="wall", limit=30),
        ),
        metrics=PYTEST,
        settings={"count": 120, "kind": "hardware"},
    ),
    Case(
        name="plugin-collect",
        title="Collecting 10,000 serial tests, and as many plain ones",
        measure="collection",
        metrics={**PYTEST, "ratio": "CPU, ratio"},
        settings={"count": 10_000},
        quick={"count": 600},
        rounds=3,
        only=(OURS,),
        loops=("pytest",),
        bars=(Bar(metric="ratio", limit=1.3, loops=("pytest",)),),
        how="pytest",
    ),
    _counted("start", "Running pytest on one test, with the plugin installed and not used, and without", "startup"),
    _counted("import", "Importing AnyIO for asyncio with `anyserial`, and without", "import"),
]
