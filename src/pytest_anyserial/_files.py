"""Files beside those of the project: a link is never followed, and what the plugin did not write is never replaced."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from ._text import plain

#: Where the system can open a file relative to an open folder, nothing can be put in the folder's place meanwhile.
#: Windows cannot, but there making a link takes a privilege.
_RELATIVE: Final = os.open in os.supports_dir_fd
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
