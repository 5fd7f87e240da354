"""Benches without hardware: ports that are pseudo terminals, named by their paths like any other serial device."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

from anyserial.testing import PtyPair, pty_pair


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
def pty_bench(folder: Path) -> Iterator[Bench]:
    """A bench in `folder` for the length of a `with` block."""
    with pty_pair() as pair:
        yield Bench(folder, pair)
