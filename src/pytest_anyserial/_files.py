"""Files beside those of the project: a link is never followed, and what the plugin did not write is never replaced."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from ._text import plain

#: Where the system can open a file relative to an open folder, nothing can be put in the folder's place meanwhile.
#: Windows cannot, but there making a link takes a privilege.
_RELATIVE: Final = os.open in os.supports_dir_fd
#: The kinds of reports: a page, and data.
_REPORTS: Final = (".html", ".json")
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def check(option: str, folder: Path) -> None:
    """See whether files can be made in a folder, or the folder where there is none yet.

    Raises:
        pytest.UsageError: They cannot.
    """
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        # Permissions say less than an attempt: file systems are read-only or full, and root is refused nothing.
        tempfile.TemporaryDirectory(prefix=".pytest_anyserial-", dir=nearest).cleanup()
    except OSError as exc:
        raise pytest.UsageError(
            f"{option}: cannot write to {plain(str(nearest))}: {reason(exc)}. Name a folder where you may create files."
        ) from None


def check_report(option: str, file: Path, *, writes: bool) -> None:
    """See whether a report, a page or data by the end of its name, can be written; `writes` if this process will.

    Raises:
        pytest.UsageError: It cannot.
    """
    if file.suffix not in _REPORTS:
        raise pytest.UsageError(f"{option}: its name has to end in {' or '.join(_REPORTS)}")
    if file.suffix == ".html" and importlib.util.find_spec("jinja2") is None:
        raise pytest.UsageError(
            f"{option}: a page needs Jinja2: pip install 'pytest-anyserial[bench]', or name a .json file"
        )
    if file.is_dir():
        raise pytest.UsageError(f"{option}: this is a folder. Name a file in it.")
    if writes:
        check(option, file.parent)


def put_report(file: Path, text: Callable[[], str]) -> str | None:
    """Write what `text` returns to a report, with its folder; return why that failed, or None."""
    try:
        content = text()
        file.parent.mkdir(parents=True, exist_ok=True)
        put(file.parent.resolve(), file.name, [content])
    except Exception as exc:
        # Even a mistake of ours must not hide what the tests have found.
        return reason(exc)
    return None


def make(folder: Path) -> None:
    """Make a folder that git ignores; a folder that is there stays as it is.

    Raises:
        OSError: It is not there, and cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    with (folder / ".gitignore").open("x", encoding="ascii") as file:
        file.write("*\n")


def put(folder: Path, name: str, content: Iterable[str] | Iterable[bytes]) -> None:
    """Write a file, and once it is whole put it in the place of one of that name, be that a link or a file.

    Raises:
        OSError: It cannot be written, or the folder is a link.
    """
    at = os.open(folder, _FOLDER) if _RELATIVE else None
    draft, final = (part if _RELATIVE else str(folder / part) for part in (f".{name}.{secrets.token_hex(8)}", name))
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=at)
        try:
            with open(descriptor, "wb") as file:
                file.writelines(part.encode() if isinstance(part, str) else part for part in content)
            os.replace(draft, final, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=at)
            raise
    finally:
        if at is not None:
            os.close(at)


def named_after(test: str) -> str:
    """A file name on every system: words of the id, and what tells it from other ids with the same words."""
    words = re.sub(r"[^A-Za-z0-9_.=]+", "-", test)[:100].strip("-.")
    return f"{words}-{hashlib.blake2s(test.encode(), digest_size=8).hexdigest()}"


def reason(exc: Exception) -> str:
    """Why a file could not be written, for a message that names the file itself."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return plain(f"{type(exc).__name__}: {exc}")
