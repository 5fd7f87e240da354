"""The text after `--adapters`, the bench file it becomes, and the commands of a running bench."""

import asyncio
import json
import os
import tomllib

import pytest

from virtualbench.initramfs import archive, closure
from virtualbench.inside import CONTROL
from virtualbench.plan import DEFAULT, bench_file, has_pl011s, uart_count, uarts, wirings
from virtualbench.server import HELP, Bench, serve

from .support import Kernel

pytestmark = pytest.mark.posix("the virtual bench runs on Linux")


def test_pairs_and_plugs_have_names():
    """H-40: names of links and ports follow from the chips, and repeat with a number."""
    plan = wirings("ftdi:ftdi,ftdi:ftdi,ftdi:xr,acm")
    assert [wiring.name for wiring in plan] == ["ftdi", "ftdi2", "ftdi-xr", "acm-loop"]
    assert [wiring.ports for wiring in plan] == [
        ("ftdi-a", "ftdi-b"),
        ("ftdi2-a", "ftdi2-b"),
        ("ftdi-xr-a", "ftdi-xr-b"),
        ("acm-loop",),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ftdi:pl2303", "'pl2303' is no adapter; there are ftdi, "),
        ("xr:xr:xr", "joins 3 adapters"),
        ("ftdi,uart:uart", "'uart:uart': a uart loops inside and takes no cable"),
        ("pl011", "'pl011': a board has two pl011s, which are joined; write pl011:pl011"),
        ("pl011:pl011,uart", "no machine has both pl011:pl011 and uart"),
    ],
)
def test_a_wrong_adapter_is_named(text, complaint):
    """H-40: with what there is instead."""
    with pytest.raises(ValueError, match=complaint):
        wirings(text)


def test_a_16550_is_requested_like_an_adapter():
    """H-40: as many as the machine is to have; they need no cable, and no plug."""
    assert uart_count(DEFAULT) == 2
    assert uart_count("ftdi:ftdi") == 0
    assert [wiring.name for wiring in wirings("uart,ftdi:ftdi,uart")] == ["ftdi"]


def test_a_board_is_requested_like_a_pair_of_adapters():
    """H-40: alone or beside others, which are then plugged into the board."""
    assert has_pl011s("ftdi:ftdi,pl011:pl011")
    assert not has_pl011s(DEFAULT)
    assert [wiring.name for wiring in wirings("pl011:pl011,xr:xr")] == ["xr"]


def test_the_bench_file_joins_the_uarts_of_a_board():
    """H-40: by path, with the RS-485 that their driver has, and only the wires that an emulator carries."""
    bench = tomllib.loads(bench_file([], [], ["control"], pl011s=["/dev/ttyAMA0", "/dev/ttyAMA1"]))
    assert {name: port["match"] for name, port in bench["ports"].items()} == {
        "pl011-a": {"path": "/dev/ttyAMA0"},
        "pl011-b": {"path": "/dev/ttyAMA1"},
    }
    assert bench["ports"]["pl011-a"]["has"] == ["rs485"]
    assert list(bench["links"]) == ["pl011"]
    assert bench["links"]["pl011"]["ends"] == ["pl011-a", "pl011-b"]
    assert bench["links"]["pl011"]["wires"] == ["tx-rx"]


def test_the_bench_file_describes_the_virtual_devices():
    """H-40: ports by serial number or path, links with the wires both ends have, power for what has a plug."""
    text = bench_file(wirings(DEFAULT + ",acm"), ["/dev/ttyS1"], ["python", "control.py"])
    bench = tomllib.loads(text)
    assert bench["schema"] == 1
    assert bench["ports"]["ftdi-a"]["match"] == {"serial_number": "ftdi-a"}
    assert bench["ports"]["uart0"]["match"] == {"path": "/dev/ttyS1"}
    assert "power" not in bench["ports"]["uart0"]
    assert bench["ports"]["cp210x-a"]["lacks"] == ["line_errors", "low_latency", "rs485"]
    assert bench["ports"]["acm-b"]["lacks"] == ["xon_xoff", "low_latency", "rs485"]
    assert bench["ports"]["xr-a"]["has"] == ["rs485"]
    assert bench["links"]["xr"]["ends"] == ["xr-a", "xr-b"]
    assert bench["links"]["acm"]["wires"] == ["tx-rx", "dtr-dsr"]
    assert bench["links"]["acm-loop"]["kind"] == bench["links"]["uart0"]["kind"] == "loopback"
    assert bench["power"]["acm-b"] == {
        "off": ["python", "control.py", "unplug", "acm-b"],
        "on": ["python", "control.py", "replug", "acm-b"],
    }
    assert {end for link in bench["links"].values() for end in link["ends"]} == set(bench["ports"])


def test_power_can_be_cut_without_a_disconnect_event():
    """H-42: a bench whose adapters are cut off differs in nothing else."""
    orderly, cut = (
        bench_file(wirings("ftdi:ftdi"), ["/dev/ttyS1"], ["control"], unplug=how) for how in ("unplug", "cut")
    )
    assert tomllib.loads(cut)["power"]["ftdi-a"]["off"] == ["control", "cut", "ftdi-a"]
    assert cut.replace('"cut"', '"unplug"') == orderly


def test_only_pci_uarts_belong_to_the_bench(tmp_path):
    """H-40: not the console on the ISA bus, and not the kernel's empty slots."""
    for name, place, kind in [("ttyS0", "pnp0", "4"), ("ttyS1", "pci0000:00", "4"), ("ttyS2", "pci0000:00", "0")]:
        real = tmp_path / "devices" / place / name
        real.mkdir(parents=True)
        (real / "type").write_text(f"{kind}\n")
        (tmp_path / name).symlink_to(real)
    assert uarts(tmp_path) == ["/dev/ttyS1"]


def with_a_bench(test, adapters="cp210x:cp210x"):
    async def main():
        async with asyncio.timeout(20):
            bench = Bench(wirings(adapters), asyncio.get_running_loop())
            await test(bench)

    asyncio.run(main())


def test_commands_change_wires():
    """H-42: open, close, swap, hold and restore, as `state` shows."""

    async def test(bench):
        kernels = [Kernel(adapter) for adapter in bench.adapters.values()]
        for adapter in bench.adapters.values():
            adapter.uart.set_lines(rts=True, dtr=False)

        async def modem(name):
            return json.loads(await bench.command("state"))[name]["modem"]

        assert await modem("cp210x-b") == ["CTS"]
        await bench.command("open cp210x-a.rts")
        assert await modem("cp210x-b") == []
        await bench.command("close cp210x-a.rts")
        assert await modem("cp210x-b") == ["CTS"]
        await bench.command("swap cp210x-a.rts cp210x-a.dtr")
        assert await modem("cp210x-b") == ["DSR", "CD"]
        await bench.command("hold cp210x-b.ri on")
        assert await modem("cp210x-b") == ["DSR", "RI", "CD"]
        await bench.command("restore")
        assert await modem("cp210x-b") == ["CTS"]
        for kernel in kernels:
            await kernel.release()

    with_a_bench(test)


def test_commands_inject_errors():
    """H-42: a byte with an error arrives in the adapter."""

    async def test(bench):
        kernel = Kernel(bench.adapters["cp210x-a"])
        fifo = bench.adapters["cp210x-a"].uart.fifo
        await bench.command("inject cp210x-a parity 41")
        await bench.command("inject cp210x-a break")
        data, error = fifo.take(9)
        assert (data, error.name) == (b"A", "PARITY")
        data, error = fifo.take(9)
        assert (data, error.name) == (b"\0", "BREAK")
        await kernel.release()

    with_a_bench(test)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("unplug cp210x-c", "'cp210x-c' is no adapter; there are cp210x-a, cp210x-b"),
        ("unplug cp210x-a", "cp210x-a is not plugged in"),
        ("open cp210x-a.cts", "'cp210x-a.cts' names no line; cp210x-a has cp210x-a.tx,"),
        ("inject cp210x-a smoke", "inject takes parity, framing, overrun or break"),
        ("inject cp210x-a parity 4142", "one byte in hex; not 'parity 4142'"),
        ("swap cp210x-a.tx xr-a.tx", "cp210x-a.tx and xr-a.tx are not in one cable"),
        ("dance", "'dance' is no command; there are:\nunplug NAME"),
    ],
)
def test_a_wrong_command_raises_an_error_that_corrects_it(command, complaint):
    """H-42: on the far side of a socket nobody sees a traceback."""

    async def test(bench):
        with pytest.raises(RuntimeError) as caught:
            await bench.command(command)
        assert complaint in str(caught.value)

    with_a_bench(test, "cp210x:cp210x,xr:xr")


def test_the_control_command_asks_the_bench(tmp_path):
    """H-42: a shell script and a TCP port; what it prints, its status, and where the complaint goes."""
    # The script has one place to look; a copy of it looks here.
    script = tmp_path / "control"
    script.write_text(
        CONTROL.read_text(encoding="utf-8").replace("/run/virtual-bench", str(tmp_path)), encoding="utf-8"
    )

    async def control(*words):
        process = await asyncio.create_subprocess_exec("bash", script, *words, stdout=-1, stderr=-1)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def test(bench):
        assert await control("help") == (2, "", f"{tmp_path}/port: no answer; is the virtual bench running?\n")
        async with await serve(bench, tmp_path / "port"):
            status, out, _ = await control("state")
            assert status == 0
            assert list(json.loads(out)) == ["cp210x-a", "cp210x-b"]
            assert await control("restless") == (1, "", f"'restless' is no command; there are:\n{HELP}\n")
            assert await control("open", "cp210x-a.rts") == (0, "", "")
            assert await control("cut", "cp210x-a") == (1, "", "cp210x-a is not plugged in\n")
        status, *_ = await control("help")
        assert status == 2

    with_a_bench(test)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (b"open cp210x-a.tx\n", "the key is wrong; "),
        (b"\n", "the key is wrong; "),
        (b"\xff\xfe\0 open cp210x-a.tx\n", "the key is wrong; "),
        (b"POST / HTTP/1.1\r\n\r\nopen cp210x-a.tx\n", "the key is wrong; "),
        (b"x" * 3000, "a request has at most 1024 bytes"),
    ],
)
def test_a_request_without_the_key_changes_nothing(tmp_path, request_, complaint):
    """H-42: every local user reaches the TCP port; only the bench's user can read the file with the key."""

    async def test(bench):
        before = await bench.command("state")
        async with await serve(bench, tmp_path / "port"):
            assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
            number, key = ((tmp_path / name).read_text(encoding="ascii").strip() for name in ("port", "key"))
            verdict, text = await ask(number, request_)
            assert verdict == "no"
            assert complaint in text
            assert key not in text
            assert await ask(number, f"{key} state\n".encode()) == ("ok", before)

    with_a_bench(test)


def test_each_bench_makes_its_own_key(tmp_path):
    """H-42: an old key is no longer good, and a link in its place is not followed."""
    (tmp_path / "other").write_text("keep\n", encoding="utf-8")
    (tmp_path / "key").symlink_to(tmp_path / "other")

    async def test(bench):
        keys = []
        for _ in range(2):
            async with await serve(bench, tmp_path / "port", owner=os.getuid()):
                keys.append((tmp_path / "key").read_text(encoding="ascii"))
        assert len(set(keys)) == 2

    with_a_bench(test)
    assert (tmp_path / "other").read_text(encoding="utf-8") == "keep\n"


async def ask(number, request):
    """The verdict of a running bench, and its text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(number))
    writer.write(request)
    answer = (await reader.read()).decode()
    writer.close()
    verdict, _, text = answer.partition("\n")
    return verdict, text.strip()


def test_modules_come_after_their_dependencies(tmp_path):
    """H-40: read from the modules themselves; what is built in is left out, and what is missing is named."""
    (tmp_path / "modules.builtin").write_text("kernel/lib/base.ko\n")
    for name, depends in [("top", "middle-one,base"), ("middle_one", "low"), ("low", "")]:
        (tmp_path / f"{name}.ko").write_bytes(b"ELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")
    assert list(closure(tmp_path, ["base", "top"])) == ["low", "middle_one", "top"]
    with pytest.raises(RuntimeError, match="no module vhci_hcd"):
        closure(tmp_path, ["vhci_hcd"])


def test_an_archive_has_the_folders_of_its_files():
    """H-40: names in order, each folder before what is in it, content padded to four bytes."""
    data = archive(["proc"], {"lib/deep/x": (b"12345", 0o644)})
    assert len(data) % 4 == 0
    names, at = [], 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        size, length = fields[6], fields[11]
        names.append(data[at + 110 : at + 110 + length - 1].decode())
        at += 110 + length
        at += -at % 4 + size
        at += -at % 4
    assert names == ["proc", "lib", "lib/deep", "lib/deep/x", "dev/console", "TRAILER!!!"]
