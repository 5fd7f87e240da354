"""What the pages show runs: programs on every loop, tests on every link and loop, everything else as it stands."""

from __future__ import annotations

import ast
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from anyserial import SerialError, sync
from anyserial.testing import mock_pair

from .pages import PAGES, TUTORIAL, Block, blocks

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

BLOCKS = [block for page in PAGES if TUTORIAL not in page.parents for block in blocks(page)]
#: The device that the examples open.
DEVICE = "/dev/ttyUSB0"


def is_program(block: Block) -> bool:
    """Whether the block ends in `anyio.run(main)`."""
    return bool(block.tree.body) and ast.unparse(block.tree.body[-1]) == "anyio.run(main)"


def parameters(found: list[Block]) -> list[Any]:
    return [
        pytest.param(block, id=block.place, marks=[pytest.mark.skip(reason=block.not_run)] if block.not_run else [])
        for block in found
    ]


RUN = [block for block in BLOCKS if not (block.title or block.tests)]
PROGRAMS = [block for block in RUN if is_program(block)]
STATEMENTS = [block for block in RUN if not is_program(block)]


@pytest.fixture(autouse=True)
def the_usual_portal() -> Iterator[None]:
    """Blocking ports run on the usual loop again, whatever an example chose."""
    yield
    sync.configure_portal()


@contextlib.contextmanager
def instrument() -> Iterator[None]:
    """The device that the examples open: it answers every line."""

    def answer() -> None:
        with contextlib.suppress(SerialError):
            while True:
                if far_end.receive().endswith(b"\n"):
                    far_end.send(b"ACME,1\n", timeout=20)

    with mock_pair(path_a=DEVICE) as pair:
        with sync.open_serial_port(pair.path_b) as far_end:
            thread = threading.Thread(target=answer)
            thread.start()
            yield
        thread.join(20)
        assert not thread.is_alive()


def names_of(block: Block, last: int | None = None) -> dict[str, Any]:
    """Run the statements up to `last`; the names that they define."""
    names: dict[str, Any] = {}
    exec(compile(ast.Module(block.tree.body[:last], []), str(block.page), "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize("block", parameters(PROGRAMS))
def test_programs_run(block: Block, anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """C2, A1, A2: a program on a page does what it says, on every loop."""
    main = names_of(block, -1)["main"]

    async def bounded() -> None:
        with anyio.fail_after(20):
            await main()

    name, options = anyio_backend
    # The adapter that a page is about is not on this machine.
    with instrument(), contextlib.suppress(SystemExit):
        anyio.run(bounded, backend=name, backend_options=options)


@pytest.mark.parametrize("block", parameters(STATEMENTS))
def test_statements_run(block: Block) -> None:
    """C2: what is on a page can be pasted."""
    with instrument() if DEVICE in block.code else contextlib.nullcontext():
        names_of(block)


def test_tests_pass(pytester: pytest.Pytester) -> None:
    """C2, B10, B11, P-116: the tests that pages show, and those that they hide, pass beside the files of the pages."""
    expected = []
    for block in (block for block in BLOCKS if block.title or block.tests):
        file = pytester.path / (block.title or f"test_{block.page.stem.replace('-', '_')}_{block.line}.py")
        assert not file.exists(), f"{block.place}: another page has a {file.name} too; give this one a name of its own"
        file.write_text(block.code, "utf-8")
        outcome = "SKIPPED" if block.not_run else "PASSED"
        expected += [f"{file.name}::{test}[[ ]*{outcome}*" for test in block.tests]
    pytester.makepyfile(few="from hypothesis import settings\nsettings.register_profile('few', max_examples=10)\n")
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess(
        "-v", "--serial-links=mock,pty", "-p", "no:randomly", "-p", "few", "--hypothesis-profile=few"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(expected)
