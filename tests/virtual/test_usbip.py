"""USB/IP: messages in any pieces, transfers answered once, and adapters that a kernel would accept."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtualbench.adapter import Adapter
from virtualbench.cable import Cable
from virtualbench.plan import CHIPS
from virtualbench.sampling import Error
from virtualbench.usbip import Decoder, ProtocolError, Setup, Transfer, Unlink, submission, unlinking

from .support import Kernel

pytestmark = pytest.mark.posix("the virtual bench runs on Linux")

SETUPS = st.builds(Setup, *[st.integers(0, 255)] * 2, *[st.integers(0, 65_535)] * 3)
NUMBERS = st.integers(0, 2**32 - 1)


@st.composite
def transfers(draw):
    is_input = draw(st.booleans())
    data = b"" if is_input else draw(st.binary(max_size=80))
    length = draw(st.integers(0, 4096)) if is_input else len(data)
    return Transfer(draw(NUMBERS), draw(st.integers(0, 15)), is_input, length, draw(SETUPS), data)


MESSAGES = st.lists(transfers() | st.builds(Unlink, NUMBERS, NUMBERS), max_size=6)


@given(MESSAGES, st.data())
def test_messages_survive_any_chunking(messages, data):
    """H-42: a stream has no boundaries; the decoder finds them."""
    wire = b"".join(unlinking(each) if isinstance(each, Unlink) else submission(each) for each in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    decoder, found = Decoder(), []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += decoder.feed(wire[begin:end])
    assert found == messages


def test_an_unknown_command_is_an_error():
    """H-42: an unknown command is an error that names it."""
    with pytest.raises(ValueError, match="command 7 "):
        list(Decoder().feed(bytes([0, 0, 0, 7]) + bytes(44)))


@pytest.mark.parametrize("length", [-1, -48, -49, -(2**31), 2**31 - 1])
@pytest.mark.parametrize("is_input", [False, True])
def test_a_transfer_of_an_impossible_length_is_an_error(length, is_input):
    """H-42: a length below zero moved the decoder backwards, one without bounds made it wait for ever."""
    with pytest.raises(ProtocolError, match=f"transfer of {length} bytes"):
        list(Decoder().feed(submission(Transfer(1, 2, is_input, length, Setup(0, 0, 0, 0, 0), b""))))


def test_an_unknown_command_disconnects_the_adapter():
    """H-42: nothing that follows can be understood, so the adapter lets go instead of reading on."""

    async def test(kernel, adapter):
        seen = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["exception"]))
        await kernel.send(bytes([0, 0, 0, 7]) + bytes(44))
        while adapter.is_plugged:
            await asyncio.sleep(0.001)
        assert [type(error) for error in seen] == [ProtocolError]

    on_a_bench(test, "ftdi")


def on_a_bench(test, *chips):
    """Run `test(kernel, ...)` with adapters of these chips on one cable, each attached to a kernel of its own."""

    async def main():
        async with asyncio.timeout(20):
            adapters = [Adapter(f"end-{chip}", CHIPS[chip], asyncio.get_running_loop()) for chip in chips]
            Cable(*(adapter.uart for adapter in adapters))
            kernels = [Kernel(adapter) for adapter in adapters]
            try:
                await test(*kernels, *adapters)
            finally:
                for kernel in kernels:
                    await kernel.release()

    asyncio.run(main())


# Where the bytes go and come from, and what leads them in a packet.
ENDPOINTS = {"ftdi": (2, 1, 2), "cp210x": (1, 2, 0), "acm": (2, 1, 0), "xr": (2, 1, 0)}


@pytest.mark.parametrize("chip", CHIPS)
def test_descriptors_of_an_adapter_are_consistent(chip):
    """H-42: device, configuration and strings are consistent; the name is the serial number."""

    async def test(kernel, adapter):
        _, device = await kernel.control(0x80, 6, 0x0100, length=64)
        assert len(device) == device[0] == 18
        assert int.from_bytes(device[8:10], "little") == adapter.chip.identity.vid
        _, head = await kernel.control(0x80, 6, 0x0200, length=9)
        total = int.from_bytes(head[2:4], "little")
        _, whole = await kernel.control(0x80, 6, 0x0200, length=512)
        assert len(whole) == total
        parts, at = [], 0
        while at < total:
            parts.append(whole[at + 1])
            at += whole[at]
        assert at == total
        assert parts.count(4) == whole[4]
        assert parts.count(5) == (3 if chip in ("acm", "xr") else 2)
        _, serial = await kernel.control(0x80, 6, 0x0300 | device[16], 0x0409, length=255)
        assert serial[2:].decode("utf-16-le") == f"end-{chip}"
        status, _ = await kernel.control(0x80, 6, 0x0F00, length=5)
        assert status == -32

    on_a_bench(test, chip)


@pytest.mark.parametrize("chip", CHIPS)
def test_bytes_go_from_kernel_to_kernel(chip):
    """H-42: more than a UART's FIFO holds, in one transfer, arrives whole and in order."""
    out, source, lead = ENDPOINTS[chip]
    data = bytes(range(256)) * 3

    async def test(near, far, *adapters):
        for adapter in adapters:
            adapter.uart.format = adapter.uart.format.__class__(1_000_000)
        await near.submit(out, data=data)
        got = b""
        while len(got) < len(data):
            await far.read(source, 64)
            *_, packet = await far.answer()
            got += packet[lead:]
        assert got == data
        assert await near.answer() == (3, 1, 0, len(data))

    on_a_bench(test, chip, chip)


@pytest.mark.parametrize("chip", CHIPS)
def test_an_unlinked_transfer_is_not_answered_twice(chip):
    """H-42: the answer says that it was caught; one that is not there any more says that too."""

    async def test(kernel, adapter):
        del adapter
        if chip == "ftdi":
            await kernel.read(1, 64)  # it says hello
            await kernel.answer()
        number = await kernel.read(ENDPOINTS[chip][1], 64)
        await kernel.send(unlinking(Unlink(77, number)))
        assert (await kernel.answer())[:3] == (4, 77, -104)
        await kernel.send(unlinking(Unlink(78, number)))
        assert (await kernel.answer())[:3] == (4, 78, 0)

    on_a_bench(test, chip)


def test_pending_transfers_end_at_a_cut():
    """H-42: nobody would end it for the driver, which would keep the device for seconds."""

    async def test(kernel, adapter):
        setup = Setup(0x80, 6, 0x0100, 0, 18)
        for _ in range(2):
            await kernel.read(0, 18, setup=setup)
        adapter.cut()
        assert [(await kernel.answer())[2] for _ in range(2)] == [0, 0]
        assert kernel.sock.recv(1) == b""
        assert not adapter.is_plugged

    on_a_bench(test, "cp210x")


def test_a_kernel_that_detaches_unplugs_the_device():
    """H-42: the adapter has no power then, and its lines are off."""

    async def test(kernel, adapter):
        adapter.uart.set_lines(rts=True)
        assert adapter.is_plugged
        await kernel.release()
        assert not adapter.uart.powered

    on_a_bench(test, "cp210x")


def test_ftdi_waits_for_its_timer():
    """H-42: a single byte waits for the next tick of the latency timer; a full packet does not wait."""

    async def test(near, far, *adapters):
        loop = asyncio.get_running_loop()
        for adapter in adapters:
            adapter.uart.format = adapter.uart.format.__class__(1_000_000)
        await far.control(0x40, 9, 200)
        assert await far.control(0xC0, 10, length=1) == (0, b"\xc8")
        await far.read(1, 512)
        await far.answer()
        began = loop.time()
        await far.read(1, 512)
        await near.submit(2, data=b"x")
        assert (await far.answer())[3][2:] == b"x"
        assert loop.time() - began > 0.1
        await far.read(1, 512)
        await near.submit(2, data=bytes(62))
        began = loop.time()
        *_, packet = await far.answer()
        assert len(packet) == 64

    on_a_bench(test, "ftdi", "ftdi")


def test_ftdi_status_shows_an_empty_transmitter():
    """H-42, L-68: the status shows an empty transmitter, a busy one, and an empty one again."""

    async def test(kernel, far, adapter, *others):
        async def is_empty():
            await kernel.read(1, 64)
            while isinstance(status := (await kernel.answer())[3], int):
                pass  # the output has been taken
            return bool(status[1] & 0x40)

        assert await is_empty()
        await kernel.submit(2, data=bytes(200))
        assert not await is_empty()
        while not await is_empty():
            assert not adapter.uart.idle
        assert adapter.uart.idle

    on_a_bench(test, "ftdi", "ftdi")


def test_ftdi_reports_errors_in_the_status_byte():
    """H-42: an errored character comes alone behind its status."""

    async def test(kernel, adapter):
        await kernel.read(1, 64)
        await kernel.answer()
        adapter.uart.receive(b"k")
        adapter.uart.receive(b"p", Error.PARITY)
        await kernel.read(1, 64)
        await kernel.read(1, 64)
        first, second = (await kernel.answer())[3], (await kernel.answer())[3]
        assert (first[1] & 0x1E, first[2:]) == (0, b"k")
        assert (second[1] & 0x1E, second[2:]) == (Error.PARITY, b"p")

    on_a_bench(test, "ftdi")


def test_cp210x_marks_events_in_the_stream():
    """H-42: with an escape set, errors, lines and the escape itself are marked."""

    async def test(kernel, adapter):
        await kernel.control(0x41, 0x15, 0xEC)
        adapter.uart.receive(b"a\xecb")
        adapter.uart.receive(b"p", Error.FRAMING)
        adapter.uart.set_lines(dtr=True)
        await kernel.read(2, 64)
        assert (await kernel.answer())[3] == b"\xec\x03\xaa" + b"a\xec\0b" + b"\xec\x01\x08p"

    on_a_bench(test, "cp210x")


def test_acm_notifies_beside_the_data():
    """H-42: a break is a notification only, a parity error one beside its byte, and RI a state."""

    async def test(kernel, adapter):
        adapter.uart.receive(b"\0", Error.BREAK)
        adapter.uart.receive(b"p", Error.PARITY)
        await kernel.read(1, 64)
        assert (await kernel.answer())[3] == b"p"
        states = []
        for _ in range(2):
            await kernel.read(3, 16)
            states.append((await kernel.answer())[3][8])
        assert states == [0x04, 0x20]
        adapter.uart.set_lines(dtr=True)
        await kernel.read(3, 16)
        assert (await kernel.answer())[3][8] == 0x03

    on_a_bench(test, "acm")


def test_xr_shows_lines_as_gpio():
    """H-42: active low, inputs and outputs in one register."""

    async def test(kernel, adapter):
        assert await kernel.control(0xC0, 1, 0, 0x1F, length=1) == (0, b"\x3f")
        await kernel.control(0x40, 0, 0x28, 0x1E)
        assert adapter.uart.rts
        assert adapter.uart.dtr
        assert await kernel.control(0xC0, 1, 0, 0x1F, length=1) == (0, b"\x01")

    on_a_bench(test, "xr")
