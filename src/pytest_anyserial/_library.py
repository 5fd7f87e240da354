"""The library that this plugin comes with. Another project publishes a package `anyserial` too.

Both are folders `anyserial`, so whichever pip installed last, or Python finds first, is imported. The library says what
it was installed by, and the plugin asks before it uses it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from ._text import plain

_DISTRIBUTION: Final = "pytest-anyserial"
_OURS: Final = Path(__file__).parent.with_name("anyserial")


class ForeignLibraryError(ImportError):
    """The package `anyserial` that Python finds is not the library of this plugin."""


def require() -> None:
    """Import the library.

    Raises:
        ForeignLibraryError: It is not ours, or only a part of it is left.
    """
    try:
        library = importlib.import_module("anyserial")
    except ImportError as exc:
        if exc.name is None or exc.name.partition(".")[0] != "anyserial":
            raise
        raise ForeignLibraryError(f"'anyserial' cannot be imported ({plain(str(exc))}). {_reinstall()}") from exc
    if getattr(library, "__distribution__", None) != _DISTRIBUTION:
        raise ForeignLibraryError(_advice(_folder(library)))


def require_for_run() -> None:
    """Import the library for a run of pytest.

    Raises:
        pytest.UsageError: It is not ours, or only a part of it is left.
    """
    try:
        require()
    except ForeignLibraryError as exc:
        raise pytest.UsageError(str(exc)) from None


def _advice(folder: Path) -> str:
    found = f"'anyserial' is another package, not this plugin's library: {plain(str(folder))}"
    if folder == _OURS or any(folder.parent.glob("anyserial-*.dist-info")):
        return f"{found}. Only one of the two can be installed. {_reinstall()}"
    parent = plain(str(folder.parent))
    return f"{found} hides {plain(str(_OURS))}. Rename that folder, or take {parent} off sys.path"


def _reinstall() -> str:
    return f"Run: pip uninstall -y anyserial && pip install --force-reinstall --no-deps {_DISTRIBUTION}"


def _folder(library: ModuleType) -> Path:
    """Where a package lies; one that has lost its `__init__.py` is a namespace, and has no file."""
    return Path(library.__file__).parent if library.__file__ else Path(next(iter(library.__path__)))
