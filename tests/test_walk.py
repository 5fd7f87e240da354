"""The walk through the tutorial notices what a reader would."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from .walk import Walk, WrongOutputError

PAGE = """\
```python
# greet.py
print("hello")
```

Text, and more of the file:

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


def test_a_page_that_is_right(tmp_path: Path) -> None:
    """Files are written and continued, one shell runs everything, unstable parts of an output may differ."""
    transcript = walked(tmp_path, PAGE)
    assert (tmp_path / "greet.py").read_text("utf-8").count("print") == 2
    assert transcript.splitlines()[-1] == 'print("/tmp/abc", "0.12s")'


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        pytest.param("world\n", "moon\n", "should print", id="output"),
        pytest.param("<!-- fails -->\n", "", "ended with status 1", id="failure"),
        pytest.param("test -e missing", "true", "ended with status 0", id="success"),
        pytest.param("test -e missing", "exit 3", "the shell ended", id="end"),
    ],
)
def test_a_page_that_is_wrong(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    """What differs from the page ends the walk, and says where."""
    with pytest.raises(WrongOutputError, match=message):
        walked(tmp_path, PAGE.replace(right, wrong, 1))
