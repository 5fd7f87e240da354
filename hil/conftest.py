"""The kit: suites that hold a bench of real adapters against what serial ports should do.

`pytest --serial-hw=hil.toml hil/` runs them on every link of a bench, `pytest --serial-links=mock,pty hil/` runs what
needs no hardware, without any.
"""

from __future__ import annotations

import re

import pytest

_UNITS = {"s": 1, "m": 60, "h": 3600}


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise pytest.UsageError(f"--serial-soak: {text!r} is no length of time: write 90s, 10m or 8h")
    return float(match[1]) * _UNITS[match[2] or "s"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("anyserial")
    group.addoption(
        "--serial-soak",
        metavar="TIME",
        type=_duration,
        help="Let test_soak.py pass traffic for so long on each link, such as 90s, 10m or 8h. Default: skip it.",
    )
    group.addoption(
        "--serial-unplugs",
        metavar="N",
        type=int,
        default=50,
        help="How often test_unplug.py pulls the plug of each link at a random moment. Default: %(default)s.",
    )


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> float:
    """How long to soak, in seconds."""
    seconds: float | None = request.config.getoption("--serial-soak")
    if seconds is None:
        pytest.skip("takes as long as you like: say --serial-soak=10m")
    return seconds


@pytest.fixture
def unplugs(request: pytest.FixtureRequest) -> int:
    """How often to pull the plug at a random moment."""
    return int(request.config.option.serial_unplugs)
