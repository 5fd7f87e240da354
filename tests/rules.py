"""Which tests cite which rule: `python tests/rules.py [--uncited] [--group L]`.

The rules are the items of `docs/rules/*.md`. A test cites the rules it checks in its docstring: `L-57` (library),
`P-12` (plugin), `H-10` (bench), `C11` (claims). Exits with 1 when a docstring cites an id that does not exist, when no
test cites a rule that is neither `(planned)` nor `(not tested: why)`, and when a test cites one that is not tested.
"""

import argparse
import ast
import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = ("tests", "hil")

#: `B9600` and the like are no ids, `RS-485` and the like neither.
_ID: Final = re.compile(r"\b(?:([LPHWR]-)(\d+)|([A-E])([1-9]\d?))\b")
_ITEM: Final = re.compile(
    r'\* <a id="(?P<id>[A-Z]-\d{2,}|[A-Z]\d+)"></a>\*\*(?P=id)\*\* '
    r"(?:\((?P<mark>planned|not tested: [^)]+)\) )?(?P<text>[^(].+)"
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One item of a page; a mark says why it may have no test."""

    id: str
    mark: str | None
    text: str

    @property
    def group(self) -> str:
        """Its letter."""
        return self.id[0]


def rules_of(page: str) -> Iterator[Rule]:
    """The rules of a page in order; a list item that is no rule is an error."""
    for line in page.splitlines():
        if line.startswith("*"):
            item = _ITEM.fullmatch(line)
            if item is None:
                raise ValueError(f"no rule: {line}")
            yield Rule(item["id"], item["mark"], item["text"])


def known_rules() -> dict[str, Rule]:
    """Every rule there is by its id, page by page."""
    rules: dict[str, Rule] = {}
    for page in sorted((ROOT / "docs" / "rules").glob("*.md")):
        for rule in rules_of(page.read_text(encoding="utf-8")):
            if rule.id in rules:
                raise ValueError(f"{page.name}: {rule.id} is there twice")
            rules[rule.id] = rule
    return rules


def cited_ids(docstring: str) -> Iterator[str]:
    """The ids in a docstring, known or not."""
    for group, number, letter, claim in _ID.findall(docstring):
        yield f"{group}{int(number):02}" if group else f"{letter}{claim}"


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


def mistakes(known: dict[str, Rule], found: dict[str, list[str]]) -> Iterator[str]:
    """What is wrong between rules and tests, one line each."""
    for rule in known.values():
        if rule.id not in found and rule.mark is None:
            yield f"{rule.id} is cited by no test"
        elif rule.id in found and rule.mark not in (None, "planned"):
            yield f"{rule.id} is marked ({rule.mark}), but is cited by {', '.join(found[rule.id])}"
    for rule_id in sorted(found.keys() - known.keys()):
        yield f"{rule_id} is no rule, but is cited by {', '.join(found[rule_id])}"


def main(arguments: list[str]) -> int:
    known = known_rules()
    groups = list(dict.fromkeys(rule.group for rule in known.values()))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uncited", action="store_true", help="list only the rules that no test cites")
    parser.add_argument("--group", action="append", choices=groups)
    options = parser.parse_args(arguments)

    found = citations(test_files())
    shown = [rule for rule in known.values() if options.group is None or rule.group in options.group]
    for rule in shown:
        tests = found.get(rule.id, [])
        if not (options.uncited and tests):
            print(rule.id, *tests, *([f"({rule.mark})"] if rule.mark else []))
    for group in groups:
        ids = [rule.id for rule in shown if rule.group == group]
        if ids:
            print(f"{group}: {sum(rule in found for rule in ids)} of {len(ids)} cited", file=sys.stderr)
    wrong = list(mistakes(known, found))
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
