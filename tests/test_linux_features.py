"""Low latency and RS-485 on Linux: what is asked for, what the driver makes of it, and what a close puts back."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import anyio
import pytest

from anyserial import RS485Config, SerialPort, UnsupportedFeatureError
from anyserial.testing import PtyPair

from .kernel import (
    CP210X,
    ENABLED,
    FTDI,
    KEEPER,
    PL011,
    RTS,
    RTS_AFTER_SEND,
    RTS_ON_SEND,
    RX_DURING_TX,
    TERMINATE,
    UART_8250,
    XR,
    Driver,
    FakeKernel,
    pack_rs485,
    unpack_rs485,
)
from .support import assert_raises_when_cancelled, until
from .unprivileged import run_unprivileged

pytestmark = [pytest.mark.anyio, pytest.mark.posix("Linux")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


@pytest.fixture
def ftdi(tmp_path: Path) -> FakeKernel:
    """An FTDI adapter, its timer at 16 ms."""
    return FakeKernel(FTDI, tmp_path)


@pytest.fixture
def keeper(tmp_path: Path) -> FakeKernel:
    """A UART whose driver takes every RS-485 struct."""
    return FakeKernel(KEEPER, tmp_path)


def timer(kernel: FakeKernel) -> int:
    assert kernel.timer is not None
    return int(kernel.timer.read_text())


async def test_low_latency_sets_flag_and_timer(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-181, L-183, L-93: on while the port is open; at close the timer is what it was before the flag hid it."""
    async with await ftdi.open(ptys.path_a, low_latency=True):
        assert ftdi.low_latency
        assert timer(ftdi) == 1
    assert not ftdi.low_latency
    assert timer(ftdi) == 16


async def test_low_latency_is_live(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-76: `False` brings back what was found at open, also when the timer was not at its default."""
    assert ftdi.timer is not None
    ftdi.timer.write_text("5\n")
    async with await ftdi.open(ptys.path_a) as port:
        assert (ftdi.low_latency, timer(ftdi)) == (False, 5)
        for _ in range(2):
            await port.configure(port.config.with_changes(low_latency=True))
            assert (ftdi.low_latency, timer(ftdi)) == (True, 1)
            await port.configure(port.config.with_changes(low_latency=False))
            assert (ftdi.low_latency, timer(ftdi)) == (False, 5)


async def test_a_flag_that_was_set_stays_set(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-76, L-131, section 18.1: nothing is written when the flag is as wanted, and nothing undone."""
    ftdi.serial[17] |= 0x20
    async with await ftdi.open(ptys.path_a, low_latency=True) as port:
        await port.configure(port.config.with_changes(low_latency=False))
    assert "TIOCSSERIAL" not in ftdi.calls
    assert ftdi.low_latency


async def test_the_rest_of_the_struct_is_kept(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-181: the whole struct is read, one bit changed, and written."""
    before = bytes(ftdi.serial)
    async with await ftdi.open(ptys.path_a, low_latency=True):
        changed = [i for i, (old, new) in enumerate(zip(before, ftdi.serial, strict=True)) if old != new]
        assert changed == [17]
    assert bytes(ftdi.serial) == before


@pytest.mark.parametrize("driver", [UART_8250, CP210X, XR], ids=lambda driver: driver.name)
async def test_only_ftdi_has_a_timer(driver: Driver, tmp_path: Path, ptys: PtyPair) -> None:
    """L-182: a file of that name on another driver is not touched, and its absence is no error."""
    kernel = FakeKernel(driver, tmp_path)
    (folder,) = tmp_path.glob("devices/**/tty/*/device")
    stranger = folder / "latency_timer"
    stranger.write_text("16\n")
    async with await kernel.open(ptys.path_a, low_latency=True):
        assert kernel.low_latency is driver.keeps_low_latency
        assert stranger.read_text() == "16\n"
    assert not kernel.low_latency


async def test_a_timer_that_cannot_be_read_is_left_alone(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-183: the flag alone is enough."""
    assert ftdi.timer is not None
    ftdi.timer.unlink()
    ftdi.timer.mkdir()
    ftdi.timer = None
    async with await ftdi.open(ptys.path_a, low_latency=True):
        assert ftdi.low_latency
    assert not ftdi.low_latency


def test_without_root_the_flag_is_enough(ptys: PtyPair) -> None:
    """L-183, L-181: the timer cannot be written; the flag took effect, and all is as before after the close."""
    said = run_unprivileged(
        """
async def main():
    kernel = FakeKernel(FTDI, folder)
    timer, kernel.timer = kernel.timer, None
    timer.chmod(0o444)
    async with await kernel.open(path, low_latency=True):
        print(kernel.low_latency, timer.read_text().strip())
    print(kernel.low_latency, timer.read_text().strip())

anyio.run(main)
""",
        ptys.path_a,
    )
    assert said == "True 16\nFalse 16\n"


async def test_a_refused_low_latency_follows_the_policy(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-184, L-131: the setter's refusal goes to the policy; nothing is restored that was not applied."""
    ftdi.refuse["TIOCSSERIAL"] = errno.EPERM
    with pytest.raises(UnsupportedFeatureError, match="low latency was refused") as caught:
        await ftdi.open(ptys.path_a, low_latency=True)
    assert caught.value.errno == errno.EPERM
    ftdi.calls.clear()
    async with await ftdi.open(ptys.path_a, low_latency=True, unsupported_policy="ignore") as port:
        assert port.config.low_latency
    assert ftdi.calls.count("TIOCSSERIAL") == 1
    assert timer(ftdi) == 16


async def test_close_repeats_a_failed_switch_off(ftdi: FakeKernel, ptys: PtyPair) -> None:
    """L-71, L-76, L-93: low latency is still on after the refused configure, and off after the close."""
    async with await ftdi.open(ptys.path_a, low_latency=True) as port:
        ftdi.refuse["TIOCSSERIAL"] = errno.EBUSY
        with pytest.raises(OSError, match=ptys.path_a):
            await port.configure(port.config.with_changes(low_latency=False))
        assert port.config.low_latency
        assert ftdi.low_latency
        ftdi.refuse.clear()
    assert (ftdi.low_latency, timer(ftdi)) == (False, 16)


async def test_rs485_changes_only_the_requested_settings(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-180: flags and delays of the config; address bytes and bits of others stay, before, during and after."""
    original = keeper.rs485
    wanted = RS485Config(delay_before_send=0.0124, delay_after_send=0.25, rx_during_tx=True)
    async with await keeper.open(ptys.path_a, rs485=wanted):
        assert unpack_rs485(keeper.rs485) == (TERMINATE | ENABLED | RTS_ON_SEND | RX_DURING_TX, 12, 250)
        assert keeper.rs485[12:] == original[12:]
    assert keeper.rs485 == original


async def test_rs485_is_live(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-77: `None` brings back the struct from before the first change, however often it was changed since."""
    original = keeper.rs485
    async with await keeper.open(ptys.path_a) as port:
        for delay in (0.001, 0.002):
            await port.configure(port.config.with_changes(rs485=RS485Config(delay_before_send=delay)))
            assert unpack_rs485(keeper.rs485)[1] == delay * 1000
        await port.configure(port.config.with_changes(rs485=None))
        assert keeper.rs485 == original
        keeper.calls.clear()
    assert "TIOCSRS485" not in keeper.calls


async def test_without_rs485_the_struct_is_not_touched(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-77, L-126: beyond the probe at open there is no call."""
    async with await keeper.open(ptys.path_a) as port:
        await port.configure(port.config.with_changes(baudrate=9600))
    assert [name for name in keeper.calls if "RS485" in name] == ["TIOCGRS485"]


async def test_rs485_switched_off_is_written(tmp_path: Path, ptys: PtyPair) -> None:
    """L-77: `enabled=False` writes the struct with the bit cleared, and close brings back the one that was on."""
    kernel = FakeKernel(KEEPER, tmp_path)
    kernel.rs485 = original = pack_rs485(ENABLED | RTS_ON_SEND)
    async with await kernel.open(ptys.path_a, rs485=RS485Config(enabled=False)):
        assert unpack_rs485(kernel.rs485)[0] == RTS_ON_SEND
    assert kernel.rs485 == original


@pytest.mark.parametrize(
    ("driver", "wanted", "flags", "said"),
    [
        (XR, RS485Config(rts_on_send=False), ENABLED | RTS_AFTER_SEND, ["rts_after_send is True"]),
        (XR, RS485Config(delay_before_send=0.01), ENABLED | RTS_ON_SEND, ["delay_before_send is 0 ms"]),
        (PL011, RS485Config(rts_after_send=True), ENABLED | RTS_ON_SEND, ["rts_after_send is False"]),
        (
            PL011,
            RS485Config(delay_before_send=0.2, delay_after_send=0.3),
            ENABLED | RTS_ON_SEND,
            ["delay_before_send is 100 ms", "delay_after_send is 100 ms"],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Driver) else "",
)
async def test_an_adjusted_rs485_struct_gives_one_warning(
    driver: Driver, wanted: RS485Config, flags: int, said: list[str], tmp_path: Path, ptys: PtyPair
) -> None:
    """L-180: one warning names what the driver made different; under IGNORE there is none."""
    kernel = FakeKernel(driver, tmp_path)
    with pytest.warns(RuntimeWarning, match="adjusted RS-485") as warned:
        port = await kernel.open(ptys.path_a, rs485=wanted)
    (text,) = [str(warning.message) for warning in warned]
    assert all(words in text for words in (ptys.path_a, *said))
    assert unpack_rs485(kernel.rs485)[0] == flags
    await port.aclose()
    async with await kernel.open(ptys.path_a, rs485=wanted, unsupported_policy="ignore"):
        assert unpack_rs485(kernel.rs485)[0] == flags


async def test_bits_of_others_that_a_driver_clears_are_named(tmp_path: Path, ptys: PtyPair) -> None:
    """L-180: also bits that this library never changes."""
    kernel = FakeKernel(PL011, tmp_path)
    kernel.rs485 = pack_rs485(TERMINATE | RTS_ON_SEND)
    with pytest.warns(RuntimeWarning, match="flags 0x20"):
        port = await kernel.open(ptys.path_a, rs485=RS485Config())
    await port.aclose()


async def test_rs485_settings_taken_unchanged_give_no_warning(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-180: no adjustment, no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        port = await keeper.open(ptys.path_a, rs485=RS485Config())
    await port.aclose()


async def test_the_getter_does_not_prove_rs485(tmp_path: Path, ptys: PtyPair) -> None:
    """L-126, L-180: a plain 8250 answers zeros and refuses the setter; what was already applied is undone."""
    kernel = FakeKernel(UART_8250, tmp_path)
    before = kernel.state()
    with pytest.raises(UnsupportedFeatureError, match="RS-485 was refused") as caught:
        await kernel.open(ptys.path_a, baudrate=9600, low_latency=True, rs485=RS485Config())
    assert caught.value.errno == errno.ENOTTY
    assert kernel.state() == before


async def test_enabled_that_does_not_stick_is_a_refusal(tmp_path: Path, ptys: PtyPair) -> None:
    """L-180: the driver took the call and left RS-485 off; the struct found at open comes back."""
    driver = Driver(name="deaf", gets_rs485=True, rs485=lambda data: pack_rs485(unpack_rs485(data)[0] & ~ENABLED))
    kernel = FakeKernel(driver, tmp_path)
    original = kernel.rs485
    with pytest.raises(UnsupportedFeatureError, match="RS-485 was refused") as caught:
        await kernel.open(ptys.path_a, rs485=RS485Config())
    assert caught.value.errno == errno.EINVAL
    assert kernel.rs485 == original
    with pytest.warns(RuntimeWarning, match="going on without it"):
        port = await kernel.open(ptys.path_a, rs485=RS485Config(), unsupported_policy="warn")
    assert kernel.rs485 == original
    writes = len(kernel.rs485_writes)
    await port.aclose()
    assert len(kernel.rs485_writes) == writes


async def test_rts_belongs_to_the_driver_under_rs485(tmp_path: Path, ptys: PtyPair) -> None:
    """L-78: a reconfigure restores DTR and RTS, but not an RTS that enables the transmitter."""
    kernel = FakeKernel(PL011, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        assert (await port.control_lines()).rts
        kernel.calls.clear()
        for baudrate in (9600, 19_200):
            await port.configure(port.config.with_changes(baudrate=baudrate, rs485=RS485Config()))
            assert not kernel.modem & RTS
    assert {"TIOCMBIS", "TIOCMBIC"}.isdisjoint(kernel.calls)


@pytest.mark.parametrize("way", ["scope", "call"])
async def test_a_cancelled_close_restores_everything(way: str, tmp_path: Path, ptys: PtyPair) -> None:
    """L-93, E21, E22: whatever happens to the caller, flag and struct are put back before it learns of it."""
    kernel = FakeKernel(KEEPER, tmp_path)
    before = kernel.state()[1:3]
    port = await kernel.open(ptys.path_a, low_latency=True, rs485=RS485Config())
    assert kernel.state()[1:3] != before
    if way == "call":
        await assert_raises_when_cancelled(port.aclose)
    else:
        with anyio.move_on_after(0.01) as scope:
            async with port:
                await port.receive()
        assert scope.cancelled_caught
    assert kernel.state()[1:3] == before


async def test_settings_are_restored_in_order(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-93: break, then the flag, then the RS-485 struct, then the exclusive flag; line attributes stay."""
    port = await keeper.open(ptys.path_a, low_latency=True, rs485=RS485Config(), exclusive=True)
    async with anyio.create_task_group() as tg:
        tg.start_soon(_break, port)
        await until(lambda: keeper.break_on)
        keeper.calls.clear()
        await port.aclose()
    changes = ("TIOCCBRK", "TIOCSSERIAL", "TIOCSRS485", "TIOCNXCL", "TCSETS2")
    assert [name for name in keeper.calls if name in changes] == ["TIOCCBRK", "TIOCSSERIAL", "TIOCSRS485", "TIOCNXCL"]


async def _break(port: SerialPort) -> None:
    with anyio.move_on_after(0.1):
        await port.send_break(10)


async def test_rs485_waits_for_pending_output(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-93, L-95: the transceiver is switched only after the output has left; the flag at once."""
    original = keeper.rs485
    port = await keeper.open(ptys.path_a, low_latency=True, rs485=RS485Config(), exclusive=True)
    keeper.queue = 5
    await port.aclose()
    assert not keeper.low_latency
    await anyio.sleep(0.05)
    assert keeper.rs485 != original
    assert "TIOCNXCL" not in keeper.calls
    keeper.queue = 0
    await until(lambda: "TIOCNXCL" in keeper.calls)
    assert keeper.rs485 == original


async def test_a_vanished_device_does_not_stop_the_close(keeper: FakeKernel, ptys: PtyPair) -> None:
    """L-93: every step fails, each is tried, and the caller sees no error."""
    port = await keeper.open(ptys.path_a, low_latency=True, rs485=RS485Config(), exclusive=True)
    keeper.vanish()
    keeper.calls.clear()
    await port.aclose()
    assert {"TIOCGSERIAL", "TIOCSRS485", "TIOCNXCL"} <= set(keeper.calls)
