"""The timeline that a failed test leaves: which tests have one, what is in it, and that nothing can break out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anyserial import sync
from anyserial.testing import mock_pair
from pytest_anyserial import SerialTranscript
from pytest_anyserial._report import timeline_page

from .conftest import Project

ONE = ["--serial-loops=trio"]
#: Names and answers that would be markup, end an element, or break a script, if they were let.
HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u2028\u202e\x00'\"&lt;{{data}}{{script}}"

FAILS = """
async def test_bad(serial_port, serial_script):
    serial_script.on(b"ID?\\n").reply(b"ACME\\n").times(2)
    serial_script.on(b"RATE?\\n").reply(b"9600\\n")
    await serial_port.send(b"ID?\\n")
    assert await serial_port.receive() == b"ACNE\\n"

async def test_good(serial_port): pass
"""


def data_of(page: str) -> dict[str, Any]:
    """What a page has for its script."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def events_of(data: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """Of each event the port, the kind, how many bytes and the detail."""
    names = [*(port["name"] for port in data["ports"]), "serial_script"]
    columns = data["events"]
    return [
        (names[port], data["kinds"][kind], size, data["texts"][columns["detail"].get(str(place), 0)])
        if str(place) in columns["detail"]
        else (names[port], data["kinds"][kind], size, "")
        for place, (port, kind, size) in enumerate(zip(columns["port"], columns["kind"], columns["size"], strict=True))
    ]


def frames_of(data: Mapping[str, Any]) -> dict[str, list[tuple[str, str, bool]]]:
    """By view, of each frame the port, the text and whether it has a problem."""
    return {
        view["name"]: [
            (data["ports"][port]["name"], data["texts"][text], bool(flags & 2))
            for port, text, flags in zip(*(view["frames"][name] for name in ("port", "text", "flags")), strict=True)
        ]
        for view in data["views"]
    }


def pages(project: Project) -> list[Path]:
    return sorted((project.path / ".pytest_anyserial").rglob("timeline.html"))


def test_a_failed_test_leaves_a_page(project: Project) -> None:
    """R-42: beside its transcripts, named in the report and in its properties; it says why the test failed."""
    run = project.run(*ONE, test=FAILS)
    (page,) = pages(project)
    assert (page.parent / "serial_port.jsonl").is_file()
    shown = str(page.relative_to(project.path))
    (failed,) = [report for report in run.reports if report.failed]
    assert dict(failed.sections)["serial transcripts"].splitlines()[-1] == shown
    assert dict(run.by_test()["test_bad[mock-trio]"][-1].user_properties)["serial_timeline"] == shown
    about = data_of(page.read_text("utf-8"))["about"]
    assert about["test"] == "test_it.py::test_bad[mock-trio]"
    assert about["reason"].startswith("AssertionError: assert b'ACME")


def test_a_page_is_written_beside_the_transcripts(project: Project) -> None:
    """R-42, P-81: of passed tests too if all leave transcripts, and none if none do."""
    project.run(*ONE, "--serial-transcript=off", test=FAILS)
    assert pages(project) == []
    project.run(*ONE, "--serial-transcript=all", test=FAILS)
    reasons = [data_of(page.read_text("utf-8"))["about"].get("reason") for page in pages(project)]
    assert [bool(reason) for reason in reasons] == [True, False]


def test_a_page_has_both_ends_and_the_script(project: Project) -> None:
    """R-42: events of all ports in order, what the script has taken, and what it still expects."""
    project.run(*ONE, test=FAILS)
    (page,) = pages(project)
    data = data_of(page.read_text("utf-8"))
    assert [(port["name"], port["end"], port["notKept"]) for port in data["ports"]] == [
        ("serial_port", "port", 0),
        ("serial_peer", "peer", 0),
    ]
    assert [base64.b64decode(port["sent"]) for port in data["ports"]] == [b"ID?\n", b"ACME\n"]
    assert [base64.b64decode(port["received"]) for port in data["ports"]] == [b"ACME\n", b"ID?\n"]
    assert events_of(data) == [
        ("serial_peer", "opened", 0, "115200 8N1"),
        ("serial_port", "opened", 0, "115200 8N1"),
        ("serial_port", "sent", 4, ""),
        ("serial_peer", "received", 4, ""),
        ("serial_script", "met", 0, "b'ID?\\n', 1 of 2 (test_it.py:3)"),
        ("serial_peer", "sent", 5, ""),
        ("serial_port", "received", 5, ""),
        ("serial_port", "closed", 0, ""),
        ("serial_peer", "closed", 0, ""),
        ("serial_script", "not met", 0, "b'ID?\\n', came 1 of 2 times (test_it.py:3)"),
        ("serial_script", "not met", 0, "b'RATE?\\n' (test_it.py:4)"),
    ]


def test_a_page_shows_requests_that_the_script_refused(project: Project) -> None:
    """R-42, P-50: at the moment when the request was complete; and an error of the script's own function."""
    project.run(
        *ONE,
        test="""
        def broken(request):
            raise KeyError(request)

        async def test_mismatch(serial_port, serial_script):
            serial_script.on(b"ID?\\n").reply(b"ACME\\n")
            await serial_port.send(b"IDN")
            await serial_port.receive()

        async def test_broken(serial_port, serial_script):
            serial_script.on(b"ID?\\n").reply(broken)
            await serial_port.send(b"ID?\\n")
            await serial_port.receive()
        """,
    )
    found = {}
    for page in pages(project):
        events = events_of(data_of(page.read_text("utf-8")))
        found.update({event[1]: event[3] for event in events if event[0] == "serial_script"})
    assert found["mismatch"].startswith("an unexpected request: b'IDN'\n  came      b'IDN'\n")
    assert found["failed"] == "KeyError(b'ID?\\n')"


def test_a_project_adds_a_view(project: Project) -> None:
    """R-42: with a hook; one that fails says so on the page, and the test's own failure is reported."""
    project.file(
        "conftest.py",
        """
        from pytest_anyserial import SerialFrame

        def shouted(bursts):
            for burst in bursts:
                yield SerialFrame(
                    time=burst.time, until=burst.until, direction=burst.direction, text=burst.data.decode().upper(),
                    problem=burst.direction == "received",
                )

        def broken(bursts):
            raise ValueError("<b>no</b>")

        def pytest_anyserial_views(item):
            return {"Shouts": shouted, "Broken": broken}
        """,
    )
    run = project.run(*ONE, test=FAILS)
    assert sorted(run.outcomes().values()) == ["failed", "passed"]
    (page,) = pages(project)
    data = data_of(page.read_text("utf-8"))
    assert frames_of(data)["Shouts"] == [
        ("serial_port", "ID?\n", False),
        ("serial_peer", "ID?\n", True),
        ("serial_peer", "ACME\n", False),
        ("serial_port", "ACME\n", True),
    ]
    assert data["broken"] == ["The view 'Broken' failed: ValueError: <b>no</b>"]


def page_of(
    texts: Iterable[str] = (), data: bytes = b"", path: str = "/dev/mockA", about: Mapping[str, str] | None = None
) -> str:
    """A page with a port that has received this data and failed with these texts."""
    with mock_pair(path_a=path, path_b=f"{path}'") as pair, sync.open_serial_port(pair.path_a) as port:
        transcript = SerialTranscript()
        log = transcript.log("serial_port", port)
        log.add("received", data)
        for text in texts:
            log.add("failed", text)
            transcript.mark("met", lambda text=text: text)
        return "".join(timeline_page.page(transcript, lambda _: "port", about or {}, {}, []))


def test_nothing_of_a_test_becomes_markup() -> None:
    """R-42: whatever a device, a path, a test id or a message says, the elements of the page are its own."""
    own = page_of()
    page = page_of([HOSTILE], HOSTILE.encode(), path=f"/dev/{HOSTILE}", about={"test": HOSTILE, "reason": HOSTILE})
    tags = re.compile(r"<[/!a-z]", re.IGNORECASE)
    assert tags.findall(page) == tags.findall(own)
    assert "\u2028" not in page
    assert "\u202e" not in page
    assert data_of(page)["about"]["test"] == HOSTILE.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e").replace(
        "\x00", "\\x00"
    )


@given(data=st.binary(max_size=200), text=st.text(), path=st.text(min_size=1))
def test_a_page_keeps_every_byte(data: bytes, text: str, path: str) -> None:
    """R-42: bytes are in it as they were, and any text is data."""
    page = page_of([text], data, path)
    assert page.count("</script>") == 2
    (port,) = data_of(page)["ports"]
    assert base64.b64decode(port["received"]) == data
    page.encode()


def test_the_policy_allows_nothing_but_the_page_itself() -> None:
    """R-42: one style and one script, by their hashes; nothing is fetched."""
    page = page_of()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)
    )
    assert policy == f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'"
    assert not re.search(r"https?://|\b(src|href)=|@import|url\(|innerHTML|insertAdjacent|document\.write|eval\(", page)


def test_a_capture_lies_beside_the_page(project: Project) -> None:
    """R-40: with --serial-pcapng, of the same tests, the same bytes."""
    run = project.run(*ONE, "--serial-pcapng", test=FAILS)
    (page,) = pages(project)
    capture = (page.parent / "wire.pcapng").read_bytes()
    assert capture.startswith(b"\x0a\x0d\x0d\x0a")
    assert (capture.count(b"ID?\n"), capture.count(b"ACME\n")) == (2, 2)
    assert dict(run.by_test()["test_bad[mock-trio]"][-1].user_properties)["serial_capture"].endswith("wire.pcapng")


def test_a_capture_needs_the_option(project: Project) -> None:
    """R-40."""
    project.run(*ONE, test=FAILS)
    assert not list(project.path.rglob("*.pcapng"))
