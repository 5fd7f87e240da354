"""The last line of a failure names a section of the troubleshooting page: one table, from text to anchor.

The library knows nothing of the page, so its errors are recognised here too, by the names of their classes.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from .frames import causes

TITLE: Final = "serial troubleshooting"
#: The project has no address yet; its metadata would name one, and a test compares the two.
PAGE: Final = "docs/troubleshooting.md"
#: Patterns and the anchors of their sections, the first that matches counts. A pattern matches the beginning of an
#: exception, `Class: message`, or of a section of the report, `title: text`.
ANCHORS: Final = (
    (r"Failed: (serial_script|serial_device): an? (unexpected )?request\b", "a-request-is-unexpected"),
    (r"Failed: serial_script: \d+ expectations? left over", "an-expectation-is-left-over"),
    (r"Failed: serial_faults: \d+ faults? never happened", "a-fault-never-happened"),
    (r"Failed: serial replay: ", "a-recording-does-not-match"),
    (r"\w+: serial_clock: all tasks wait", "virtual-time-stands-still"),
    (r"Failed: this test stands for |Failed: serial_clock needs a loop made", "the-test-runs-on-the-wrong-loop"),
    (r"Failed: mark '(asyncio|trio)', but ", "the-test-runs-on-the-wrong-loop"),
    (r"Failed: the test left \d+ ports? open", "a-port-is-left-open"),
    (r'Failed: link "[^"]*": .* is held by ', "the-port-is-busy"),
    (r'Failed: link "', "the-bench-is-not-what-the-file-says"),
    (r"Failed: needs ", "the-test-is-skipped"),
    (r"Failed: (a mark 'anyserial' came|a `def` test cannot use|fixture ')", "a-fixture-or-mark-is-refused"),
    (r"Failed: (serial_clock needs an|\w+ and \w+ both )", "a-fixture-or-mark-is-refused"),
    (r"PortPermissionError: ", "permission-denied"),
    (r"PortBusyError: ", "the-port-is-busy"),
    (r"(serial_path|serial_peer_path): \S+ was not opened|PortNotFoundError: ", "the-path-does-not-open"),
    (r"Unsupported(Setting|Configuration|Feature)Error: ", "a-setting-is-refused"),
    (r"SerialDisconnectedError: ", "the-device-is-gone"),
    (r"(?s)serial_(script|device): .*(came without its terminator|blocked its event loop)", "the-test-hangs"),
    (r"Failed: Timeout |TimeoutError: ", "the-test-hangs"),
)


def add_to(report: pytest.TestReport, exc: BaseException | None) -> None:
    """Name the section of the page in a failed report, if the table has one for `exc` or for what the report says."""
    raised = [f"{type(each).__name__}: {_text_of(each)}" for each in causes(exc)]
    shown = [f"{title}: {text}" for title, text in report.sections]
    # A timeout says the least, and the sections of the report may tell its cause.
    for text in sorted([*raised, *shown], key=lambda text: text.startswith("TimeoutError: ")):
        for pattern, anchor in ANCHORS:
            if re.match(pattern, text):
                report.sections.append((TITLE, f"see: {PAGE}#{anchor}"))
                return


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        # An error of the project that fails to print is still the project's error.
        return ""
