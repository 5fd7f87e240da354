"""Benches without hardware: ports that are pseudo-terminals, named by their paths like any other serial device."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import socketserver
import sys
import textwrap
import threading
from collections.abc import Generator
from pathlib import Path

from anyserial.testing import PtyPair, pty_pair

#: A supply whose commands reach `Bench.switched`; they find their socket in the folder of the bench file.
_SWITCH = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('power'); s.send(sys.argv[1].encode()); "
POWER = f"""
[power.hub]
off = ["{sys.executable}", "-S", "-c", "{_SWITCH}s.recv(1)", "off"]
on = ["{sys.executable}", "-S", "-c", "{_SWITCH}s.recv(1)", "on"]
"""


class Bench:
    """A folder with a bench file `hil.toml` of one link `null`, and the pair of ptys behind it."""

    def __init__(self, folder: Path, pair: PtyPair) -> None:
        self.folder = folder
        self.pair = pair
        self.write()

    def write(
        self, *, top: str = "", a: str = "", b: str = "", null: str = "", more: str = "", wires: str = '"tx-rx"'
    ) -> None:
        """Write the file anew, with more lines in its tables."""
        (self.folder / "hil.toml").write_text(
            f"""
schema = 1
[bench]
name = "lab-a"
lease_dir = "leases"
{textwrap.dedent(top)}
[ports.a]
match = {{ path = "{self.pair.path_a}" }}
{textwrap.dedent(a)}
[ports.b]
match = {{ path = "{self.pair.path_b}" }}
{textwrap.dedent(b)}
[links.null]
ends = ["a", "b"]
kind = "null-modem"
wires = [{wires}]
{textwrap.dedent(null)}
{textwrap.dedent(more)}
""",
            encoding="utf-8",
        )


@contextlib.contextmanager
def pty_bench(folder: Path) -> Generator[Bench]:
    """A bench in `folder` for the length of a `with` block."""
    with pty_pair() as pair:
        yield Bench(folder, pair)


@contextlib.contextmanager
def pty_bus(folder: Path, ends: int, *, is_cut: bool = False) -> Generator[None]:
    """A bench of so many ports on one line; if it is cut, the last one hears nothing from the first."""
    with contextlib.ExitStack() as stack:
        masters, lines = list[int](), ["schema = 1", "[bench]", 'name = "lab-bus"', 'lease_dir = "leases"']
        for number in range(ends):
            master, slave = os.openpty()
            stack.callback(os.close, master)
            stack.callback(os.close, slave)
            # Not on Windows, where other tests import this module too.
            importlib.import_module("tty").setraw(slave)
            masters.append(master)
            lines += [f"[ports.{'abcd'[number]}]", f'match = {{ path = "{os.ttyname(slave)}" }}']
        lines += ["[links.bus]", f"ends = {list('abcd'[:ends])}", 'kind = "rs485"']
        (folder / "hil.toml").write_text("\n".join(lines), encoding="utf-8")
        is_over = threading.Event()

        def relay() -> None:
            while not is_over.is_set():
                for sender in select.select(masters, [], [], 0.02)[0]:
                    data = os.read(sender, 4096)
                    for listener in masters:
                        if listener != sender and not (is_cut and (sender, listener) == (masters[0], masters[-1])):
                            os.write(listener, data)

        thread = threading.Thread(target=relay)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@contextlib.contextmanager
def supply(bench: Bench) -> Generator[list[str]]:
    """Let `POWER` unplug and replug the pair; gives the list of what was switched."""
    done: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            what = self.request.recv(3).decode()
            (bench.pair.unplug if what == "off" else bench.pair.replug)()
            done.append(what)
            self.request.send(b".")

    # The path of a socket is short, so it is made where it is named.
    with contextlib.chdir(bench.folder), socketserver.ThreadingUnixStreamServer("power", Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield done
        finally:
            server.shutdown()
            thread.join()
