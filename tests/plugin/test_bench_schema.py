"""The bench file and chance: the JSON schema says what the validation does, and no file is more than an error."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_anyserial
from pytest_anyserial._bench.file import BenchFileError, SerialBench, load, parse
from pytest_anyserial._bench.schema import FILE, json_schema
from pytest_anyserial._bench.shapes import (
    Array,
    Choice,
    Flag,
    Integer,
    Named,
    Problem,
    Seconds,
    Shape,
    Table,
    Text,
    UsbId,
)

from .test_bench_file import FULL

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

VALIDATOR = jsonschema.Draft202012Validator(json_schema())

# Python's `$` also matches before a last line feed, unlike that of JSON schema; and to a JSON schema 5.0 is an integer.
TEXTS = st.text(max_size=8).filter(lambda text: not text.endswith("\n"))
FLOATS = st.sampled_from([0.5, 1.5, -0.5, 1e300])
LEAVES = st.one_of(
    TEXTS,
    st.integers(),
    st.sampled_from([2**32, 10**100, -1, 0, 1, 65536]),
    FLOATS,
    st.booleans(),
    st.dates(),
    st.just(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
)
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.from_regex(r"[a-d][a-z0-9_-]?", fullmatch=True)


def right(shape: Shape, inner: Any) -> st.SearchStrategy[Any]:
    """Values of a shape, whose parts are drawn from `inner(shape of the part)`."""
    match shape:
        case Text(pattern=pattern):
            return st.sampled_from(["a", "b", "c"]) if pattern == Text("").pattern else st.just("x-label")
        case Integer(low=low, high=high):
            return st.integers(low, high)
        case Seconds(high=high):
            return st.floats(0.1, 0.9) | st.integers(0, int(high))
        case Flag():
            return st.booleans()
        case Choice(values=values):
            return st.sampled_from(values)
        case UsbId():
            return st.integers(0, 0xFFFF) | st.integers(0, 0xFFFF).map("{:x}".format)
        case Array(item=item, least=least, most=most):
            return st.lists(inner(item), min_size=least, max_size=most or 3)
        case Table(keys=keys, required=required):
            parts = {key: inner(part) for key, part in keys.items()}
            optional = {key: parts.pop(key) for key in keys if key not in required}
            return st.fixed_dictionaries(parts, optional=optional)
        case Named(item=item, least=least):
            return st.dictionaries(NAMES, inner(item), min_size=least, max_size=3)
        case _:
            raise AssertionError(shape)


def sound(shape: Shape) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: right(shape, sound))


def spoilt(shape: Shape) -> st.SearchStrategy[Any]:
    """Mostly right, but anything may be replaced, and tables may have keys too many."""
    strategy = st.deferred(lambda: right(shape, spoilt))
    if isinstance(shape, Table | Named):
        strategy = st.builds(lambda table, more: more | table, strategy, st.just({}) | st.dictionaries(TEXTS, JUNK))
    return st.integers(0, 19).flatmap(lambda die: JUNK if die == 7 else strategy)


def check(data: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    FILE.check(data, (), problems)
    return problems


def test_the_shipped_schema_is_the_one_that_the_table_generates() -> None:
    """H-06: refresh it with `python -m pytest_anyserial schema > src/pytest_anyserial/bench.schema.json`."""
    shipped = resources.files(pytest_anyserial).joinpath("bench.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json_schema()
    VALIDATOR.check_schema(json_schema())


def test_every_key_of_the_schema_is_described() -> None:
    """H-06: editors show it."""

    def undescribed(schema: dict[str, Any], name: str) -> list[str]:
        parts = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
        if "items" in schema:
            parts["items"] = schema["items"]
        missing = [name] if "description" not in schema else []
        return missing + [key for part, inner in parts.items() for key in undescribed(inner, f"{name}.{part}")]

    assert undescribed(json_schema(), "hil.toml") == []


@given(data=sound(FILE) | spoilt(FILE))
def test_schema_and_validation_agree(data: Any) -> None:
    """H-01, H-06: on every table that they can both judge, which is all but relations between entries."""
    try:
        accepted = VALIDATOR.is_valid(data)
    except TypeError:
        # jsonschema sorts values to find equal ones, and dates do not sort with numbers.
        accepted = False
    assert (check(data) == []) is accepted


def bench_or_problems(call: Callable[[], SerialBench]) -> tuple[str, ...]:
    try:
        assert isinstance(call(), SerialBench)
    except BenchFileError as exc:
        return exc.problems
    return ()


@given(data=(sound(FILE) | spoilt(FILE) | JUNK).filter(lambda data: isinstance(data, dict)))
def test_any_table_is_a_bench_or_our_error(data: dict[str, Any]) -> None:
    """H-01: whatever is in it, and every problem on one line."""
    for problem in bench_or_problems(lambda: parse(data, Path("hil.toml"))):
        assert problem.startswith("hil.toml: ")
        assert problem.isprintable()


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hil.toml")
        path.write_bytes(content)
        for problem in bench_or_problems(lambda: load(path)):
            assert problem.startswith(f"{path}: ")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_bench_or_our_error(content: bytes) -> None:
    """H-01: a file need not even be text."""
    read(content)


@given(data=st.data())
def test_a_damaged_file_is_a_bench_or_our_error(data: st.DataObject) -> None:
    """H-01: pieces of a good file replaced by pieces of it, or by anything."""
    content = FULL.encode()
    places = st.integers(0, len(content))
    for _ in range(data.draw(st.integers(1, 3))):
        start, stop = sorted((data.draw(places), data.draw(places)))
        piece = data.draw(st.binary(max_size=5) | st.sampled_from([b'"', b"[", b"]]", b"\n", b"9" * 5000, b"=", b"{"]))
        content = content[:start] + piece + content[min(stop, start + 40) :]
    read(content)


@pytest.mark.parametrize("content", [b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"a = 0x" + b"f" * 20000, b"\xff"])
def test_files_that_crash_the_toml_parser_are_refused(tmp_path: Path, content: bytes) -> None:
    """H-01: deep nesting, endless numbers, no text."""
    path = tmp_path / "hil.toml"
    path.write_bytes(content)
    with pytest.raises(BenchFileError):
        load(path)
