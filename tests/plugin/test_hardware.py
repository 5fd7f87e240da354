"""Tests on a bench: its links are chosen, matched and used like the others, and a green run means that they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .benches import Bench, pty_bench
from .conftest import Project

HW = "--serial-hw=hil.toml"
ONE = "--serial-loops=asyncio"
EXCHANGE = """
async def test_it(serial_port, serial_peer):
    await serial_port.send(b"ping")
    assert await serial_peer.receive() == b"ping"
"""


@pytest.fixture
def bench(project: Project) -> Iterator[Bench]:
    """A bench in the project's folder."""
    with pty_bench(project.path) as bench:
        yield bench


@pytest.mark.parametrize("where", ["option", "ini"])
def test_the_links_of_a_bench_file_are_links(project: Project, bench: Bench, where: str) -> None:
    """P-20, P-21, H-05: with a bench file tests run on its links, on every loop; ids are hw-NAME."""
    if where == "ini":
        project.ini("anyserial_hw = hil.toml")
    run = project.run(*([HW] if where == "option" else []), test=EXCHANGE)
    assert run.outcomes() == {f"test_it[hw-null-{loop}]": "passed" for loop in ("asyncio", "uvloop", "trio")}


def test_a_bench_on_the_command_line_comes_before_the_links_of_the_project(project: Project, bench: Bench) -> None:
    """P-21, P-83: who asks for a bench gets it, whatever links the ini file names; naming links still counts."""
    project.ini("anyserial_links = mock")
    assert project.run(HW, ONE, test=EXCHANGE).outcomes() == {"test_it[hw-null-asyncio]": "passed"}
    run = project.run(HW, ONE, "--serial-links=mock", test=EXCHANGE)
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_a_test_can_ask_how_fast_its_link_may_be(project: Project, bench: Bench) -> None:
    """P-23: the lowest of what the file says about the wires and both ends; None on a link without limits."""
    bench.write(a="max_baudrate = 3_000_000", b="max_baudrate = 921_600", null="max_baudrate = 1_000_000")
    run = project.run(
        HW,
        "--serial-links=hw,mock",
        test="""
        def test_it(serial_link):
            assert serial_link.max_baudrate == {"hw-null": 921_600, "mock": None}[serial_link.name]
        """,
    )
    run.result.assert_outcomes(passed=2)
