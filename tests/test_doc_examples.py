"""What the pages show runs: programs on every loop, tests on every link and loop, everything else as it stands."""

from __future__ import annotations

import ast
import contextlib
import os
import threading
from collections.abc import Iterator
from types import CodeType
from typing import Any

import anyio
import pytest

from anyserial import sync
from anyserial.testing import pty_pair

from .pages import PAGES, TUTORIAL, Block, blocks

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


@pytest.fixture
def instrument() -> Iterator[str]:
    """A path whose far end answers every line; it hangs up in the end."""

    def answer(far_end: int) -> None:
        with contextlib.suppress(OSError):
            while received := os.read(far_end, 512):
                if received.endswith(b"\n"):
                    os.write(far_end, b"ACME,1\n")
        os.close(far_end)

    with pty_pair() as ptys:
        thread = threading.Thread(target=answer, args=(os.open(ptys.path_b, os.O_RDWR | os.O_NOCTTY),))
        thread.start()
        yield ptys.path_a
    thread.join(20)
    assert not thread.is_alive()


def compiled(block: Block, path: str, last: int | None = None) -> CodeType:
    """The statements up to `last`, with `path` in place of the device."""
    tree = ast.Module(block.tree.body[:last], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == DEVICE:
            node.value = path
    return compile(tree, str(block.page), "exec", dont_inherit=True)


@pytest.mark.parametrize("block", parameters(PROGRAMS))
def test_programs_run(block: Block, instrument: str, anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """C2, A1, A2: a program on a page does what it says, on every loop."""
    names: dict[str, Any] = {}
    exec(compiled(block, instrument, -1), names)

    async def bounded() -> None:
        with anyio.fail_after(20):
            await names["main"]()

    name, options = anyio_backend
    # The adapter that a page is about is not on this machine.
    with contextlib.suppress(SystemExit):
        anyio.run(bounded, backend=name, backend_options=options)


@pytest.mark.parametrize("block", parameters(STATEMENTS))
def test_statements_run(block: Block, instrument: str) -> None:
    """C2: what is on a page can be pasted."""
    exec(compiled(block, instrument), {})


def test_tests_pass(pytester: pytest.Pytester) -> None:
    """C2, B10, B11: the tests that pages show, and those that they hide, pass beside the files of the pages."""
    expected = []
    for block in (block for block in BLOCKS if block.title or block.tests):
        file = pytester.path / (block.title or f"test_{block.page.stem.replace('-', '_')}_{block.line}.py")
        assert not file.exists(), f"{block.place}: another page has a {file.name} too; give this one a name of its own"
        file.write_text(block.code, "utf-8")
        expected += [f"{file.name}::{test}[[ ]*PASSED*" for test in block.tests]
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess("-v", "--serial-links=mock,pty", "-p", "no:randomly")
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(expected)
