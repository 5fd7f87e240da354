"""Pictures of what a terminal shows: `python docs/screenshots.py` runs the commands and draws their output.

A picture is a real run, times included, so it differs each time. It needs no font from elsewhere. The pictures go to
this folder, or to the one that is named: `python docs/screenshots.py FOLDER`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import tty
from collections.abc import Generator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

HERE: Final = Path(__file__).resolve().parent
_WIDTH = 100

_FILES: Final = {
    "psu.py": r"""
class PowerSupply:
    def __init__(self, port):
        self._port = port

    async def set_voltage(self, volts):
        await self._port.send(b"SET %.1f\n" % volts)
        return await self._port.receive()
""",
    "test_psu.py": r"""
from psu import PowerSupply


async def test_sets_the_voltage(serial_port, serial_script):
    serial_script.on(b"SET 5.00\n").reply(b"OK\n")
    assert await PowerSupply(serial_port).set_voltage(5) == b"OK\n"
""",
    "test_bench.py": r"""
import pytest


async def test_bytes_pass(serial_port, serial_peer):
    await serial_port.send(b"ping")
    assert await serial_peer.receive()


@pytest.mark.anyserial(requires=["break_signal"])
async def test_a_break_stops_the_output(serial_port, serial_peer):
    await serial_port.send_break()
    assert (await serial_peer.line_errors()).breaks == 1
""",
    "hil.toml": r"""
schema = 1

[bench]
name = "my desk"
lease_dir = "leases"

[ports.a]
match = { path = "port-a" }

[ports.b]
match = { path = "port-b" }

[ports.meter]
match = { vid = 0x0403, pid = 0x6001, serial_number = "A50285BI" }

[links.null]
ends = ["a", "b"]
kind = "null-modem"
wires = ["tx-rx"]
""",
}


@contextlib.contextmanager
def cable(folder: Path) -> Generator[None]:
    """Two joined ttys, `port-a` and `port-b`, which nobody else has open: a bench as the doctor likes it."""
    controllers: list[int] = []
    for name in ("port-a", "port-b"):
        controller, end = os.openpty()
        tty.setraw(end)
        (folder / name).symlink_to(os.ttyname(end))
        os.close(end)
        os.set_blocking(controller, False)
        controllers.append(controller)
    done = threading.Event()

    def carry() -> None:
        held = [b"", b""]
        while not done.wait(0.0005):
            for number, source in enumerate(controllers):
                # A controller whose tty nobody has open reads EIO.
                with contextlib.suppress(OSError):
                    held[number] = held[number] or os.read(source, 4096)
                    held[number] = held[number][os.write(controllers[1 - number], held[number]) :]

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for controller in controllers:
            os.close(controller)


def picture(path: Path, folder: Path, *arguments: str) -> None:
    """Run `python -m ARGUMENTS` in `folder` and draw what it prints."""
    environment = {
        # Where CI runs, pytest shortens nothing.
        **{name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")},
        "COLUMNS": str(_WIDTH),
        "FORCE_COLOR": "1",
        "PYTEST_ADDOPTS": "-q -p no:cacheprovider -p pytest_anyserial",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(done.stdout))
    svg = console.export_svg(title=f"python -m {' '.join(arguments)}", theme=SVG_EXPORT_THEME, unique_id=path.stem)
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


def main() -> None:
    """Draw all pictures."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in _FILES.items():
            (folder / file).write_text(text.lstrip(), "utf-8")
        picture(output / "wire-report.svg", folder, "pytest", "--serial-loops=trio", "test_psu.py")
        with cable(folder):
            picture(output / "doctor.svg", folder, "pytest_anyserial", "doctor", "hil.toml")
            picture(output / "strict-bench.svg", folder, "pytest", "--serial-hw=hil.toml", "test_bench.py")


if __name__ == "__main__":
    main()
