"""What the far end of a recording does: order, lines, counts, refusals, an unplug, and any way to cut the bytes."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_anyserial._recordings.events import to_line
from pytest_anyserial._recordings.file import load
from pytest_anyserial._recordings.steps import steps_from

from .conftest import Project, Run
from .test_recordings import GOOD, RECORD, failure, files, lines, prepare, record, replay

pytestmark = pytest.mark.posix("links of pseudo-terminals")

LOW = {"cts": False, "dsr": False, "ri": False, "cd": False}


def written(project: Project, test: str, *events: dict[str, Any]) -> Run:
    """Replay events that no pty makes, in a recording made of them."""
    prepare(project, "\n    async def test_it(serial_port):\n        await serial_port.send(b'x')")
    project.run(*RECORD)
    (file,) = files(project)
    head, opened, *_ = file.read_text("ascii").splitlines(keepends=True)
    rest = (to_line({"time": 0.01 * number, **event}) for number, event in enumerate(events, 1))
    end = to_line({"kind": "end", "events": 1 + len(events)})
    file.write_text(head + opened.replace('"time": 0', '"time": -0') + "".join(rest) + end, "ascii")
    return replay(project, test)


def test_requests_and_replies_may_be_split_differently(project: Project) -> None:
    """R-33: a request may come in other pieces than it was recorded in, and an answer be read in others."""
    record(project, GOOD)
    run = replay(
        project,
        """
        async def test_it(serial_port):
            for part in (b"I", b"D?\\nVOL", b"T?\\n"):
                await serial_port.send(part)
            heard = b""
            while len(heard) < 14:
                heard += await serial_port.receive(1)
            assert heard == b"<ID?>\\n<VOLT?>\\n"
        """,
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_modem_lines_and_error_counts_are_played(project: Project) -> None:
    """R-30: all four lines, and what the port has counted, are as they were asked for; asking oftener does no harm."""
    run = written(
        project,
        """
        async def test_it(serial_port):
            for _ in range(3):
                lines = await serial_port.modem_lines()
                assert (lines.cts, lines.dsr, lines.ri, lines.cd) == (False, True, True, False)
            await serial_port.send(b"x")
            while not (await serial_port.modem_lines()).cd:
                await anyio.sleep(0.001)
            assert (await serial_port.line_errors()).parity == 2
        """,
        {"kind": "modem lines", **LOW, "dsr": True, "ri": True},
        {"kind": "sent", "data": b"x"},
        {"kind": "modem lines", **LOW, "cd": True},
        {"kind": "line errors", "parity": 2, "framing": 0, "overrun": 0, "breaks": 0, "buffer_overrun": 0},
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_lines_and_a_break_are_steps(project: Project) -> None:
    """R-30, R-31: a driver that drives another line is noticed."""
    test = """
        async def test_it(serial_port):
            await serial_port.set_control_lines(rts=True)
            await serial_port.send_break(0.25)
    """
    events = {"kind": "lines", "rts": True, "dtr": None}, {"kind": "break", "duration": 0.25}
    assert set(written(project, test, *events).outcomes().values()) == {"passed"}
    problem = failure(replay(project, test.replace("rts=True", "rts=False")))
    assert "came      set_control_lines(RTS off)\n  expected  set_control_lines(RTS on) (recs/" in problem
    assert "came      send_break(0.5)" in failure(replay(project, test.replace("0.25", "0.5")))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the open files")
def test_no_file_is_open_while_a_test_replays(project: Project) -> None:
    """R-30: a test that fails leaves the rest unread, and nobody closes the file of what waits for that rest."""
    run = written(
        project,
        """
        import os

        async def test_it(serial_port):
            await serial_port.send(b"x")
            files = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
            assert not [name for name in files if name.endswith(".jsonl")]
            assert await serial_port.receive() == b"y"
        """,
        {"kind": "sent", "data": b"x"},
        {"kind": "received", "data": b"y"},
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_counted_bytes_are_sent_before_the_count(project: Project) -> None:
    """R-30, R-33: a driver that looks at the queue before it goes on finds the same, though it read the bytes later."""
    run = written(
        project,
        """
        async def test_it(serial_port):
            while serial_port.input_waiting() < 3:
                await anyio.sleep(0.001)
            await serial_port.send(b"x")
            heard = b""
            while len(heard) < 5:
                heard += await serial_port.receive()
            assert heard == b"abcde"
        """,
        {"kind": "input waiting", "count": 0},
        {"kind": "input waiting", "count": 3},
        {"kind": "sent", "data": b"x"},
        {"kind": "received", "data": b"ab"},
        {"kind": "input waiting", "count": 1},
        {"kind": "received", "data": b"cde"},
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_a_driver_that_polls_the_queue_is_replayed(project: Project) -> None:
    """R-30, R-33: how often it asked does not matter, how long nothing came does, and a count is there when it asks."""
    test = """
        async def test_it(serial_port):
            began = anyio.current_time()
            await serial_port.send(b"late\\n")
            while serial_port.input_waiting() < 7:
                await anyio.sleep(0.005)
            waited = anyio.current_time() - began
            await serial_port.send(b"ID?\\n")
            heard = b""
            while not heard.endswith(b"<ID?>\\n"):
                heard += await serial_port.receive()
            assert heard == b"<late>\\n<ID?>\\n"
            assert waited > 0.25
    """
    assert set(record(project, test).outcomes().values()) == {"passed"}
    counts = [event["count"] for event in lines(files(project)[0]) if event.get("kind") == "input waiting"]
    assert counts == [0, 0, 7]
    assert set(replay(project).outcomes().values()) == {"passed"}
    # A driver that asks once, when the count is due: in virtual time, because a busy machine may be late with either.
    sent, due = (
        next(event["time"] for event in lines(files(project)[0]) if event.get(name) == value)
        for name, value in (("kind", "sent"), ("count", 7))
    )
    once = test.replace("while serial_port", f"await anyio.sleep({due - sent + 0.001})\n            if serial_port")
    once = once.replace("await anyio.sleep(0.005)", "pytest.fail('late')")
    outcomes = replay(project, once, options=("--serial-replay-pace=virtual",)).outcomes()
    assert set(outcomes.values()) == {"passed", "skipped"}, outcomes


def test_dropped_input_separates_bytes_before_and_after_it(project: Project) -> None:
    """R-31: what the device said after a reset of the buffer is not dropped with it, also at once."""
    test = """
        async def test_it(serial_port):
            await serial_port.send(b"x")
            await serial_port.reset_input_buffer()
            assert await serial_port.receive() == b"hello"
    """
    events = {"kind": "sent", "data": b"x"}, {"kind": "input dropped"}, {"kind": "received", "data": b"hello"}
    assert set(written(project, test, *events).outcomes().values()) == {"passed"}
    assert set(replay(project, options=("--serial-replay-pace=none",)).outcomes().values()) == {"passed"}


def test_an_unplugged_device_vanishes_and_comes_back(project: Project) -> None:
    """R-30, R-31: errors are part of a recording, and what was opened again is."""
    test = """
        async def test_it(serial_link):
            async with serial_link.opened() as port:
                await port.send(b"x")
                with pytest.raises(SerialDisconnectedError):
                    await port.receive()
            async with serial_link.opened() as port:
                await port.send(b"y")
    """
    run = written(
        project,
        test,
        {"kind": "sent", "data": b"x"},
        {"kind": "failed", "call": "receive", "error": "SerialDisconnectedError", "errno": 5},
        {"kind": "closed"},
        {"kind": "opened", "config": lines_config()},
        {"kind": "sent", "data": b"y"},
        {"kind": "closed"},
    )
    assert set(run.outcomes().values()) == {"passed"}


def lines_config() -> dict[str, Any]:
    return {"baudrate": 115_200}


def test_a_refused_call_is_refused_in_the_replay(project: Project) -> None:
    """R-30, R-31: a pty has no lines, and neither has its recording; the driver goes the same way."""
    test = """
        async def test_it(serial_port):
            with pytest.raises(UnsupportedFeatureError):
                await serial_port.set_control_lines(rts=True)
            with pytest.raises(UnsupportedFeatureError):
                await serial_port.modem_lines()
            assert serial_port.input_waiting() == 0
            assert await ask(serial_port, b"ID?") == b"<ID?>\\n"
    """
    assert set(record(project, test).outcomes().values()) == {"passed"}
    kinds = [event["kind"] for event in lines(files(project)[0])[1:]]
    assert kinds[:4] == ["opened", "failed", "failed", "input waiting"]
    assert set(replay(project).outcomes().values()) == {"passed"}


def test_an_error_that_the_mock_cannot_play_is_refused(project: Project) -> None:
    """R-30: with the reason, before the test begins."""
    run = written(project, GOOD, {"kind": "failed", "call": "send", "error": "SerialError", "errno": 12})
    assert "send failed with SerialError, which the mock cannot play: recs/" in failure(run)


BY_REQUEST = """
    @pytest.mark.anyserial(by_request=True)
    async def test_it(serial_port):
        for word in (b"a", b"b", b"a", b"late"):
            assert await ask(serial_port, word) == b"<" + word + b">\\n"
"""


def test_requests_may_come_in_any_order_with_a_mark(project: Project) -> None:
    """R-31: the same request gets its answers in the order in which they were recorded; leftovers fail."""
    record(project, BY_REQUEST)
    order = '(b"a", b"b", b"a", b"late")'
    run = replay(project, BY_REQUEST.replace(order, '(b"late", b"a", b"a", b"b")'))
    assert set(run.outcomes().values()) == {"passed"}
    problem = failure(replay(project, BY_REQUEST.replace(order, '(b"late", b"b")')))
    assert "2 recorded steps left over, the first:\n  expected  b'a\\n' (recs/" in problem
    problem = failure(replay(project, BY_REQUEST.replace(order, '(b"late", b"lame")')))
    assert "came      b'lame\\n'" in problem
    problem = failure(replay(project, BY_REQUEST.replace(order, '(b"b", b"b", b"a", b"a", b"late")')))
    assert "came      b'b\\n'" in problem


def test_answers_by_request_are_first_in_first_out(project: Project) -> None:
    """R-31: of two answers to one request the first comes first."""
    run = written(
        project,
        """
        @pytest.mark.anyserial(by_request=True)
        async def test_it(serial_port):
            await serial_port.send(b"?")
            assert await serial_port.receive() == b"1"
            await serial_port.send(b"!")
            await serial_port.send(b"?")
            assert await serial_port.receive() == b"2"
        """,
        {"kind": "sent", "data": b"?"},
        {"kind": "received", "data": b"1"},
        {"kind": "sent", "data": b"?"},
        {"kind": "received", "data": b"2"},
        {"kind": "sent", "data": b"!"},
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_data_larger_than_a_buffer_is_replayed_both_ways(project: Project) -> None:
    """R-30, R-31: there is no limit of size, and neither end overruns the other."""
    test = """
        async def test_it(serial_port):
            block = bytes(range(256)) * 256
            for _ in range(32):
                await serial_port.send(block)
            await serial_port.send(b"\\n")
            size = 0
            while size < 32 * len(block) + 34:
                size += len(await serial_port.receive())
    """
    block = bytes(range(256)) * 256
    run = written(
        project,
        test,
        *({"kind": "sent", "data": block} for _ in range(32)),
        {"kind": "sent", "data": b"\n"},
        *({"kind": "received", "data": block} for _ in range(32)),
        {"kind": "received", "data": bytes(34)},
    )
    assert set(run.outcomes().values()) == {"passed"}


def test_a_long_test_is_recorded_whole(project: Project) -> None:
    """R-30: what does not fit into memory goes to a file, also one chunk that is larger than that memory."""
    test = """
        async def test_it(serial_port):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serial_port.send, b"x" * 999_999 + b"\\n")
                size = 0
                while size < 1_000_002:
                    size += len(await serial_port.receive())
    """
    run = record(project, test)
    assert set(run.outcomes().values()) == {"passed"}
    for kind, size in (("sent", 1_000_000), ("received", 1_000_002)):
        assert sum(len(event["text"]) for event in lines(files(project)[0]) if event.get("kind") == kind) == size
    assert set(replay(project, options=("--serial-replay-pace=none",)).outcomes().values()) == {"passed"}


def test_virtual_time_shows_a_timeout_exactly(project: Project) -> None:
    """R-31: in virtual time an answer comes exactly as late as it was recorded."""
    written(
        project,
        """
        @pytest.mark.skipif("config.option.serial_replay_pace != 'virtual'")
        async def test_it(serial_port):
            began = anyio.current_time()
            await serial_port.send(b"x")
            with anyio.move_on_after(499):
                await serial_port.receive()
                pytest.fail("early")
            assert await serial_port.receive() == b"y"
            assert round(anyio.current_time() - began, 3) == 500
        """,
        {"kind": "sent", "data": b"x"},
        {"time": 500.01, "kind": "received", "data": b"y"},
    )
    run = replay(project, options=("--serial-replay-pace=virtual", "--serial-loops=asyncio,trio"))
    assert set(run.outcomes().values()) == {"passed"}


def test_a_failed_test_shows_its_position_in_the_recording(project: Project) -> None:
    """R-31: the next recorded step is in its report."""
    record(project, GOOD)
    run = replay(project, GOOD.replace('b"<ID?>\\n"', 'b"<id>\\n"'))
    (report, *_) = [report for report in run.reports if report.failed]
    assert "the next recorded step:\n  expected  b'VOLT?\\n' (recs/" in dict(report.sections)["serial replay"]


def recording(path: Path, events: Iterator[dict[str, Any]]) -> None:
    head = {"format": 1, "recorded": "2026-01-01T00:00:00+00:00", "config": lines_config()}
    with path.open("w", encoding="ascii") as file:
        file.write(to_line(head))
        number = 0
        for number, event in enumerate(events, 1):  # noqa: B007
            file.write(to_line(event))
        file.write(to_line({"kind": "end", "events": number}))


def test_a_long_recording_is_not_held_in_memory(tmp_path: Path) -> None:
    """R-30: a file of 20 MB is read and played a few events at a time."""
    path = tmp_path / "long.jsonl"
    block = bytes(range(256)) * 32
    kinds = ("sent", "received", "input waiting")
    events = (
        {"time": number / 1000, "kind": kinds[number % 3], "data": block}
        if number % 3 < 2
        else {"time": number / 1000, "kind": "input waiting", "count": 100}
        for number in range(3600)
    )
    recording(path, events)
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        played = sum(len(step.data) for step in steps_from(load(path, "long", "").events()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert played == 2400 * len(block)
    assert peak < 2_000_000


EVENTS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"kind": st.just("sent"), "data": st.binary(min_size=1, max_size=6)}),
        st.fixed_dictionaries({"kind": st.just("received"), "data": st.binary(min_size=1, max_size=6)}),
        st.fixed_dictionaries({"kind": st.just("input waiting"), "count": st.integers(0, 9)}),
        st.just({"kind": "input dropped"}),
        st.just({"kind": "closed"}),
    ),
    max_size=30,
)


@given(EVENTS)
def test_steps_have_all_bytes_in_their_order(drawn: list[dict[str, Any]]) -> None:
    """R-33: however they were counted before they were read, each byte is sent or expected once, in order."""
    events = [(number, 0, {**event, "time": number / 10}) for number, event in enumerate(drawn, 2)]
    for kind, step in (("sent", "expect"), ("received", "play")):
        whole = b"".join(event["data"] for event in drawn if event["kind"] == kind)
        copies = [(line, offset, dict(event)) for line, offset, event in events]
        assert b"".join(each.data for each in steps_from(copies) if each.kind == step) == whole


@given(st.binary(min_size=1, max_size=300))
def test_bytes_are_text_or_hexadecimal(data: bytes) -> None:
    """R-30: what is printable can be read in the file, and either way the bytes are the same."""
    found = json.loads(to_line({"kind": "sent", "data": data}))
    assert (found["text"].encode("ascii") if "text" in found else bytes.fromhex(found["data"])) == data
