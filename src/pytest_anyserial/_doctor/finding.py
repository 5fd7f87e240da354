"""A finding of an examination: verdict, fact and next step, always as plain text."""

from __future__ import annotations

import dataclasses
import enum

from .._text import plain_lines


class Verdict(enum.StrEnum):
    """The severity of a finding; only a problem makes the doctor fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `advice` is the next step, if there is one."""

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        # Names of devices, processes and paths may contain escape sequences, and findings are printed on terminals.
        object.__setattr__(self, "text", plain_lines(self.text))
        object.__setattr__(self, "advice", plain_lines(self.advice))


def ok(check: str, text: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(check, Verdict.OK, text)


def warning(check: str, text: str, advice: str) -> Finding:
    """Return the finding of a subject that works, but may be slow or fail later."""
    return Finding(check, Verdict.WARNING, text, advice)


def problem(check: str, text: str, advice: str = "") -> Finding:
    """Return the finding of a subject that cannot be used; the doctor fails."""
    return Finding(check, Verdict.PROBLEM, text, advice)


def skipped(check: str, text: str) -> Finding:
    """Return the finding of a skipped check, with the reason."""
    return Finding(check, Verdict.SKIPPED, text)
