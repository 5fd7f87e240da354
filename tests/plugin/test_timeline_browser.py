"""The timeline in a browser: it opens, zooms, finds bytes, asks nobody for anything, and takes texts for texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from anyserial import sync
from anyserial.testing import mock_pair
from pytest_anyserial import SerialTranscript
from pytest_anyserial._report import timeline_page
from pytest_anyserial._transcript.transcript import PortLog
from pytest_anyserial._views.modbus_rtu import checksum

from ..browser import CHROMIUM, MISSING, Page, browser

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=MISSING), pytest.mark.posix("a browser")]

HOSTILE = "</script><script>hacked = 1</script><img src=x onerror='hacked = 1'><!--"
IMAGE = (
    "(lanes => lanes.getContext('2d').getImageData(0, 0, lanes.width, lanes.height))(document.getElementById('lanes'))"
)
BOX = "(({left, top, width}) => [left, top, width])(document.querySelector('%s').getBoundingClientRect())"
SPAN = re.compile(r"\((.*)\)")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Page:
    """A page of the one browser, of the usual size, of which nothing has been said yet."""
    chromium.problems.clear()
    chromium.requests.clear()
    chromium.resize(1200, 900)
    return chromium


class Wire:
    """Makes the timeline of a link by saying what happens, a millisecond apart."""

    def __init__(self) -> None:
        self._clock = count()
        self.pause = 0.0
        self.transcript = SerialTranscript(now=lambda: next(self._clock) / 1000 + self.pause)
        self.about: dict[str, str | None] = {"test": "test_meter.py::test_reads", "reason": "no answer"}
        self.unmet: list[str] = []

    def link(self, number: int = 1) -> tuple[PortLog, PortLog]:
        with mock_pair() as pair, sync.open_serial_port(pair.path_a) as a, sync.open_serial_port(pair.path_b) as b:
            title = None if number == 1 else f"mock {number}"
            return self.transcript.log("serial_port", a, title), self.transcript.log("serial_peer", b, title)

    def written(self, folder: Path) -> Path:
        ends: dict[str, Any] = {"serial_port": "port", "serial_peer": "peer"}
        file = folder / "timeline.html"
        parts = timeline_page.page(self.transcript, lambda log: ends[log.name], self.about, {}, self.unmet)
        file.write_text("".join(parts), encoding="utf-8", newline="\n")
        return file


def meter(folder: Path) -> Path:
    """Two exchanges with a meter, a second apart; one byte of the second answer is damaged."""
    wire = Wire()
    port, peer = wire.link()
    query = bytes.fromhex("01 04 00 00 00 01 31 ca")
    answer = bytes.fromhex("01 04 02 09 03 ff 61")
    for log in (port, peer):
        log.add("opened", "9600 8N1")
    for arrived in (answer, answer[:3] + b"\x19" + answer[4:]):
        port.add("sent", query)
        peer.add("received", query)
        peer.add("sent", answer)
        if arrived != answer:
            port.add("fault", "1 corrupt byte (mask 0x10) at byte 10")
        port.add("received", arrived[:3])
        port.add("received", arrived[3:])
        wire.pause += 1.0
    port.add("lines", "RTS on, DTR off")
    port.add("break", "0.25 s")
    wire.unmet = ["b'bye' (test_meter.py:9)"]
    return wire.written(folder)


def selected(page: Page) -> str:
    return str(page.run("document.querySelector('.row[aria-selected=true]')?.innerText ?? ''"))


def span(page: Page) -> str:
    """How much time the lanes show."""
    (found,) = SPAN.findall(page.text("#range"))
    return str(found)


def pixels(page: Page) -> int:
    """How many different colours the lanes have: what is blank has few."""
    return int(page.run(f"new Set(new Uint32Array({IMAGE}.data.buffer)).size"))


def test_the_page_opens_without_network_requests(page: Page, tmp_path: Path) -> None:
    """R-42: no request but for the page, nothing on the console; it begins at the first problem."""
    file = meter(tmp_path)
    page.open(file)
    assert page.requests == [file.as_uri()]
    assert page.problems == []
    assert page.text("h1") == "test_meter.py::test_reads"
    assert page.text("#reason") == "no answer"
    assert "serial_port fault" in selected(page)
    assert page.text("#detail").startswith("serial_port fault")
    assert pixels(page) > 20


def test_keys_and_wheel_zoom(page: Page, tmp_path: Path) -> None:
    """R-42: in, out, all of it; at the place of the pointer; and never beyond what there is."""
    page.open(meter(tmp_path))
    whole = span(page)
    page.press("+")
    assert span(page) != whole
    page.press("-")
    assert span(page) == whole
    page.press("-")
    assert span(page) == whole
    page.press(*"++++", "0")
    assert span(page) == whole
    box = page.run(BOX % "#lanes")
    page.mouse("mouseWheel", box[0] + 600, box[1] + 60, deltaX=0, deltaY=-200)
    page.drawn()
    assert span(page) != whole
    page.press("Enter")
    assert re.fullmatch(r"\d+(\.\d+)? ms", span(page))


def test_a_byte_is_found_across_events(page: Page, tmp_path: Path) -> None:
    """R-42: as hex or as text, also where it came in pieces; hits are counted and gone through with keys."""
    page.open(meter(tmp_path))
    page.press("/")
    page.type("02 19 03")
    page.run("new Promise(done => setTimeout(done, 300))")
    assert page.text("#hits") == "2 hits"
    assert "01 04 02" in selected(page)
    page.press("Enter")
    assert "19 03 ff 61" in selected(page)
    assert page.run("[...document.querySelectorAll('#detail mark')].map(mark => mark.textContent)")[:2] == ["19", "03"]
    page.press("Escape", "N")
    assert "01 04 02" in selected(page)
    page.press("/")
    page.run("document.getElementById('query').select()")
    page.type("never said")
    page.run("new Promise(done => setTimeout(done, 300))")
    assert page.text("#hits") == "not found"


def test_keys_go_through_events_and_problems(page: Page, tmp_path: Path) -> None:
    """R-42: the next event, the next problem and the next silence; the byte that was damaged stands out."""
    page.open(meter(tmp_path))
    page.press("ArrowDown", "ArrowDown")
    assert "19 03 ff 61" in selected(page)
    assert page.text("#detail mark.bad") == "19"
    assert "Damaged on its way: 19 was sent as 09." in page.text("#detail")
    assert "Modbus RTU: wrong checksum" in page.text("#detail")
    page.press("f")
    assert "script not met" in selected(page)
    page.press("f")
    assert "fault" in selected(page)
    page.press("g")
    assert "serial_port lines" in selected(page)
    page.press("End", "ArrowUp")
    assert "break" in selected(page)


def test_a_click_selects_in_lanes_and_list(page: Page, tmp_path: Path) -> None:
    """R-42: the event under the pointer; a drag moves the lanes and selects nothing."""
    page.open(meter(tmp_path))
    box = page.run(BOX % "#lanes")
    page.press("+", "+")
    before = page.text("#range")
    page.mouse("mousePressed", box[0] + 700, box[1] + 80, button="left", clickCount=1)
    page.mouse("mouseMoved", box[0] + 500, box[1] + 80, button="left", buttons=1)
    page.mouse("mouseReleased", box[0] + 500, box[1] + 80, button="left", clickCount=1)
    page.drawn()
    assert page.text("#range") != before
    assert "fault" in selected(page)
    page.click(box[0] + box[2] - 4, box[1] + 80)
    assert "fault" not in selected(page)
    page.press("Home")
    row = page.run(BOX % "#event-1")
    page.click(row[0] + 30, row[1] + 8)
    assert "serial_peer opened" in selected(page)


@pytest.mark.parametrize(("width", "dark"), [(420, False), (420, True), (1200, True)])
def test_the_page_fits_phones_and_dark_mode(page: Page, tmp_path: Path, width: int, dark: bool) -> None:
    """R-42: nothing is wider than the window, and the colours are the ones that the reader prefers."""
    page.resize(width, 900, dark=dark)
    page.open(meter(tmp_path))
    assert page.run("document.scrollingElement.scrollWidth") <= width
    (red,) = re.findall(r"rgb\((\d+),", page.run("getComputedStyle(document.body).backgroundColor"))
    assert (int(red) < 60) is dark
    assert pixels(page) > 20
    assert page.problems == []


def test_hostile_texts_stay_texts(page: Page, tmp_path: Path) -> None:
    """R-42: of a test, a path, a device, a fault and a script; bytes too. What they would run does not run."""
    wire = Wire()
    with mock_pair(path_a=f"/dev/{HOSTILE}") as pair, sync.open_serial_port(pair.path_a) as port:
        log = wire.transcript.log("serial_port", port)
    log.add("opened", "9600 8N1")
    log.add("fault", HOSTILE)
    log.add("received", HOSTILE.encode() + b"\n")
    wire.transcript.mark("met", lambda: HOSTILE)
    wire.about = {"test": HOSTILE, "reason": HOSTILE, "link": HOSTILE}
    wire.unmet = [HOSTILE]
    page.open(wire.written(tmp_path))
    page.press("f", "f", "ArrowUp", "ArrowUp", "x", "+", "+")
    assert page.run("typeof hacked") == "undefined"
    assert page.run("document.images.length + document.querySelectorAll('script').length") == 2
    assert page.text("h1") == HOSTILE
    assert page.problems == []


def test_the_policy_stops_other_scripts(page: Page, tmp_path: Path) -> None:
    """R-42: even if markup got in, it would neither run nor fetch."""
    page.open(meter(tmp_path))
    page.run("document.body.insertAdjacentHTML('beforeend', `<img src='https://example.org/x' onerror='hacked = 1'>`)")
    page.run("new Promise(done => setTimeout(done, 200))")
    assert page.run("typeof hacked") == "undefined"
    assert any("Content Security Policy" in problem for problem in page.problems)
    page.problems.clear()


@pytest.mark.gate("drawing so many takes seconds")
def test_a_hundred_thousand_events_stay_usable(page: Page, tmp_path: Path) -> None:
    """R-42: the page holds few elements, and each key is answered in a moment."""
    wire = Wire()
    links = [wire.link(number) for number in range(1, 6)]
    for number in range(100_000 // 4 // len(links)):
        for port, peer in links:
            query = bytes([1, 3, 0, number % 256, 0, 1])
            query += checksum(query)
            reply = b"\x01\x03\x02" + number.to_bytes(2, "big")
            reply += checksum(reply)
            for log, kind, data in (
                (port, "sent", query),
                (peer, "received", query),
                (peer, "sent", reply),
                (port, "received", reply),
            ):
                log.add(kind, data)
    file = wire.written(tmp_path)
    assert file.stat().st_size < 6_000_000
    # Bounds for a machine that is busy with other tests; docs/timeline.md has figures of one that is not.
    assert page.open(file) < 30
    for key in ("+", "+", "ArrowRight", "0", "End", "x"):
        began = page.run("performance.now()")
        page.press(key)
        assert page.run("performance.now()") - began < 3000
    assert page.run("document.querySelectorAll('*').length") < 1000
    assert page.run("document.querySelector('.row[aria-selected=true]').getAttribute('aria-posinset')") == "100000"
    page.press("/")
    page.type("01 03 02 13 87")
    page.run("new Promise(done => setTimeout(done, 2000))")
    # The last exchange of each link, seen at both ends.
    assert page.text("#hits") == "10 hits"
    assert page.problems == []
