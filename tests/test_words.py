"""Words that make a text hard to read: each file has a number of them in `words.txt`, and the numbers only shrink.

`python tests/test_words.py --fix` lowers the numbers to what the files have today.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

ROOT = Path(__file__).resolve().parents[1]
BASELINE = Path(__file__).with_name("words.txt")
WORDS = re.compile(r"\b(?:shall|whoever|nobody|somebody|anew|is\s+told|of\s+his\s+own|likewise)\b", re.IGNORECASE)


def counts() -> dict[str, int]:
    """How many of the words each text has; a text without any is left out."""
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    texts += (ROOT / "src").rglob("*.json")
    found = {
        text.relative_to(ROOT).as_posix(): len(WORDS.findall(text.read_text("utf-8")))
        for text in texts
        if "/." not in text.relative_to(ROOT).as_posix()
    }
    return {name: count for name, count in sorted(found.items()) if count}


def baseline() -> dict[str, int]:
    lines = (line.split() for line in BASELINE.read_text("utf-8").splitlines())
    return {name: int(count) for count, name in lines}


def complaints(now: Mapping[str, int], allowed: Mapping[str, int]) -> list[str]:
    """One line for each text that has more words or fewer than `allowed`."""
    lines = []
    for name in sorted({*now, *allowed}):
        count, limit = now.get(name, 0), allowed.get(name, 0)
        if count > limit:
            lines.append(f"{name}: {count} of the words, {limit} allowed; find them with the pattern in {__file__}")
        elif count < limit:
            lines.append(f"{name}: {count} of the words, {limit} allowed; lower it: python tests/test_words.py --fix")
    return lines


def test_no_text_gets_harder_to_read() -> None:
    """The number of listed words in a text never grows, and a lower number is kept."""
    assert complaints(counts(), baseline()) == []


@pytest.mark.parametrize(("now", "hint"), [(2, "find them"), (0, "--fix")])
def test_a_changed_number_is_reported(now: int, hint: str) -> None:
    """More words than the baseline and fewer both fail, with the next step."""
    (line,) = complaints({"a.md": now} if now else {}, {"a.md": 1})
    assert line.startswith(f"a.md: {now} of the words, 1 allowed")
    assert hint in line


def fix() -> None:
    """Lower the numbers of the baseline; a text that has more words than before keeps its number."""
    now = counts()
    allowed = baseline() if BASELINE.exists() else now
    kept = {name: min(count, allowed.get(name, 0)) for name, count in now.items()}
    BASELINE.write_text("".join(f"{count} {name}\n" for name, count in kept.items() if count), "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit("usage: python tests/test_words.py --fix")
    fix()
