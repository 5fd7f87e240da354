"""A lab of its own for a test: labgrid's coordinator, an exporter and places, with ser2net on pseudo-terminals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from tests.servers import IS_ASKED_FOR, SER2NET, reserved_ports

from anyserial.testing import PtyPair, pty_pair
from pytest_anyserial._bench.labgrid import Client, PlaceState

_OURS: Final = Path(__file__).parents[2] / ".venvs" / "labgrid" / "bin"
LABGRID: Final = shutil.which("labgrid-client", path=f"{_OURS}{os.pathsep}{os.environ.get('PATH', '')}")

_MISSING: Final = [
    text
    for text, is_there in (
        ("labgrid is not installed: make .venvs/labgrid/stamp", LABGRID),
        ("ser2net is not installed: apt-get install ser2net", SER2NET),
    )
    if not is_there
]
#: They take minutes, so they run where they are asked for, and fail there if something is missing.
needs_labgrid = pytest.mark.skipif(
    not IS_ASKED_FOR, reason="; ".join(_MISSING) or "labgrid takes minutes: make remote, or set ANYSERIAL_REMOTE"
)

#: For a machine that does much else.
patient = pytest.mark.timeout(400)

#: Another user, on another machine.
ALICE: Final = {"LG_HOSTNAME": "desk", "LG_USERNAME": "alice"}
#: Seconds for a process of labgrid to start on a busy machine.
_START: Final = 60.0


class Lab:
    """One coordinator and one exporter `pi`.

    It has the places `meter-1` and `meter-2`, each with one port and the tag `board=meter`, `pair` with two ports, and
    `empty` without any.

    Attributes:
        coordinator: The address of the coordinator.
        pairs: The pseudo-terminals behind the ports; the device is at end B.
        client: What asks the coordinator, as this user.
    """

    def __init__(self, folder: Path, port: int, pairs: Mapping[str, PtyPair], outlet: str | None = None) -> None:
        assert not _MISSING, "; ".join(_MISSING)
        assert LABGRID is not None
        self.folder = folder
        self.pairs = pairs
        self.coordinator = f"127.0.0.1:{port}"
        self.client = Client(LABGRID, self.coordinator, folder)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "places.yaml").write_text(json.dumps(_places()), encoding="ascii")
        (folder / "exporter.yaml").write_text(json.dumps(_groups(pairs, outlet)), encoding="ascii")

    def start_coordinator(self) -> None:
        """Start it, with the places and nothing acquired, as after each of its starts."""
        self._start("coordinator", "-l", self.coordinator)
        until(lambda: _answers(self.coordinator), "the coordinator answers")

    def start_exporter(self) -> None:
        """Start it, and wait until its ports are known."""
        self._start("exporter", "-c", self.coordinator, "-n", "pi", "--hostname", "127.0.0.1", "exporter.yaml")
        until(
            lambda: any(port.is_available for port in self.client.place("meter-1").serial_ports),
            "the exporter is there",
        )

    def end(self, what: str, number: signal.Signals) -> None:
        """End the coordinator or the exporter, and wait until its process is gone."""
        self._processes[what].send_signal(number)
        self._processes.pop(what).wait(20)

    def has_ended(self, what: str) -> bool:
        """Whether the coordinator or the exporter has ended by itself."""
        return self._processes[what].poll() is not None

    def run(self, *words: str, user: Mapping[str, str] | None = None) -> str:
        """What `labgrid-client` prints, for this user or another one."""
        done = subprocess.run(
            self.client.argv(*words), env=os.environ | dict(user or {}), capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def place(self, name: str = "meter-1") -> PlaceState:
        """What a place is now."""
        return self.client.place(name)

    def close(self) -> None:
        """End everything, also servers that a killed exporter has left behind."""
        for what in ("exporter", "coordinator"):
            if what in self._processes:
                self.end(what, signal.SIGTERM if what == "exporter" else signal.SIGKILL)
        self.end_orphans()

    def end_orphans(self) -> None:
        """End the servers that a killed exporter has left behind."""
        for pid in self._orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _orphans(self) -> Iterator[int]:
        paths = [os.path.realpath(pair.path_a).encode() for pair in self.pairs.values()]
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if b"ser2net" in words and any(b"," + path + b"," in words for path in paths):
                    yield int(folder.name)

    def _start(self, what: str, *words: str) -> None:
        assert LABGRID is not None
        program = Path(LABGRID).with_name(f"labgrid-{what}")
        with (self.folder / f"{what}.log").open("ab") as log:
            self._processes[what] = subprocess.Popen([program, *words], cwd=self.folder, stdout=log, stderr=log)


@contextlib.contextmanager
def lab(folder: Path, outlet: str | None = None) -> Iterator[Lab]:
    """A running lab for the length of a `with` block; `outlet` is the address of a supply that belongs to meter-1."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        pairs = {name: stack.enter_context(pty_pair()) for name in ("meter-1", "meter-2", "left", "right")}
        (port,) = stack.enter_context(reserved_ports(1))
        made = Lab(folder, port, pairs, outlet)
        stack.callback(made.close)
        made.start_coordinator()
        made.start_exporter()
        yield made


def until(condition: Callable[[], bool], what: str, seconds: float = _START) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def _groups(pairs: Mapping[str, PtyPair], outlet: str | None) -> dict[str, object]:
    """What the exporter offers: a group for each place."""

    def port(name: str) -> dict[str, object]:
        return {"cls": "RawSerialPort", "port": os.path.realpath(pairs[name].path_a), "speed": 115_200}

    supply = {
        "cls": "NetworkPowerPort",
        "model": "simplerest",
        "host": f"{outlet}/{{value}}",
        "index": 1,
    }
    return {
        "meter-1": {"console": port("meter-1")} | ({} if outlet is None else {"supply": supply}),
        "meter-2": {"console": port("meter-2")},
        "pair": {"left": port("left"), "right": port("right")},
    }


def _places() -> dict[str, object]:
    """What the coordinator loads."""

    def place(*groups: str, **tags: str) -> dict[str, object]:
        matches = [{"exporter": "*", "group": group, "cls": "*", "name": None, "rename": None} for group in groups]
        return {
            "aliases": [], "comment": "", "tags": tags, "matches": matches,
            "created": 1_700_000_000.0, "changed": 1_700_000_000.0,
        }  # fmt: skip

    return {
        "meter-1": place("meter-1", board="meter"),
        "meter-2": place("meter-2", board="meter"),
        "pair": place("pair"),
        "empty": place(),
    }


@contextlib.contextmanager
def running(
    command: Sequence[str], *, user: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A program as another user of labgrid may run it, with its output as text; killed at the end of the block."""
    environment = os.environ | dict(user or {})
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options) as run:
        try:
            yield run
        finally:
            run.kill()
