"""Which tests cite which rule: `python tests/rules.py [--uncited] [--group L]`.

A test cites the rules it checks in its docstring: `L-57` (library), `P-12` (plugin), `H-10` (bench), `C11`
(claims). Exits with 1 when a docstring cites an id that does not exist.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = ("tests", "hil")

#: The first and last number of each run of ids, by what stands before the number.
RULES: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "L-": ((1, 223),),
    "P-": (
        *((1, 4), (10, 16), (20, 26), (30, 31), (40, 41), (50, 52), (60, 63), (70, 70), (80, 85)),
        *((100, 117), (120, 125)),
    ),
    "H-": ((1, 6), (10, 13), (20, 22), (30, 32), (40, 43)),
    "A": ((1, 29),),
    "B": ((1, 13),),
    "C": ((1, 47),),
    "D": ((1, 11),),
    "E": ((1, 47),),
}

_ID: Final = re.compile(r"\b([LPH]-|[A-E](?=[1-9]))(\d+)\b")


def known_ids() -> list[str]:
    """Every id there is, in order, written as in the specification."""
    return [
        f"{group}{number:02}" if group.endswith("-") else f"{group}{number}"
        for group, runs in RULES.items()
        for first, last in runs
        for number in range(first, last + 1)
    ]


def cited_ids(docstring: str) -> Iterator[str]:
    """The ids in a docstring, known or not; `B9600` and the like are no ids."""
    for group, number in _ID.findall(docstring):
        if group.endswith("-"):
            yield f"{group}{int(number):02}"
        elif int(number) <= RULES[group][-1][-1]:
            yield f"{group}{number}"


def tests_in(source: str) -> Iterator[tuple[str, str]]:
    """`(name, docstring)` of every test of a module; a class's docstring counts for the class."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and re.match(
            r"test|Test|bench", node.name
        ):
            yield node.name, ast.get_docstring(node) or ""


def citations(files: Iterable[Path]) -> dict[str, list[str]]:
    """Rule id to the tests that cite it, as `file::test`."""
    found: dict[str, list[str]] = {}
    for file in files:
        for name, docstring in tests_in(file.read_text(encoding="utf-8")):
            for rule in dict.fromkeys(cited_ids(docstring)):
                found.setdefault(rule, []).append(f"{file.relative_to(ROOT)}::{name}")
    return found


def test_files() -> list[Path]:
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uncited", action="store_true", help="list only the rules that no test cites")
    parser.add_argument("--group", action="append", choices=[group.rstrip("-") for group in RULES])
    options = parser.parse_args(arguments)

    found = citations(test_files())
    known = known_ids()
    shown = [rule for rule in known if options.group is None or rule[0] in options.group]
    for rule in shown:
        tests = found.get(rule, [])
        if not (options.uncited and tests):
            print(rule, *tests)
    for group in RULES:
        ids = [rule for rule in shown if rule[0] == group[0]]
        if ids:
            print(f"{group[0]}: {sum(rule in found for rule in ids)} of {len(ids)} cited", file=sys.stderr)
    unknown = sorted(found.keys() - set(known))
    for rule in unknown:
        print(f"{rule} is no rule, but is cited by {', '.join(found[rule])}", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
