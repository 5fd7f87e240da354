"""Pictures of what a terminal shows: `python docs/screenshots.py` runs the commands and draws their output.

A picture is a real run, times included, so it differs each time. It needs no font from elsewhere.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

HERE: Final = Path(__file__).resolve().parent
_WIDTH = 100

_DRIVER = """\
class PowerSupply:
    def __init__(self, port):
        self._port = port

    async def set_voltage(self, volts):
        await self._port.send(b"SET %.1f\\n" % volts)
        return await self._port.receive()
"""
_TEST = """\
from psu import PowerSupply


async def test_sets_the_voltage(serial_port, serial_script):
    serial_script.on(b"SET 5.00\\n").reply(b"OK\\n")
    assert await PowerSupply(serial_port).set_voltage(5) == b"OK\\n"
"""


def picture(name: str, title: str, command: list[str], folder: Path) -> None:
    """Run `command` in `folder` and draw what it prints; the picture is `docs/NAME.svg`."""
    environment = {**os.environ, "COLUMNS": str(_WIDTH), "FORCE_COLOR": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(done.stdout))
    svg = console.export_svg(title=title, theme=SVG_EXPORT_THEME, unique_id=name)
    (HERE / f"{name}.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


def main() -> None:
    """Draw all pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "psu.py").write_text(_DRIVER, "utf-8")
        (folder / "test_psu.py").write_text(_TEST, "utf-8")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--serial-loops=trio"]
        picture("wire-report", "pytest", pytest, folder)


if __name__ == "__main__":
    main()
