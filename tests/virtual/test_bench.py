"""The command `bench.py`, as far as it goes without a machine: what cannot run says why and does not look green."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtualbench import vhci

pytestmark = pytest.mark.posix("the virtual bench runs on Linux")

BENCH = Path(__file__).parents[2] / "hil" / "virtual" / "bench.py"


def bench(*arguments):
    return subprocess.run(
        [sys.executable, BENCH, *arguments, "--", "true"], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_wrong_adapter_is_a_usage_error():
    """H-40: status 2, and what there is."""
    done = bench("--adapters", "ftdi:fdti")
    assert done.returncode == 2
    assert (
        done.stderr
        == "virtual bench: --adapters: 'fdti' is no adapter; there are ftdi, cp210x, acm, xr, pl011 and uart\n"
    )


def test_a_board_is_not_this_machine():
    """H-41: its UARTs cannot be attached here, not even by root."""
    done = bench("--where", "host", "--adapters", "pl011:pl011")
    assert done.returncode == 2
    assert done.stderr == (
        "virtual bench: adapters cannot be attached to this machine: pl011:pl011 is part of another one\n"
    )


@pytest.mark.skipif(os.geteuid() == 0 and vhci.is_there(), reason="this machine can do it")
def test_a_machine_without_the_controller_is_an_error():
    """H-41: the command is not run, the status is not 0, and the reason is one of two."""
    done = bench("--where", "host")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("virtual bench: adapters cannot be attached to this machine: ")
    assert done.stderr.endswith(("that needs root\n", "its kernel has no module vhci_hcd, or refuses to load it\n"))


@pytest.mark.parametrize(
    ("adapters", "emulator"), [("ftdi:ftdi", "qemu-system-x86_64"), ("pl011:pl011", "qemu-system-aarch64")]
)
def test_an_unavailable_machine_is_an_error(adapters, emulator, tmp_path):
    """H-41: no emulator and no way to install one."""
    python = Path(sys.executable)
    done = subprocess.run(
        [python, BENCH, "--where", "vm", "--adapters", adapters, "--cache", tmp_path / "cache", "--", "true"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"virtual bench: {emulator} is not installed, and there is no apt-get here to install it with\n"
    )


def test_the_controller_is_read_and_written_as_the_kernel_has_it(tmp_path):
    """H-42: free full-speed ports come from `status`; attach and detach are lines of numbers."""
    (tmp_path / "status").write_text(
        "hub port sta spd dev      sockfd local_busid\n"
        "hs  0000 006 002 00010001 000003 0-0\n"
        "hs  0001 004 000 00000000 000000 0-0\n"
        "ss  0008 004 000 00000000 000000 0-0\n"
    )
    assert not vhci.is_there(tmp_path)
    assert vhci.free_ports(tmp_path) == [1]
    with open(tmp_path / "detach", "wb") as anything:
        vhci.attach(1, anything, tmp_path)
        assert (tmp_path / "attach").read_text() == f"1 {anything.fileno()} {0x10002} 2"
    vhci.detach(1, tmp_path)
    assert (tmp_path / "detach").read_text() == "1"
    assert vhci.is_there(tmp_path)


def test_a_device_is_found_by_its_serial_number_and_removed(tmp_path):
    """H-42: hubs without one, and devices that vanish while one looks, are passed over."""
    (tmp_path / "usb1").mkdir()
    for name, serial_number in [("1-1", "ftdi-a\n"), ("1-2", "ftdi-b\n")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "serial").write_text(serial_number)
    (tmp_path / "1-0").mkdir()
    (tmp_path / "1-0" / "serial").symlink_to(tmp_path / "gone")
    assert vhci.device("xr-a", tmp_path) is None
    found = vhci.device("ftdi-b", tmp_path)
    assert found == tmp_path / "1-2"
    vhci.remove(found)
    assert (found / "remove").read_text() == "1"
