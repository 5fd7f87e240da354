"""The list of ports that a driver finds its own in: `serial_ports`."""

from __future__ import annotations

import pytest

from anyserial import PortInfo, find_serial_port, list_serial_ports
from anyserial.testing import published_ports

from .benches import Bench
from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

FINDS = """
    from anyserial import find_serial_port, list_serial_ports, open_serial_port

    async def test_it(serial_ports, serial_peer, serial_path):
        assert await list_serial_ports() == []
        info = serial_ports.publish(vid=0x0403, pid=0x6001, serial_number="B2", product="Meter")
        serial_ports.publish(device="/dev/ttyS9")
        assert await find_serial_port(vid=0x0403, pid=0x6001, serial_number="B2") == info
        assert await find_serial_port(vid=0x0403, pid=0x6002) is None
        assert await find_serial_port(device=serial_path) == info
        assert info.device == serial_path and info.hwid == "USB VID:PID=0403:6001 SER=B2"
        async with await open_serial_port(info.device) as port:
            await port.send(b"x")
            assert await serial_peer.receive() == b"x"
        serial_ports.withdraw(info)
        assert [port.device for port in await list_serial_ports()] == ["/dev/ttyS9"]
"""


def test_a_driver_finds_end_a(project: Project) -> None:
    """P-115: by vid, pid, serial number and path, and opens it, on links in memory and in the kernel."""
    run = project.run("--serial-links=mock,pty", test=FINDS)
    assert len(run.outcomes()) == 6
    assert set(run.outcomes().values()) == {"passed"}


def test_the_list_works_in_virtual_time(project: Project) -> None:
    """P-115: worker threads are refused there, and this list needs none."""
    run = project.run(
        test="""
        from anyserial import find_serial_port

        async def test_it(serial_ports, serial_clock):
            info = serial_ports.publish(product="Meter")
            assert await find_serial_port() == info
        """
    )
    assert list(run.outcomes().values()) == ["passed", "skipped", "passed"]


@pytest.mark.parametrize("imported", ["list_ports", "comports"])
def test_pyserial_lists_them_on_request(project: Project, imported: str) -> None:
    """P-115: also for a driver that has taken the function itself; afterwards it is pyserial's again."""
    call = "list_ports.comports" if imported == "list_ports" else "comports"
    project.file("driver.py", f"from serial.tools.list_ports import {imported}" if imported == "comports" else "")
    project.file(
        "test_it.py",
        "import sys; sys.path.insert(0, '.')",
        "from serial.tools import list_ports",
        "from driver import comports" if imported == "comports" else "",
        f"""
        import driver
        from serial.tools.list_ports import comports as original

        def listed():
            return driver.{call}() if {imported == "comports"} else list_ports.comports()

        def test_it(serial_ports, monkeypatch):
            serial_ports.tell_pyserial(monkeypatch)
            serial_ports.publish(vid=0x0403, pid=0x6001, serial_number="B2", product="Meter")
            (port,) = listed()
            assert (port.vid, port.pid, port.serial_number, port.product) == (0x0403, 0x6001, "B2", "Meter")
            assert port.description == "Meter" and "SER=B2" in port.hwid
            assert [port.device for port in list_ports.grep("0403:6001")] == [serial_ports.published[0].device]

        def test_after():
            assert listed.__globals__["list_ports"].comports.__module__.startswith("serial.tools.list_ports")
        """,
    )
    assert project.run().outcomes() == {"test_it[mock]": "passed", "test_after": "passed"}


def test_one_of_vid_and_pid_alone_is_an_error(project: Project) -> None:
    """P-115: such a port does not exist, so a driver would be tested with what cannot be."""
    run = project.run(test="def test_it(serial_ports): serial_ports.publish(vid=0x0403)")
    assert "ValueError: a USB device has a vid and a pid: give both, or none of them" in run.problem("test_it[mock]")


def test_a_bench_still_finds_its_adapters(bench: Bench, project: Project) -> None:
    """P-115, H-03: on hardware the ports of the machine follow those that are published."""
    run = project.run(
        "--serial-hw=hil.toml",
        "--serial-loops=asyncio",
        test="""
        from anyserial import find_serial_port

        async def test_it(serial_ports, serial_port, serial_path):
            info = serial_ports.publish(vid=1, pid=2)
            assert await find_serial_port(vid=1) == info
            assert info.device == serial_path
        """,
    )
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "passed"}


@pytest.mark.anyio
async def test_blocks_nest_and_end() -> None:
    """P-115: the latest counts, and after the last one the list is the machine's."""
    before = await list_serial_ports()
    outer, inner = [PortInfo(device="/dev/b"), PortInfo(device="/dev/a")], [PortInfo(device="/dev/c")]
    with published_ports(outer):
        assert [port.device for port in await list_serial_ports()] == ["/dev/a", "/dev/b"]
        with published_ports(inner, alone=False):
            assert await list_serial_ports() == [*inner, *before]
        outer.clear()
        assert await find_serial_port() is None
    assert await list_serial_ports() == before
