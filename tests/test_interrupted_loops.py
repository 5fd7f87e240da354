"""No loop of the library, nor of what records a test, has a place where a signal handler that raises skips a handler.

Python 3.12 and 3.13 compile a condition that leads back to the start of a loop to two instructions, and forget that the
second one, at which signals are looked for, stands in a `try` or `with`. A `while True:` that is left by `return` or
`break` has no such place.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType

import pytest

import anyserial
import pytest_anyserial

_LIBRARY, _PLUGIN = (Path(each.__file__).parent for each in (anyserial, pytest_anyserial))

pytestmark = pytest.mark.posix("byte code is the same on every system")

#: What the compiler itself puts around a comprehension: variables get back the values they had.
_RESTORING = {"COPY", "POP_TOP", "RERAISE", "STORE_FAST", "STORE_FAST_MAYBE_NULL", "SWAP"}


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that are defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


class Handlers:
    """The handlers of a code object, by the offset of an instruction."""

    def __init__(self, code: CodeType) -> None:
        self.instructions = list(dis.get_instructions(code))
        self._ranges = dis.Bytecode(code).exception_entries
        self._numbers = {each.offset: number for number, each in enumerate(self.instructions)}

    def of(self, offset: int) -> int | None:
        """The handler that a `try` or `with` in the source has at an instruction."""
        for each in self._ranges:
            if each.start <= offset < each.end:
                return self.of(each.target) if self._is_from_compiler(each.target) else each.target
        return None

    def _is_from_compiler(self, offset: int) -> bool:
        found = self.instructions[self._numbers[offset] :]
        if found[0].opname == "CALL_INTRINSIC_1":
            # It makes a RuntimeError of a StopIteration in a generator.
            return True
        end = next(number for number, each in enumerate(found) if each.opname == "RERAISE")
        return {each.opname for each in found[:end]} <= _RESTORING


def holes(code: CodeType) -> Iterator[int]:
    """The lines of such places."""
    handlers = Handlers(code)
    for before, jump in zip(handlers.instructions, handlers.instructions[1:], strict=False):
        if jump.opname != "JUMP_BACKWARD" or not before.opname.startswith("POP_JUMP_"):
            continue
        if handlers.of(before.offset) not in (None, handlers.of(jump.offset)):
            yield (jump.positions and jump.positions.lineno) or code.co_firstlineno


def found(paths: Iterable[Path]) -> list[str]:
    """The places in these modules."""
    return [
        f"{path.parent.name}/{path.name}:{line} {code.co_qualname}"
        for path in sorted(paths)
        for code in codes(compile(path.read_bytes(), str(path), "exec"))
        for line in holes(code)
    ]


SAMPLE = """
def sent(view, write, guard):
    try:
        while view:
            view = view[write(view) :]
    finally:
        guard[0] = None
"""


@pytest.mark.skipif(sys.version_info[:2] not in {(3, 12), (3, 13)}, reason="only 3.12 and 3.13 forget it")
def test_python_drops_a_loop_condition_from_its_try() -> None:
    """L-104: without this, the next test could not fail."""
    assert [line for code in codes(compile(SAMPLE, "sample", "exec")) for line in holes(code)]


def test_no_loop_of_the_library_leaves_its_try() -> None:
    """L-104, L-152: a signal at any instruction leaves no guard taken. The conformance suite, left out, has none."""
    assert not found([path for path in _LIBRARY.rglob("*.py") if path.name != "_conformance.py"])


def test_no_loop_under_a_lock_of_a_record_leaves_its_try() -> None:
    """L-104: Ctrl-C in a test leaves no transcript and no replay locked, for which the report would wait."""
    names = ("_transcript/transcript.py", "_recordings/player.py", "_recordings/recorder.py")
    assert not found([_PLUGIN / name for name in names])
