"""Linux on other machines: numbers and layouts by family, and no guess where they are not known."""

from __future__ import annotations

import errno
import struct
import sys
import termios
from pathlib import Path

import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import Capability, RS485Config, UnsupportedConfigurationError, UnsupportedFeatureError
from anyserial._backends.posix.facts import PosixFacts
from anyserial._backends.posix.linux import LinuxFacts, machine_facts
from anyserial._backends.posix.termios import Line
from anyserial.testing import PtyPair

from .kernel import GENERIC, KEEPER, MIPS, POWERPC, RATES, FakeKernel, Layout
from .terminal import Terminal

pytestmark = [pytest.mark.anyio, pytest.mark.posix("the numbers of Linux")]

N = Capability.UNSUPPORTED

FAMILIES = {
    "x86_64": GENERIC,
    "i686": GENERIC,
    "aarch64": GENERIC,
    "armv7l": GENERIC,
    "riscv64": GENERIC,
    "s390x": GENERIC,
    "loongarch64": GENERIC,
    "ppc": POWERPC,
    "ppc64le": POWERPC,
    "mips": MIPS,
    "mips64": MIPS,
}
BOTHER = 0x1000
UNKNOWN = ["sparc64", "alpha", "parisc64", "hexagon", ""]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested here lies below the event loop."""
    return "asyncio"


def size_in(number: int) -> int:
    """The size of the argument that the number of an ioctl tells; 13 bits are enough on every machine."""
    return number >> 16 & 0x1FFF


@pytest.mark.parametrize("machine", FAMILIES)
def test_each_machine_has_its_ioctl_numbers(machine: str) -> None:
    """L-178, sections 18.1 and 18.2: each family's numbers, and the struct sizes that they imply."""
    layout, found = FAMILIES[machine], machine_facts(machine)
    assert found is not None
    speed = found.speed
    assert (speed.get, speed.set) == (layout.get, layout.set)
    assert size_in(speed.get) == size_in(speed.set) == speed.struct.size == layout.struct.size
    assert (speed.bother, speed.cbaud) == (layout.bother, layout.cbaud)
    # The input rate has the same bits, 16 places up.
    assert speed.cibaud == speed.cbaud << 16
    assert (found.set_break, found.clear_break) == (0x5427, 0x5428)
    if layout is MIPS:
        assert (found.get_rs485, found.set_rs485) == (0x4020542E, 0xC020542F)
        assert size_in(found.get_rs485) == size_in(found.set_rs485) == 32
    else:
        assert (found.get_rs485, found.set_rs485) == (0x542E, 0x542F)


def test_termios_structs_have_the_sizes_of_the_kernel() -> None:
    """Sections 18.1 and 18.2: 44 bytes, on MIPS 48."""
    assert [layout.struct.size for layout in (GENERIC, POWERPC, MIPS)] == [44, 44, 48]


# Where the fields are: c_line, c_cc and its length, c_ispeed.
PLACES = {"x86_64": (16, 17, 19, 36), "ppc64le": (35, 16, 19, 36), "mips64": (16, 17, 23, 40)}


#: Rates with a code, and one without.
SOME_RATES = [50, 9600, 38_400, 57_600, 4_000_000, 123_456]


def code_of(rate: int, layout: Layout) -> int:
    """What the kernel's headers call a rate."""
    code = {rate: code for code, rate in RATES.items()}.get(rate, BOTHER)
    if layout is not POWERPC:
        return code
    return 0x1F if code == BOTHER else code if code < BOTHER else code - BOTHER + 0x0F


@pytest.mark.parametrize("machine", PLACES)
@pytest.mark.parametrize("rate", SOME_RATES)
def test_termios_fields_are_packed_where_the_kernel_reads(machine: str, rate: int) -> None:
    """L-179, sections 18.1 and 18.2: both speeds are the rate, BOTHER only without a code, the input slot clear."""
    discipline_at, characters_at, count, speeds_at = PLACES[machine]
    layout = FAMILIES[machine]
    written = b""

    def ioctl(fd: int, request: int, arg: bytes) -> bytes:
        nonlocal written
        if request == layout.set:
            written = arg
        else:
            assert request == layout.get
            assert len(arg) == layout.struct.size
        return written

    line = line_at(rate, characters=count)
    facts = LinuxFacts(ioctl=ioctl, machine=machine)
    facts.set_line(0, line)
    iflag, oflag, cflag, lflag = struct.unpack_from("=4I", written)
    assert (iflag, oflag, cflag, lflag) == (1, 2, 0x80000000 | code_of(rate, layout), 3)
    assert written[discipline_at] == 7
    assert written[characters_at : characters_at + count] == bytes(range(1, count + 1))
    assert struct.unpack_from("=2I", written, speeds_at) == (rate, rate)
    assert facts.get_line(0) == line


def line_at(rate: int, *, characters: int = 19) -> Line:
    """Bits above those of the rate, so that they mean nothing on any machine."""
    return Line(
        iflag=0x1,
        oflag=0x2,
        cflag=0x80000000,
        lflag=0x3,
        control_chars=tuple(range(1, characters + 1)),
        rate=rate,
        discipline=7,
    )


@pytest.mark.parametrize("layout", [GENERIC, POWERPC, MIPS], ids=["generic", "PowerPC", "MIPS"])
def test_every_rate_has_the_code_of_the_kernel(layout: Layout) -> None:
    """L-178, L-179: the whole table, and none of the codes is that of other rates."""
    machine = next(name for name, its in FAMILIES.items() if its is layout)
    found = machine_facts(machine)
    assert found is not None
    assert found.speed.codes == {rate: code_of(rate, layout) for rate in RATES.values()}
    assert found.speed.bother == code_of(123_456, layout)


# Python's B9600 and the others: the codes of Linux before glibc 2.42, since then the rates.
CONSTANTS = {"codes": {rate: code for code, rate in RATES.items()}, "rates": {rate: rate for rate in RATES.values()}}


@pytest.mark.parametrize("constants", CONSTANTS.values(), ids=CONSTANTS)
def test_the_kernel_gets_its_own_rate_codes(constants: dict[int, int]) -> None:
    """L-178: what `termios` calls a rate depends on the C library, and goes to tcsetattr alone."""
    written: list[bytes] = []

    def ioctl(fd: int, request: int, arg: bytes) -> bytes:
        written.append(arg)
        return arg

    LinuxFacts(ioctl=ioctl, machine="x86_64", constants=constants).set_line(0, line_at(9600))
    terminal = Terminal(speed=constants[1200])
    PosixFacts(name="sunos5", constants=constants, **terminal.functions).set_line(0, line_at(9600))
    assert int.from_bytes(written[0][8:12], sys.byteorder) == 0x80000000 | 0o15
    assert terminal.calls == [("tcsetattr", constants[9600])]


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.ENOSYS, errno.EINVAL])
async def test_without_termios2_plain_termios_will_do(code: int, tmp_path: Path, ptys: PtyPair) -> None:
    """L-179: gVisor, WSL 1 and older QEMU lack the call; only rates without a constant need it."""
    kernel = FakeKernel(KEEPER, tmp_path)
    kernel.refuse["TCGETS2"] = code
    async with await kernel.open(ptys.path_a, baudrate=19_200) as port:
        fd = port.extra(FileStreamAttribute.fileno)
        assert termios.tcgetattr(fd)[4:6] == [termios.B19200, termios.B19200]
        with pytest.raises(UnsupportedConfigurationError, match="known rates"):
            await port.configure(port.config.with_changes(baudrate=123_456))
        await port.configure(port.config.with_changes(baudrate=57_600, stop_bits=2))
        assert termios.tcgetattr(fd)[5] == termios.B57600
        assert termios.tcgetattr(fd)[2] & termios.CSTOPB
    assert "TCSETS2" not in kernel.calls


@pytest.mark.parametrize(("machine", "layout"), [("x86_64", GENERIC), ("mips64", MIPS)])
async def test_a_port_uses_the_numbers_of_its_machine(
    machine: str, layout: Layout, tmp_path: Path, ptys: PtyPair
) -> None:
    """L-178, L-179, L-180: open, custom rate, RS-485 and break with the numbers of its family; the rest is kept."""
    kernel = FakeKernel(KEEPER, tmp_path, machine=machine, layout=layout)
    async with await kernel.open(ptys.path_a, baudrate=123_456, rs485=RS485Config()) as port:
        assert kernel.rate == 123_456
        await port.configure(port.config.with_changes(baudrate=9600))
        assert kernel.rate == 9600
        await port.send_break(0)
    assert {"TCSETS2", "TIOCSRS485", "TIOCSBRK", "TIOCCBRK"} <= set(kernel.calls)
    assert kernel.rs485 == KEEPER.rs485_at_first


@pytest.mark.parametrize("machine", UNKNOWN)
def test_an_unknown_machine_has_no_table(machine: str) -> None:
    """L-178: rather none than a guess."""
    assert machine_facts(machine) is None


async def test_an_unknown_machine_guesses_no_number(tmp_path: Path, ptys: PtyPair) -> None:
    """L-178: what needs the table is unsupported and never attempted; what Python knows works as elsewhere."""
    kernel = FakeKernel(KEEPER, tmp_path, machine="sparc64")
    async with await kernel.open(ptys.path_a, low_latency=True) as port:
        has = port.capabilities
        assert {has.custom_baudrate, has.rs485, has.break_signal, has.mark_space_parity} == {N}
        assert kernel.low_latency
        assert (await port.control_lines()).dtr
        await port.configure(port.config.with_changes(baudrate=57_600, stop_bits=2))
        with pytest.raises(UnsupportedFeatureError, match=ptys.path_a) as caught:
            await port.send_break(0)
        assert caught.value.errno == errno.ENOTTY
        with pytest.raises(UnsupportedConfigurationError, match="known rates"):
            await port.configure(port.config.with_changes(baudrate=123_456))
        for fields in ({"rs485": RS485Config()}, {"parity": "mark"}):
            with pytest.raises(UnsupportedFeatureError, match="not supported"):
                await port.configure(port.config.with_changes(**fields))
    guessed = {"TCGETS2", "TCSETS2", "TIOCGRS485", "TIOCSRS485", "TIOCSBRK", "TIOCCBRK"}
    assert guessed.isdisjoint(kernel.calls)
