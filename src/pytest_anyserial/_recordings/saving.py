"""Save the recording of a test that has passed."""

from __future__ import annotations

import time

import pytest

from .. import _files, _loops
from .._keys import RECORDER
from .._text import plain
from .key import key_of
from .recorder import Recorder
from .settings import event_filter, record_folder, shown


def recorder_for(item: pytest.Function) -> Recorder:
    """Return the recorder of a test."""
    params = item.callspec.params
    backend = params.get("anyio_backend")
    about = {
        "test": key_of(item).test,
        "link": params["serial_link"],
        "loop": None if backend is None else _loops.claimed(backend).word,
    }
    return Recorder(about, time.monotonic)


def save(item: pytest.Function) -> None:
    """Write the recording; an earlier one is replaced.

    Raises:
        Failed: The file cannot be written.
    """
    __tracebackhide__ = True
    folder = record_folder(item.config)
    assert folder is not None
    name = key_of(item).file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _files.put(folder, name, item.stash[RECORDER].lines(event_filter(item)))
        item.stash[RECORDER].file = name
    except OSError as exc:
        pytest.fail(
            f"the recording could not be written: {plain(shown(folder / name))}: {_files.reason(exc)}", pytrace=False
        )
