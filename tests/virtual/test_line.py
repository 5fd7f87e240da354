"""UARTs and the wires between them: time, flow control, breaks, and every wire on its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtualbench.cable import Cable
from virtualbench.fifo import Fifo
from virtualbench.sampling import FINE, Error, Format
from virtualbench.uart import Modem, Uart

from .support import Time, arrived, line

pytestmark = pytest.mark.posix("the virtual bench runs on Linux")


@given(
    st.lists(st.tuples(st.binary(max_size=30), st.sampled_from([FINE, Error.PARITY])), max_size=20), st.integers(1, 9)
)
def test_a_fifo_keeps_order_and_errors(puts, limit):
    """H-42: whatever sizes are taken, each byte comes out once, with its own error."""
    fifo = Fifo()
    for data, error in puts:
        fifo.put(data, error)
    assert len(fifo) == sum(len(data) for data, _ in puts)
    assert fifo.has_errors == any(data and error for data, error in puts)
    out = []
    while len(fifo):
        data, error = fifo.take(limit)
        assert 0 < len(data) <= limit
        assert len(data) == 1 or not error
        out += [(byte, error) for byte in data]
    assert out == [(byte, error) for data, error in puts for byte in data]


def test_a_full_fifo_loses_bytes_and_reports_an_overrun():
    """H-42: what does not fit is gone, and the next character that arrives carries the overrun."""
    fifo = Fifo(4)
    fifo.put(b"abcdef")
    assert fifo.take(9) == (b"abcd", FINE)
    fifo.put(b"gh")
    assert fifo.take(9) == (b"g", Error.OVERRUN)
    assert fifo.take(9) == (b"h", FINE)


@pytest.mark.parametrize("settings", [Format(9600), Format(1200, 7, "E", 2), Format(115_200, 5, "N", 1.5)])
def test_characters_take_as_long_as_on_a_wire(settings):
    """H-42: a hundred characters need a hundred character times, and not more."""
    time, a, b = line("a", "b")
    a.format = b.format = settings
    assert a.transmit(bytes(100)) == 100
    time.advance(99 * settings.seconds)
    assert len(b.fifo) < 100
    assert not a.idle
    time.advance(1.01 * settings.seconds)
    assert len(b.fifo) == 100
    assert a.idle


def test_a_line_is_not_faster_after_a_pause():
    """H-42: a line that was idle for a second is not faster afterwards."""
    time, a, b = line("a", "b")
    a.format = b.format = Format(9600)
    time.advance(1)
    a.transmit(bytes(96))
    time.advance(0.09)
    assert len(b.fifo) < 96
    time.advance(0.01)
    assert len(b.fifo) == 96


def test_a_fifo_accepts_what_fits():
    """H-42: a UART takes what fits into its FIFO, and more when that has left."""
    time, a, b = line("a", "b")
    a.set_flow(rts_cts=True)
    assert a.transmit(bytes(1000)) == 128
    assert a.room == 0
    b.set_lines(rts=True)
    time.advance(0.2)
    assert a.room > 100


def test_output_can_be_discarded():
    """H-42: what is on the line passes, the rest does not."""
    time, a, b = line("a", "b")
    a.transmit(bytes(100))
    a.discard_output()
    time.advance(1)
    assert 1 <= len(b.fifo) < 10
    assert a.idle


def test_without_cts_nothing_leaves():
    """H-42: CTS holds the transmitter, and lets it go on."""
    time, a, b = line("a", "b")
    a.set_flow(rts_cts=True)
    a.transmit(b"abc")
    time.advance(1)
    assert arrived(b) == []
    b.set_lines(rts=True)
    time.advance(1)
    assert arrived(b) == [(b"abc", FINE)]


def test_automatic_rts_holds_the_far_end_before_anything_is_lost():
    """H-42: with flow control at both ends, a receiver that nobody empties loses nothing."""
    time, a, b = line("a", "b")
    a.format = b.format = Format(115_200)
    a.cts_flow = b.auto_rts = True
    b.set_lines(rts=True)
    sent = received = 0
    for _ in range(200):
        sent += a.transmit(bytes(100))
        time.advance(0.01)
    assert 500 < len(b.fifo) < 1000
    assert not b.rts
    while len(b.fifo) or not a.idle:
        received += len(b.fifo.take(1000)[0])
        b.input_taken()
        time.advance(0.001)
    assert b.rts
    assert received == sent


def test_xoff_holds_the_transmitter():
    """H-42: until XON; neither is received, and both act in their places in the stream."""
    time, a, b = line("a", "b")
    a.set_flow(obeyed=b"\x11\x13")
    b.transmit(b"x\x13y")
    time.advance(1)
    assert arrived(a) == [(b"xy", FINE)]
    a.transmit(b"held")
    time.advance(1)
    assert arrived(b) == []
    b.transmit(b"\x11")
    time.advance(1)
    assert arrived(b) == [(b"held", FINE)]


def test_without_it_xoff_is_a_character():
    """H-42: it arrives like any other, and what held the transmitter lets go."""
    time, a, b = line("a", "b")
    a.set_flow(obeyed=b"\x11\x13")
    b.transmit(b"\x13")
    a.transmit(b"held")
    time.advance(0.1)
    a.set_flow()
    b.transmit(b"\x13")
    time.advance(1)
    assert (arrived(a), arrived(b)) == ([(b"\x13", FINE)], [(b"held", FINE)])


def test_a_full_receiver_sends_xoff():
    """H-42: ahead of its own output, even of what is held; XON when there is room again."""
    time, a, b = line("a", "b")
    for end in (a, b):
        end.format = Format(115_200)
        end.set_flow(obeyed=b"\x11\x13", auto_xoff=b"\x11\x13")
    sent = received = 0
    for _ in range(50):
        sent += a.transmit(bytes(100))
        time.advance(0.01)
    assert 500 < len(b.fifo) < 1000
    while len(b.fifo) or not a.idle:
        received += len(b.fifo.take(1000)[0])
        b.input_taken()
        time.advance(0.001)
    assert received == sent
    assert len(a.fifo) == 0


def test_a_break_is_one_zero_byte_and_delays_later_bytes():
    """H-42: it waits for the character on the line, arrives once, and nothing passes while it lasts."""
    time, a, b = line("a", "b")
    a.transmit(b"x")
    a.set_break(True)
    a.transmit(b"y")
    time.advance(1)
    assert arrived(b) == [(b"x", FINE), (b"\0", Error.BREAK)]
    a.set_break(False)
    time.advance(1)
    assert arrived(b) == [(b"y", FINE)]


def test_a_null_modem_crosses_the_lines():
    """H-42: RTS is the far end's CTS, DTR its DSR and CD."""
    _, a, b = line("a", "b")
    a.set_lines(rts=True)
    assert b.modem == Modem.CTS
    a.set_lines(rts=False, dtr=True)
    assert b.modem == Modem.DSR | Modem.CD
    assert a.modem == Modem(0)


def test_a_loopback_plug_connects_an_end_to_itself():
    """H-42: an end by itself sees and hears itself."""
    time, a = line("a")
    a.set_lines(rts=True, dtr=True)
    a.transmit(b"echo")
    time.advance(1)
    assert arrived(a) == [(b"echo", FINE)]
    assert a.modem == Modem.CTS | Modem.DSR | Modem.CD


def test_an_unplugged_end_drives_and_receives_nothing():
    """H-42: its lines are off, and what is sent to it is gone."""
    time, a, b = line("a", "b")
    b.set_lines(rts=True, dtr=True)
    b.power(False)
    assert a.modem == Modem(0)
    a.transmit(b"lost")
    time.advance(1)
    b.power(True)
    time.advance(1)
    assert arrived(b) == []
    assert not b.rts


@pytest.fixture
def cable():
    time = Time()
    a, b = Uart("a", time), Uart("b", time)
    cable = Cable(a, b)
    for end in cable.ends:
        end.power(True)
        end.set_lines(rts=True, dtr=True)
    return cable


ALL = Modem.CTS | Modem.DSR | Modem.CD


def test_one_wire_can_be_broken(cable):
    """H-42: the others stay, and it can be repaired."""
    a, b = cable.ends
    cable.break_wire(a, "rts")
    assert (a.modem, b.modem) == (ALL, Modem.DSR | Modem.CD)
    cable.break_wire(a, "dtr")
    assert b.modem == Modem(0)
    cable.repair_wire(a, "rts")
    assert b.modem == Modem.CTS


def test_a_broken_data_wire_is_one_direction(cable):
    """H-42: the far end hears nothing, and is heard."""
    a, b = cable.ends
    cable.break_wire(a, "tx")
    a.transmit(b"lost")
    b.transmit(b"heard")
    a.scheduler.advance(1)
    assert (arrived(a), arrived(b)) == ([(b"heard", FINE)], [])


def test_wires_can_be_swapped(cable):
    """H-42: RTS of a drives what its DTR should, and the other way round; swapped again it is as before."""
    a, b = cable.ends
    a.set_lines(dtr=False)
    cable.swap((a, "rts"), (a, "dtr"))
    assert b.modem == Modem.DSR | Modem.CD
    a.set_lines(rts=False, dtr=True)
    assert b.modem == Modem.CTS
    cable.swap((a, "rts"), (a, "dtr"))
    assert b.modem == Modem.DSR | Modem.CD


def test_crossed_data_wires_make_two_echoes(cable):
    """H-42: a straight cable instead of a null modem: each end hears itself."""
    a, b = cable.ends
    cable.swap((a, "tx"), (b, "tx"))
    a.transmit(b"me")
    a.scheduler.advance(1)
    assert (arrived(a), arrived(b)) == ([(b"me", FINE)], [])


def test_an_input_can_be_held(cable):
    """H-42: from outside, on or off, until it is let go."""
    a, _ = cable.ends
    cable.hold(a, "ri", True)
    cable.hold(a, "cts", False)
    assert a.modem == Modem.RI | Modem.DSR | Modem.CD
    cable.hold(a, "ri", None)
    cable.hold(a, "cts", None)
    assert a.modem == ALL


def test_one_call_undoes_all_changes(cable):
    """H-42: one call undoes all changes."""
    a, b = cable.ends
    cable.break_wire(a, "rts")
    cable.swap((b, "rts"), (b, "dtr"))
    cable.hold(a, "ri", True)
    cable.restore()
    assert (a.modem, b.modem) == (ALL, ALL)
