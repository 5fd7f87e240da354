"""Pictures of what terminals and browsers show: `python docs/screenshots.py` runs the commands and draws their output.

A picture is a real run, times included, so it differs each time. It needs no font from elsewhere. The pictures go to
this folder, or to the one that is named: `python docs/screenshots.py FOLDER`. Pages need Chromium.
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
EXAMPLE: Final = HERE / "examples" / "modbus_meter"
sys.path.append(str(HERE.parent))

from tests import browser  # noqa: E402

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
    "test_noise.py": r"""
import pytest
from modbus_meter import Meter, ModbusClient

ASK_ENERGY = bytes.fromhex("01 04 00 02 00 02 d0 0b")
ENERGY_100_000 = bytes.fromhex("01 04 04 00 01 86 a0 c8 5c")
ASK_VOLTAGE = bytes.fromhex("01 04 00 00 00 01 31 ca")
VOLTAGE_230_7 = bytes.fromhex("01 04 02 09 03 ff 61")
ASK_BACKLIGHT = bytes.fromhex("01 03 00 10 00 01 85 cf")
BACKLIGHT_5 = bytes.fromhex("01 03 02 00 05 78 47")


@pytest.mark.usefixtures("serial_clock")
async def test_reads_on_a_noisy_line(serial_port, serial_script, serial_faults):
    meter = Meter(ModbusClient(serial_port, timeout=0.1, retries=1))
    serial_faults.at_byte(13).corrupt(0x10)
    serial_faults.at_byte(19).corrupt(0x01)
    serial_script.on(ASK_ENERGY).reply(ENERGY_100_000, after=0.02)
    serial_script.on(ASK_VOLTAGE).reply(VOLTAGE_230_7, after=0.015).times(2)
    serial_script.on(ASK_BACKLIGHT).reply(BACKLIGHT_5)
    await serial_port.set_control_lines(rts=True)
    assert await meter.energy() == 100_000
    assert await meter.voltage() == 230.7
    assert await meter.backlight() == 5
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


def run(folder: Path, *arguments: str) -> str:
    """What `python -m ARGUMENTS` prints in `folder`."""
    environment = {
        # Where CI runs, pytest shortens nothing.
        **{name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")},
        "COLUMNS": str(_WIDTH),
        "FORCE_COLOR": "1",
        "PYTEST_ADDOPTS": "-q -p no:cacheprovider -p pytest_anyserial",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(EXAMPLE / "src"),
    }
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout


def picture(path: Path, folder: Path, *arguments: str) -> None:
    """Run `python -m ARGUMENTS` in `folder` and draw what it prints."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(run(folder, *arguments)))
    svg = console.export_svg(title=f"python -m {' '.join(arguments)}", theme=SVG_EXPORT_THEME, unique_id=path.stem)
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


def pages(output: Path, folder: Path) -> None:
    """Draw the timeline of a test of the example driver: light, dark, and on a phone."""
    run(folder, "pytest", "--serial-loops=trio", "test_noise.py")
    (timeline,) = folder.rglob("test_noise*/timeline.html")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser.browser(Path(profile)) as page:
        for name, width, height, dark, keys in (
            ("timeline-light.png", 1200, 860, False, ("ArrowDown",)),
            ("timeline-dark.png", 1200, 860, True, ("ArrowDown", "Enter")),
            ("timeline-phone.png", 420, 860, False, ("ArrowDown", "Enter")),
        ):
            page.resize(width, height, dark=dark)
            page.open(timeline)
            page.press(*keys)
            (output / name).write_bytes(page.picture())


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
        if browser.CHROMIUM is None:
            print(f"NOT DRAWN: the timeline. {browser.MISSING}")  # noqa: T201
        else:
            pages(output, folder)


if __name__ == "__main__":
    main()
