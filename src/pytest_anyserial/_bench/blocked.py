"""What a bench is to blame for: the family of its errors, and the outcome of a test that one of them has blocked.

An error of this family says what was wrong, with which part of the bench, and what mends it. It is raised where that is
known. The library's own errors are put into words here, because they know nothing of a bench.
"""

from __future__ import annotations

import shlex
from typing import ClassVar, Final, NamedTuple

import pytest

from anyserial import PortBusyError, PortNotFoundError, PortPermissionError, SerialDisconnectedError, SerialError

from .._text import plain_lines

#: The command that examines a bench.
DOCTOR: Final = "python -m pytest_anyserial doctor {file}"
#: The command that names holders.
WHO: Final = "python -m pytest_anyserial who {file}"


_ATTRIBUTE: Final = "anyserial_blocked"


class Blocked(NamedTuple):
    """What has blocked a test.

    Attributes:
        kind: What was wrong, in few words: `"device missing"`. Tests are grouped by it.
        subject: Which part of the bench: `"ports.a"`.
        reason: The whole message.
        mend: The command that leads to the cause and names the next step.
    """

    kind: str
    subject: str
    reason: str
    mend: str


class BenchError(Exception):
    """The bench is to blame.

    Attributes:
        kind: What is wrong, in few words.
        subject: Which part of the bench; empty if the caller knows it better.
        mend: The command that leads to the cause; `{file}` stands for the bench file.
    """

    kind: ClassVar[str] = "bench not usable"
    mend: ClassVar[str] = DOCTOR

    def __init__(self, text: str, *, subject: str = "") -> None:
        super().__init__(text)
        self.subject = subject


def blocked_outcome(text: str, blocked: Blocked) -> BaseException:
    """Return what to raise to end a test that the bench has blocked; `text` is what its report shows."""
    raised = pytest.fail.Exception(text, pytrace=False)
    setattr(raised, _ATTRIBUTE, blocked)
    return raised


def blocked_in(exc: BaseException) -> Blocked | None:
    """Return what has blocked a test that ended with a `blocked_outcome`; None for any other exception."""
    found: Blocked | None = getattr(exc, _ATTRIBUTE, None)
    return found


def blocked_by(exc: BenchError | SerialError, subject: str, file: str) -> Blocked:
    """Say what an error of a bench, or of opening one of its ports, means.

    Args:
        exc: The error.
        subject: The part of the bench, if the error does not name it.
        file: The bench file, as messages name it.
    """
    kind, mend = (exc.kind, exc.mend) if isinstance(exc, BenchError) else (_kind(exc), DOCTOR)
    subject = (exc.subject if isinstance(exc, BenchError) else "") or subject
    return Blocked(kind, subject, plain_lines(str(exc)), mend.format(file=shlex.quote(file)))


def _kind(exc: SerialError) -> str:
    if isinstance(exc, PortPermissionError):
        return "port not permitted"
    if isinstance(exc, PortBusyError):
        return "port busy"
    if isinstance(exc, PortNotFoundError | SerialDisconnectedError):
        return "server away" if "://" in str(exc.filename) else "device gone"
    return "port not usable"
