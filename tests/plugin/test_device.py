"""The far end that answers by a handler: what it is asked, how requests are cut, and what its errors do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_anyserial._device.framing import Framer, framer_of
from pytest_anyserial._device.service import HandlerCall, Service
from pytest_anyserial.framing import AnyFramer, fixed, length, silence, terminator

from .benches import pty_bench
from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

ALL = ["--serial-links=mock,pty"]
ONE = ["--serial-loops=asyncio"]

HEAD = """
import anyio, pytest
from pytest_anyserial.framing import fixed, length, silence, terminator

class Supply:
    volts = 0.0

    def __call__(self, request):
        match request.split():
            case [b"VOLT?"]:
                return b"%.2f\\n" % self.volts
            case [b"VOLT", value]:
                self.volts = float(value)
            case _:
                raise LookupError(f"no such command: {request!r}")

async def read(port, size):
    data = b""
    with anyio.fail_after(5):
        while len(data) < size:
            data += await port.receive(size - len(data))
    return data

async def ask(port, request, size):
    await port.send(request)
    return await read(port, size)
"""


def test_a_device_has_a_state(project: Project) -> None:
    """P-101: an object keeps it between requests, on every link and loop; requests are kept too."""
    run = project.run(
        *ALL,
        test=f"""{HEAD}
async def test_it(serial_port, serial_device):
    supply = serial_device.serve(Supply())
    assert await ask(serial_port, b"VOLT?\\n", 5) == b"0.00\\n"
    assert await ask(serial_port, b"VOLT 12.5\\nVOLT?\\n", 6) == b"12.50\\n"
    assert supply.volts == 12.5
    assert serial_device.requests == [b"VOLT?\\n", b"VOLT 12.5\\n", b"VOLT?\\n"]

def test_blocking(sync_serial_port, serial_device):
    serial_device.serve(Supply())
    sync_serial_port.send(b"VOLT 5\\nVOLT?\\n")
    assert sync_serial_port.receive(5, timeout=5) == b"5.00\\n"
    serial_device.wait_requests(2)
    assert serial_device.requests == [b"VOLT 5\\n", b"VOLT?\\n"]
""",
    )
    assert set(run.outcomes().values()) == {"passed"}, run.text
    assert len(run.outcomes()) == 6 + 2


HANDLERS = {
    "function": "lambda request: request.upper()",
    "list": "lambda request: [b'H', bytearray(b'I'), memoryview(b';')]",
    "generator": "generator",
    "coroutine": "coroutine",
    "async generator": "async_generator",
    "method": "Upper().answer",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_answers_in_any_form(project: Project, handler: str) -> None:
    """P-101: bytes or several of them, at once or later."""
    run = project.run(
        test=f"""{HEAD}
def generator(request):
    yield b"H"
    yield b"I;"

async def coroutine(request):
    await anyio.sleep(0.01)
    return request.upper()

async def async_generator(request):
    for byte in request:
        await anyio.sleep(0.001)
        yield bytes([byte]).upper()

class Upper:
    def answer(self, request):
        return request.upper()

async def test_it(serial_port, serial_device):
    serial_device.serve({HANDLERS[handler]}, framer=terminator(b";"))
    assert await ask(serial_port, b"hi;", 3) == b"HI;"
"""
    )
    assert list(run.outcomes().values()) == ["passed"] * 3, run.text


ERRORS = {
    "raise LookupError('mine')": "LookupError: mine",
    "assert request == b'other'": "E       AssertionError",
    "pytest.fail('mine')": "Failed: mine",
    "return 'text'": "TypeError: what handler returns for b'A\\n' must be bytes, not 'text'",
    "return next(iter(()))": "RuntimeError: handler raised StopIteration for b'A\\n'",
    "raise SystemExit(3)": "RuntimeError: serial_device: a function of the test raised SystemExit(3)",
}


@pytest.mark.parametrize("what", ERRORS)
def test_an_error_of_the_handler_ends_the_test(project: Project, what: str) -> None:
    """P-101: within a second on every loop, although the body waits for ever, with its own traceback."""
    project.file("fake.py", f"import pytest\n\ndef handler(request):\n    {what}\n")
    run = project.run(
        "--durations=0",
        test="""
        import time
        from fake import handler

        async def test_it(serial_port, serial_device):
            serial_device.serve(handler)
            await serial_port.send(b"A\\n")
            await serial_port.receive()

        def test_blocking(sync_serial_port, serial_device):
            serial_device.serve(handler)
            sync_serial_port.send(b"A\\n")
            sync_serial_port.receive()

        async def test_next_one(serial_port):
            pass
        """,
    )
    outcomes = run.outcomes()
    assert {outcome for name, outcome in outcomes.items() if "next" not in name} == {"failed"}, run.text
    assert {outcome for name, outcome in outcomes.items() if "next" in name} == {"passed"}
    for report in run.reports:
        if report.failed:
            assert ERRORS[what] in report.longreprtext
            assert "SerialClosedError" not in report.longreprtext
            assert report.duration < 1
            if "must be bytes" not in ERRORS[what]:
                assert "fake.py:4" in report.longreprtext
            for internal in ("far_end.py", "/anyio/", "_body.py", "playing.py"):
                assert internal not in report.longreprtext
            assert "handler   handler" in dict(report.sections)["serial_device"]


def test_a_device_is_in_the_report_of_a_failure(project: Project) -> None:
    """P-100: what is held, and what would complete it."""
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_it(serial_port, serial_device):
    serial_device.serve(Supply())
    await ask(serial_port, b"VOLT?\\n", 5)
    await serial_port.send(b"VOLT 5\\r")
    with anyio.fail_after(0.1):
        await serial_port.receive()

async def test_forgotten(serial_port, serial_device):
    await serial_port.send(b"VOLT 5")
""",
    )
    failed = {report.nodeid.partition("::")[2]: report for report in run.reports if report.failed}
    section = dict(failed["test_it[mock-asyncio]"].sections)["serial_device"]
    assert section.splitlines() == [
        "b'VOLT 5\\r' came without its end. terminator(b'\\n') still waits for the terminator b'\\n'",
        "  handler   Supply",
        "  framer    terminator(b'\\n')",
        "  last      b'VOLT?\\n'",
        "  held      b'VOLT 5\\r' (7 bytes)",
        "            56 4f 4c 54 20 35 0d                             |VOLT 5.|",
    ]
    assert "b'VOLT 5' came, and serial_device.serve(...) was not called" in run.problem("test_forgotten[mock-asyncio]")


def test_a_device_is_part_of_a_pair(project: Project) -> None:
    """P-101, P-16: of `serial_factory`, also with `@given`; an error in it is that of the block."""
    run = project.run(
        *ALL,
        plugins=["_hypothesis_pytestplugin"],
        test=f"""{HEAD}
from hypothesis import Phase, given, settings, strategies as st

@settings(max_examples=10, deadline=None, database=None)
@given(volts=st.integers(0, 9))
async def test_given(serial_factory, volts):
    async with serial_factory.device(Supply()) as (port, device):
        assert await ask(port, b"VOLT %d\\nVOLT?\\n" % volts, 5) == b"%d.00\\n" % volts
        assert device.requests[-1] == b"VOLT?\\n"

@settings(phases=[Phase.generate], deadline=None, database=None)
@given(word=st.sampled_from([b"VOLT?", b"X"]))
async def test_error(serial_factory, word):
    async with serial_factory.device(Supply()) as (port, device):
        await port.send(word + b"\\n")
        await port.receive()

async def test_script(serial_factory):
    async with serial_factory.script() as (port, script):
        script.on(b"A").reply(b"B")
        assert await ask(port, b"A", 1) == b"B"

async def test_left_over(serial_factory):
    with pytest.raises(AssertionError, match="1 expectation left over"):
        async with serial_factory.script() as (port, script):
            script.on(b"A").reply(b"B")

async def test_own(serial_factory):
    with pytest.raises(ZeroDivisionError):
        async with serial_factory.device(Supply()) as (port, device):
            1 / 0
""",
    )
    outcomes = run.outcomes()
    assert {outcome for name, outcome in outcomes.items() if "error" not in name} == {"passed"}, run.text
    assert {outcome for name, outcome in outcomes.items() if "error" in name} == {"failed"}
    problem = run.problem("test_error[mock-asyncio]")
    assert "LookupError: no such command: b'X\\n'" in problem
    assert "word=b'X'" in problem


def test_a_device_on_a_bench(project: Project) -> None:
    """P-101, P-103: of real ports, for both kinds of tests."""
    with pty_bench(project.path):
        run = project.run(
            "--serial-hw=hil.toml",
            test=f"""{HEAD}
async def test_it(serial_port, serial_device):
    serial_device.serve(Supply())
    assert await ask(serial_port, b"VOLT?\\n", 5) == b"0.00\\n"

def test_blocking(sync_serial_port, serial_device):
    serial_device.serve(Supply())
    sync_serial_port.send(b"VOLT?\\n")
    assert sync_serial_port.receive(5, timeout=5) == b"0.00\\n"
""",
        )
    assert list(run.outcomes().values()) == ["passed"] * 4, run.text


def test_silence_ends_a_request(project: Project) -> None:
    """P-101: as with Modbus RTU; in virtual time too."""
    run = project.run(
        test=f"""{HEAD}
async def test_it(serial_port, serial_device, serial_clock):
    serial_device.serve(lambda request: b"%d;" % len(request), framer=silence(0.01))
    await serial_port.send(b"abc")
    await anyio.sleep(0.009)
    assert await ask(serial_port, b"de", 2) == b"5;"
    assert serial_clock.time == 0.019
    assert await ask(serial_port, b"f", 2) == b"1;"
"""
    )
    assert sorted(run.outcomes().values()) == ["passed", "passed", "skipped"], run.text


def newline(data: bytes) -> int | None:
    """A framer of the test's own."""
    return data.find(b"\n") + 1 or None


CUTS: dict[str, tuple[AnyFramer, list[bytes]]] = {
    "terminator": (terminator(b"\r\n"), [b"\r\r\n", b"a\r\n", b"\n\r\n"]),
    "length": (length(1, 1), [b"x\x00", b"x\x03abc", b"y\x01z"]),
    "length of two bytes": (length(0, 2, extra=2, order="little"), [b"\x01\x00acc", b"\x00\x00cc"]),
    "length of all": (length(0, 1, extra=-1), [b"\x04abc", b"\x01", b"\x02x"]),
    "fixed": (fixed(3), [b"abc", b"\0\0\0"]),
    "function": (newline, [b"abc\n", b"\n"]),
}


@pytest.mark.parametrize("kind", CUTS)
@given(data=st.data())
def test_requests_are_cut_however_they_come(kind: str, data: st.DataObject) -> None:
    """P-101: a framer finds the same requests in any chunks."""
    framer, requests = CUTS[kind]
    service = Service()
    service.serve(lambda request: None, framer)
    stream = b"".join(requests)
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        service.feed(stream[:size])
        stream = stream[size:]
    assert service.requests == requests
    assert [call.request for call in service.outbox if isinstance(call, HandlerCall)] == requests
    assert service.mismatch is None


MISSING = {
    "terminator": (terminator(b"\r\n"), b"a\r", "the terminator b'\\n'"),
    "field": (length(2, 2), b"abc", "the length field, which ends at byte 4"),
    "length": (length(0, 1), b"\x05ab", "3 of the 6 bytes that its length field asks for"),
    "fixed": (fixed(3), b"a", "2 of 3 bytes"),
    "silence": (silence(0.5), b"a", "silence for 0.5 s"),
    "function": (framer_of(newline), b"a", "what the framer newline looks for"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_framer_names_the_missing_part(kind: str) -> None:
    """P-100: for the report."""
    framer, held, text = MISSING[kind]
    assert isinstance(framer, Framer)
    assert framer.missing(held) == text


def test_a_request_without_an_end_gives_up() -> None:
    """P-101, P-84: memory has a bound."""
    service = Service()
    service.serve(lambda request: None, terminator(b"\n"))
    for _ in range(17):
        service.feed(b"x" * 65_536)
    assert service.mismatch is not None
    assert service.mismatch.startswith("a request without an end, 1114112 bytes so far. terminator(b'\\n') still waits")


WRONG = {
    "terminator('x')": "TypeError: a terminator is at least one byte, not 'x'",
    "length(0, 9)": "ValueError: a length field has at most 8 bytes, not 9",
    "length(-1, 1)": "ValueError: at must be an integer, at least 0, not -1",
    "length(0, 1, order='up')": "ValueError: order is 'big' or 'little', not 'up'",
    "fixed(0)": "ValueError: size must be an integer, at least 1, not 0",
    "silence(0)": "ValueError: silence takes a positive number of seconds, not 0",
    "serial_device.serve(Supply)": "TypeError: serve() takes an object that answers, not a class: serve(Supply())",
    "serial_device.serve(3)": "TypeError: serve() takes a function of one request, or an object with __call__, not 3",
    "serial_device.serve(Supply(), framer=3)": "TypeError: framer must be made by pytest_anyserial.framing, or be",
    "serial_device.every(0, b'')": "ValueError: interval must be more than 0 s",
}


def test_a_wrong_call_is_an_error_where_it_is_made(project: Project) -> None:
    """P-84: with what to write."""
    tests = [f"async def test_{number}(serial_device):\n    {call}\n" for number, call in enumerate(WRONG)]
    project.file("test_it.py", HEAD, *tests)
    run = project.run(*ONE)
    for number, message in enumerate(WRONG.values()):
        assert message in run.problem(f"test_{number}[mock-asyncio]")


def test_script_and_device_exclude_each_other(project: Project) -> None:
    """P-101: both play the far end."""
    run = project.run(*ONE, test="async def test_it(serial_script, serial_device): pass")
    assert run.problem("test_it[mock-asyncio]") == (
        "serial_device and serial_script both play the far end of the link. Use one of them."
    )
