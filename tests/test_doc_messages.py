"""Messages that the pages quote are messages of the code."""

from __future__ import annotations

import pytest

from .pages import DOCS, PAGES, ROOT
from .quotes import Quote, is_code, lines_of, quotes, terminal
from .spoken import Speaker

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

SPEAKER = Speaker(file.read_text("utf-8") for file in sorted((ROOT / "src").rglob("*.py")))
QUOTES = [quote for page in PAGES for quote in quotes(page, page.read_text("utf-8"))]
DOCTOR = DOCS / "doctor.svg"

#: A module, in short.
SOURCE = '''
"""Says how ports are lost."""

def text(name, place, more):
    lines = [f"port {name!r} is gone, plug it in at {place}{' again' if more else ''}"]
    why = "the driver " + f"refuses {name}"
    why += ", for now"
    if more:
        return f"{name}: {why}", "lost"
    return f"needs {name}: {why} ({', '.join(lines)})", why
'''


@pytest.mark.parametrize("quote", [pytest.param(quote, id=f"{quote.place} {quote.lines[0]}") for quote in QUOTES])
def test_quoted_messages_exist(quote: Quote) -> None:
    """A reader who searches a page for a message finds what the code says."""
    unsaid = SPEAKER.unsaid(quote.lines, whole=quote.whole)
    assert unsaid is None, (
        f"{quote.place} quotes {unsaid!r}, which nothing in src/ says. Quote what it does say, with `...` for what is "
        "left out. If it is no message, put it in italics, or `<!-- not looked up: why -->` before the block."
    )


def test_the_doctor_prints_the_output_in_its_picture() -> None:
    """What he finds depends on the machine, and so can be looked up only."""
    assert SPEAKER.unsaid(list(lines_of(terminal(DOCTOR))), whole=True) is None


@pytest.mark.parametrize(
    ("quote", "said"),
    [
        ("port 'a' is gone", True),
        ("is gone, plug it", True),
        ("plug it in at the back again", False),
        ("port 'a' is lost", False),
        ("anything at all", False),
        ("anything: at all", False),
        ("how ports are lost", False),
        ("needs hub1: the driver refuses TIOCGRS485, for now (", True),
        ("needs hub1: the driver rejects TIOCGRS485, for now (", False),
        ("/dev/ttyS4 (0403:6001)", True),
    ],
)
def test_a_part_of_a_message_is_known(quote: str, said: bool) -> None:
    """Values stand for data, for a word or for what is said itself; words stand for themselves."""
    assert (Speaker([SOURCE]).unsaid([quote], whole=False) is None) is said


def test_whole_messages_are_known() -> None:
    """A message may take several lines; none of it may be missing."""
    lines = ["needs hub1: the driver refuses TIOCGRS485, for now (port 'a' is gone, plug it", "in at 1-4 again)"]
    speaker = Speaker([SOURCE])
    assert speaker.unsaid(lines, whole=True) is None
    assert speaker.unsaid(lines[:1], whole=True) == lines[0]
    assert speaker.unsaid(["lost", "is gone"], whole=True) == "is gone"


@pytest.mark.parametrize("line", ["hub1: broken", "hub1: lost again", "broken: lost", "port 'a' is gone, plug it in"])
def test_values_alone_are_not_a_message(line: str) -> None:
    """Where a template has no word of its own, its values have to be said, and a message has an end."""
    assert Speaker([SOURCE]).unsaid([line], whole=True) == line


PAGE = """\
It says `port gone`, "no port" or `a ... b c`, not *no message*, `lost`, or `pytest -n auto`.

| it says | do |
|---|---|
| `gone` | `plug it` in |

    $ pytest
    port gone,
      for ever

<!-- not looked up: a drawing -->
```
a port
```

```text
== title ==
┌────┬────────────┐
│ ok │ all is     │
│    │ well       │
│    │ -> be glad │
└────┴────────────┘
```

```console
typed elsewhere
```

* in a list

  ```console
  where nobody types
  ```
"""


def test_every_quoted_message_is_found() -> None:
    """In code, in quotation marks, in tables and in blocks; each with its line, and without what is no message."""
    found = [(quote.line, quote.whole, quote.lines) for quote in quotes(ROOT / "page.md", PAGE)]
    assert found == [
        (1, False, ("port gone",)),
        (1, False, ("a",)),
        (1, False, ("b c",)),
        (1, False, ("no port",)),
        (5, False, ("gone",)),
        (5, False, ("plug it",)),
        (7, True, ("port gone,", "for ever")),
        (16, True, ("title", "ok", "all is well", "-> be glad")),
        (31, True, ("where nobody types",)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "make test",
        "python -m pytest_anyserial who",
        "--serial-hw=hil.toml --serial-links=hw",
        "hil/virtual/control unplug ftdi-a",
        "async def",
        "await port.line_errors()",
        "bytesize=7, parity='E'",
        ".reply(data, after=s)",
        "from pytest_anyserial import SerialScript, ...",
        "open = { low_latency = true }",
        "# name.py",
    ],
)
def test_code_is_no_message(text: str) -> None:
    """Commands, Python and TOML are told from what somebody says."""
    assert is_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "make sure that it is open",
        "python is too old",
        "--serial-links: unknown link 'mok'",
        "/dev/ttyUSB0 is gone",
        "port: gone",
        "gone is gone",
        "gone (again)",
        "await the end",
    ],
)
def test_messages_are_no_code(text: str) -> None:
    """Not even if they begin like it, or happen to be valid."""
    assert not is_code(text)
