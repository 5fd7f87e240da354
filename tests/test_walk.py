"""The walk through the tutorial notices what a reader would."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import pages
from .walk import PAGES, Command, Walk, WrongOutputError, steps

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

#: Each has a folder of its own.
OTHERS = [page for page in pages.PAGES if page not in PAGES and any(isinstance(step, Command) for step in steps(page))]

PAGE = """\
```python
# greet.py
print("hello")
```

Text, and more of the file; another one is not shown:

<!-- file
# hidden.txt
moon
-->

```python
# greet.py, continued
print("/tmp/abc", "0.12s")
```

```console
$ export WHO=world
$ cat greet.py > copy.py && echo $WHO
world
```

<!-- fails -->
```console
$ test -e missing
```

```console
$ tail -n 1 copy.py
...("/tmp/other", "9.87s")
$ tail -n 1 hidden.txt
moon
```
"""


def walked(folder: Path, page: str) -> str:
    """The transcript of a walk through a page with this text."""
    path = folder / "page.md"
    path.write_text(page, "utf-8")
    transcript = io.StringIO()
    with Walk(folder, dict(os.environ), transcript) as walk:
        walk.take(path)
    return transcript.getvalue()


def test_a_correct_page_passes(tmp_path: Path) -> None:
    """Files are written and continued, one shell runs everything, unstable parts of an output may differ."""
    transcript = walked(tmp_path, PAGE)
    assert (tmp_path / "greet.py").read_text("utf-8").count("print") == 2
    assert 'print("/tmp/abc", "0.12s")' in transcript


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        pytest.param("world\n", "moon\n", "should print", id="output"),
        pytest.param("<!-- fails -->\n", "", "ended with status 1", id="failure"),
        pytest.param("test -e missing", "true", "ended with status 0", id="success"),
        pytest.param("test -e missing", "exit 3", "the shell ended", id="end"),
    ],
)
def test_a_difference_from_the_page_ends_the_walk(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    """What differs from the page ends the walk, and says where."""
    with pytest.raises(WrongOutputError, match=message):
        walked(tmp_path, PAGE.replace(right, wrong, 1))


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A walk in an empty folder, where everything is installed; `make tutorial` begins earlier."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "project").mkdir()
    for tool, does in (("python3", "mkdir -p .venv/bin && touch .venv/bin/activate"), ("pip", "exit 0")):
        path = tmp_path / "tools" / tool
        path.write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'tools'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        # What a reader has not installed is not loaded.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "-p pytest_anyserial",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # What a reader types at a desk is not typed in CI.
    environment.pop("CI", None)
    with Walk(tmp_path / "project", environment, io.StringIO()) as walk:
        yield walk


@pytest.mark.gate("typing in a page takes seconds")
def test_the_tutorial_passes(walk: Walk) -> None:
    """The tutorial is right, page after page in one folder."""
    for page in PAGES:
        walk.take(page)


@pytest.mark.gate("typing in a page takes seconds")
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_other_pages_pass(walk: Walk, page: Path) -> None:
    """What a page shows of a terminal can be seen there."""
    walk.take(page)
