"""The options for recording and replay. Combinations that cannot work are refused before the first test."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest

from .. import _files
from .._options import PACES, REPLAY, UNRECORDED, chosen_links, unknown
from .._text import plain

_DAY: Final = 86_400.0
_UNITS: Final = {"d": _DAY, "w": 7 * _DAY}


def check(config: pytest.Config) -> None:
    """Check whether this run can record and replay as its options say.

    Raises:
        pytest.UsageError: It cannot; the text says why.
    """
    if pace(config) == "virtual" and REPLAY in chosen_links(config) and chosen_links(config) != (REPLAY,):
        raise pytest.UsageError(
            "--serial-replay-pace=virtual changes the time of all tests: select the link replay alone, "
            "with --serial-links=replay"
        )
    max_age(config)
    if REPLAY in chosen_links(config):
        _check_replay(config)
    if record_folder(config) is not None:
        _check_record(config)


def _check_record(config: pytest.Config) -> None:
    folder = record_folder(config)
    assert folder is not None
    if os.environ.get("CI") and not config.getoption("--serial-record-in-ci"):
        raise pytest.UsageError(
            "--serial-record: nothing is recorded where CI is set, because a recording is reviewed before it counts. "
            "Record on your bench, or add --serial-record-in-ci."
        )
    links = chosen_links(config)
    if all(link in UNRECORDED for link in links):
        raise pytest.UsageError(
            f"--serial-record: no selected link can be recorded, only {' and '.join(links)}: "
            "add --serial-hw=hil.toml or --serial-links=pty"
        )
    if config.getoption("dist", "no") == "each":
        raise pytest.UsageError(
            "--serial-record: with --dist=each all workers would write the same files. Choose another --dist."
        )
    if not hasattr(config, "workerinput"):
        _files.check("--serial-record", folder)


def _check_replay(config: pytest.Config) -> None:
    folder = recordings_folder(config)
    if folder is None:
        raise pytest.UsageError(
            "link 'replay' needs recordings: name their folder with --serial-recordings=DIR, or with the ini option "
            "anyserial_recordings"
        )
    if not folder.is_dir():
        raise pytest.UsageError(
            f"link 'replay': there is no folder {plain(shown(folder))}. Make recordings with "
            f"--serial-record={plain(shown(folder))}, or name another folder with --serial-recordings=DIR."
        )


def record_folder(config: pytest.Config) -> Path | None:
    """Return the folder for new recordings; None if nothing is recorded."""
    given: str | None = config.getoption("--serial-record")
    return None if given is None else config.invocation_params.dir / given


def recordings_folder(config: pytest.Config) -> Path | None:
    """Return the folder of recordings to replay; None if neither the option nor the ini setting names one."""
    given: str | None = config.getoption("--serial-recordings")
    if given is not None:
        return config.invocation_params.dir / given
    given = config.getini("anyserial_recordings")
    base = config.rootpath if config.inipath is None else config.inipath.parent
    return base / given if given else None


def pace(config: pytest.Config) -> str:
    """Return the pace of a replay, one of `PACES`.

    Raises:
        pytest.UsageError: The option has another value.
    """
    given = str(config.getoption("--serial-replay-pace"))
    if given not in PACES:
        raise pytest.UsageError(f"--serial-replay-pace: {unknown('pace', given, PACES)}")
    return given


def max_age(config: pytest.Config) -> float | None:
    """Return the age in seconds from which a recording is reported as old; None for never.

    Raises:
        pytest.UsageError: The ini setting is not a length of time.
    """
    given: str = config.getini("anyserial_recording_max_age")
    if not given:
        return None
    match = re.fullmatch(r"(\d{1,6})([dw])", given)
    if match is None:
        raise pytest.UsageError(
            f"ini option anyserial_recording_max_age: {given!r} is no length of time: write 90d or 26w"
        )
    return int(match[1]) * _UNITS[match[2]]


def record_command(item: pytest.Item, folder: Path, link: str = "") -> str:
    """Return the command that records a test on the kind of link that it was recorded on."""
    bench: str | None = item.config.getoption("serial_hw") or item.config.getini("anyserial_hw")
    where = "--serial-links=pty" if link == "pty" else f"--serial-hw={bench or 'hil.toml'}"
    test = item.nodeid.partition("[")[0]
    return plain(f"pytest --serial-record={shlex.quote(shown(folder))} {where} {shlex.quote(test)}")


def shown(path: Path) -> str:
    """Return a path for messages: relative to the current folder if it is inside."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def event_filter(item: pytest.Item) -> Any:
    """Return the function that passes each event through the hooks of the project before it is written."""
    hook = item.ihook.pytest_anyserial_recording_event

    def apply_hooks(event: dict[str, Any]) -> Any:
        changed = hook(item=item, event=event)
        return event if changed is None else changed

    return apply_hooks
