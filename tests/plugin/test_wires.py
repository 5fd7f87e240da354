"""What the doctor finds out about a link by sending bytes and moving lines."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyserial.testing import FaultEvent, FaultPlan
from pytest_anyserial._doctor.finding import Finding, Verdict
from pytest_anyserial._doctor.wiring import (
    Edge,
    carry,
    check_break,
    check_bytes,
    check_rates,
    check_round_trip,
    judge_lines,
    trace_lines,
)

from .cables import CROSSED, QUICK, cable, loopback, lost

pytestmark = [pytest.mark.anyio, pytest.mark.posix("written for Linux; see test_windows_plugin.py")]

WIRES = ("tx-rx", "rts-cts", "dtr-dsr")


def texts(findings: list[Finding], verdict: Verdict) -> list[str]:
    return [finding.text for finding in findings if finding.verdict is verdict]


async def test_a_good_cable_passes() -> None:
    """H-21: both ways, every byte value, lines, break, rates and round trip."""
    async with cable() as made:
        findings = await check_bytes(made.ends, timing=QUICK)
        findings += judge_lines(await trace_lines(made.ends, timing=QUICK), ["a", "b"], WIRES)
        findings += await check_break(made.ends, timing=QUICK)
        findings += await check_rates(made.ends, 1_000_000, timing=QUICK)
        assert texts(findings, Verdict.OK) == [
            "TX of a reaches RX of b: every byte value",
            "TX of b reaches RX of a: every byte value",
            "RTS of a reaches CTS of b",
            "RTS of b reaches CTS of a",
            "DTR of a reaches DSR and CD of b",
            "DTR of b reaches DSR and CD of a",
            "a break of a reaches b",
            "a break of b reaches a",
            "9600 to 1000000 baud without errors",
        ]
        assert len(findings) == 9
        (round_trip,) = await check_round_trip(made.ends, timing=QUICK)
        assert round_trip.check == "round trip"
        assert "at 115200 baud" in round_trip.text


async def test_a_loopback_plug_passes() -> None:
    """H-21: one port is both ends."""
    async with loopback() as ends:
        findings = await check_bytes(ends, timing=QUICK)
        findings += judge_lines(await trace_lines(ends, timing=QUICK), ["a"], WIRES)
        findings += await check_rates(ends, None, timing=QUICK)
        assert texts(findings, Verdict.OK) == [
            "TX of a reaches RX of a: every byte value",
            "RTS of a reaches CTS of a",
            "DTR of a reaches DSR and CD of a",
            "9600 to 115200 baud without errors (no max_baudrate is declared)",
        ]


async def test_an_open_data_wire_is_named() -> None:
    """H-21: one direction is open, the other is well."""
    async with cable() as made:
        made.a.faults = lost()
        first, second = await check_bytes(made.ends, timing=QUICK)
        assert (first.verdict, second.verdict) == (Verdict.PROBLEM, Verdict.OK)
        assert first.text == "TX of a does not reach RX of b"
        assert "check that wire" in first.advice


async def test_a_loopback_plug_instead_of_a_cable_is_named() -> None:
    """H-21: what is sent comes back."""
    async with loopback() as (a,), cable() as made:
        first, _ = await check_bytes([a, made.ends[1]], timing=QUICK)
        assert first.text == "TX of a does not reach RX of b; it comes back to RX of a: looks like a loopback plug"


@pytest.mark.parametrize(
    ("plan", "text", "advice"),
    [
        (lost(at=3, count=1), "only 255 of 256 bytes arrive", "another program"),
        (
            FaultPlan(schedule=[FaultEvent(action="drop", direction="write", at_byte=at) for at in (0x11, 0x13)]),
            "only 254 of 256 bytes arrive",
            "XON/XOFF",
        ),
        (
            FaultPlan(schedule=[FaultEvent(action="corrupt", direction="write", at_byte=0x80, count=0x80, mask=0x80)]),
            "0x80 arrives as 0x00",
            "7 data bits",
        ),
        (
            FaultPlan(schedule=[FaultEvent(action="duplicate", direction="write", at_byte=255)]),
            "1 byte too many arrive",
            "another program",
        ),
    ],
    ids=["lost", "xon-xoff", "seven bits", "echo"],
)
async def test_garbled_data_names_its_likely_cause(plan: FaultPlan, text: str, advice: str) -> None:
    """H-21: what arrives tells what is wrong."""
    async with cable() as made:
        # A plan belongs to one port for good, and this test has three loops.
        made.a.faults = FaultPlan(schedule=list(plan.schedule))
        first, _ = await check_bytes(made.ends, timing=QUICK)
        assert first.text == f"TX of a reaches RX of b, but {text}"
        assert advice in first.advice


async def test_listening_to_an_endless_sender_ends() -> None:
    """H-21, P-84: listening ends all the same."""
    async with cable() as made, anyio.create_task_group() as group:

        async def talk() -> None:
            while True:
                await made.ends[1].port.send(b"noise " * 100)
                await anyio.sleep(0.01)

        group.start_soon(talk)
        heard = await carry(made.ends[0], made.ends, b"?", timing=QUICK)
        assert heard["a"].startswith(b"noise ")
        assert heard["b"] == b"?"
        group.cancel_scope.cancel()


MISWIRED = {
    "open": ({"cts": ""}, {}, ["RTS of a does not reach CTS of b"]),
    "tied": ({"cts": "on"}, {}, ["RTS of a does not reach CTS of b; CTS of b is always on"]),
    "swapped": (
        {"cts": "peer.dtr", "dsr": "peer.rts", "cd": ""},
        {},
        [
            "RTS of a does not reach CTS of b; looks swapped with DTR",
            "DTR of a does not reach DSR of b; looks swapped with RTS",
        ],
    ),
    "elsewhere": (
        {"cts": "", "dsr": "", "cd": "peer.rts"},
        {},
        ["RTS of a does not reach CTS of b; it reaches CD of b instead", "DTR of a does not reach DSR of b"],
    ),
    "back": (
        {"cts": ""},
        {"cts": "own.rts"},
        [
            "RTS of a does not reach CTS of b; it comes back to CTS of a",
            "RTS of b does not reach CTS of a",
        ],
    ),
}


@pytest.mark.parametrize("fault", MISWIRED)
async def test_a_miswired_line_is_named_by_wire(fault: str) -> None:
    """H-21: open, tied, swapped, elsewhere, back; the good wires are good."""
    of_b, of_a, expected = MISWIRED[fault]
    async with cable() as made:
        made.a.inputs, made.b.inputs = CROSSED | of_a, CROSSED | of_b
        findings = judge_lines(await trace_lines(made.ends, timing=QUICK), ["a", "b"], WIRES)
        assert texts(findings, Verdict.PROBLEM) == expected
        assert len(findings) == 4
        assert {finding.advice for finding in findings if "swapped" in finding.text} <= {"exchange these two wires"}


SOURCES = st.sampled_from(["", "on", "own.rts", "own.dtr", "peer.rts", "peer.dtr"])
WIRINGS = st.fixed_dictionaries({"cts": SOURCES, "dsr": SOURCES, "cd": SOURCES})


@settings(max_examples=15, deadline=None)
@given(of_a=WIRINGS, of_b=WIRINGS)
async def test_every_connected_line_is_traced(of_a: dict[str, str], of_b: dict[str, str]) -> None:
    """H-20, H-21: every input that follows an output is found, and nothing else."""
    async with cable() as made:
        made.a.inputs, made.b.inputs = of_a, of_b
        names = {"a": {"own": "a", "peer": "b"}, "b": {"own": "b", "peer": "a"}}
        wired, on = set(), set()
        for end, inputs in (("a", of_a), ("b", of_b)):
            for line, source in inputs.items():
                owner, _, output = source.partition(".")
                if output:
                    wired.add(Edge(names[end][owner], output, end, line))
                elif source:
                    on.add((end, line))
        assert await trace_lines(made.ends, timing=QUICK) == (wired, on)


async def test_a_wire_that_the_file_omits_is_a_warning() -> None:
    """H-21: is worth a warning when it is there in both directions."""
    async with cable() as made:
        made.b.inputs = CROSSED | {"cts": ""}
        (finding,) = judge_lines(await trace_lines(made.ends, timing=QUICK), ["a", "b"], ["tx-rx"])
        assert (finding.check, finding.verdict) == ("dtr-dsr", Verdict.WARNING)
        assert finding.advice == 'add "dtr-dsr" to wires'


async def test_lines_are_restored() -> None:
    """H-21: a held line does not move at all."""
    async with cable() as made:
        await made.ends[0].port.set_control_lines(rts=True, dtr=True)
        made.a.moved.clear()
        lines = await trace_lines(made.ends, pinned={("a", "dtr")}, timing=QUICK)
        assert {edge.output for edge in lines.edges if edge.sender == "a"} == {"rts"}
        assert (await made.a.control_lines()).rts
        assert set(made.a.moved) == {"rts"}


async def test_a_lost_break_is_reported_for_its_direction() -> None:
    """H-21: in that direction only; the advice says how to declare it."""
    async with cable() as made:
        made.a.breaks = False
        lost_, good = await check_break(made.ends, timing=QUICK)
        assert (lost_.text, lost_.verdict) == ("a break of a does not reach b", Verdict.PROBLEM)
        assert 'lacks = ["break_signal"]' in lost_.advice
        assert good.verdict is Verdict.OK


async def test_the_rates_end_where_bytes_are_lost() -> None:
    """H-21: the ladder ends there, and the advice is the rate below."""
    async with cable() as made:
        made.b.plan_at = lambda rate: lost(at=10, count=5) if rate >= 460_800 else FaultPlan()
        (finding,) = await check_rates(made.ends, 3_000_000, timing=QUICK)
        assert finding.verdict is Verdict.PROBLEM
        assert finding.text == "at 460800 baud from b to a only 4091 of 4096 bytes arrive"
        assert finding.advice == "say max_baudrate = 230400, or use a shorter cable"
        assert [end.port.config.baudrate for end in made.ends] == [115_200, 115_200]


async def test_a_refused_rate_gives_advice() -> None:
    """H-21: by the driver of either end."""
    async with cable() as made:
        made.b.refused = [250_000]
        (finding,) = await check_rates(made.ends, 250_000, timing=QUICK)
        assert finding.text.startswith("at 250000 baud the driver refuses: ")
        assert finding.advice == "say max_baudrate = 230400, or use a shorter cable"


async def test_errors_of_the_counters_are_reported() -> None:
    """H-21: all bytes arrive, but not well."""
    async with cable() as made:
        framing = FaultEvent(action="framing", direction="read", at_byte=7, count=2)
        made.b.plan_at = lambda rate: FaultPlan(schedule=[framing])
        (finding,) = await check_rates(made.ends, 9600, timing=QUICK)
        assert finding.text == "at 9600 baud from a to b there are 2 framing errors"
        assert finding.advice == "check the wires first"


async def test_a_slow_round_trip_has_advice() -> None:
    """H-21: an adapter that batches bytes."""
    async with cable() as made:
        made.a.faults = FaultPlan(paced=1200)
        (finding,) = await check_round_trip(made.ends)
        assert finding.verdict is Verdict.WARNING
        assert "low_latency = true" in finding.advice


async def test_a_lost_round_trip_names_its_direction() -> None:
    """H-21: bounded, and it says in which direction."""
    async with cable() as made:
        made.b.faults = lost(at=2)
        (finding,) = await check_round_trip(made.ends, timing=QUICK)
        assert finding.text == "a byte from b to a is lost"
