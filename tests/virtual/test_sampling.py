"""What a receiver makes of a waveform: whole frames when both ends agree, and the right error when they do not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtualbench.sampling import FINE, Error, Format, received

pytestmark = pytest.mark.posix("the virtual bench runs on Linux")

FORMATS = st.builds(
    Format,
    baudrate=st.sampled_from([300, 9600, 115_200, 921_600]),
    data_bits=st.integers(5, 8),
    parity=st.sampled_from("NEOMS"),
    stop_bits=st.sampled_from([1, 1.5, 2]),
)


def flat(runs):
    return [(byte, error) for data, error in runs for byte in data]


@given(FORMATS, st.binary(max_size=40), st.floats(0.97, 1.03))
def test_rates_that_are_close_understand_each_other(sent, data, drift):
    """H-42: three percent of difference is far from the half bit that a frame of ten bits allows."""
    expected = replace(sent, baudrate=sent.baudrate * drift)
    mask = (1 << sent.data_bits) - 1
    assert flat(received(data, sent, expected)) == [(byte & mask, FINE) for byte in data]


@given(FORMATS, st.binary(min_size=1, max_size=40))
def test_the_short_way_and_the_bits_agree(settings, data):
    """H-42: equal settings are not sampled; bit by bit gives the same (the rate differs by nothing that counts)."""
    assert flat(received(data, settings, settings)) == flat(
        received(data, settings, replace(settings, baudrate=settings.baudrate * 1.0001))
    )


@given(st.binary(min_size=1, max_size=40), st.integers(7, 8))
def test_the_other_parity_is_an_error_in_every_character(data, bits):
    """H-42: even against odd; the bytes arrive."""
    even, odd = Format(data_bits=bits, parity="E"), Format(data_bits=bits, parity="O")
    mask = (1 << bits) - 1
    assert flat(received(data, even, odd)) == [(byte & mask, Error.PARITY) for byte in data]


def test_a_missing_parity_bit_is_read_off_the_stop_bit():
    """H-42: no parity seen as even is wrong where that is not the stop bit's 1; the next byte is not disturbed."""
    runs = flat(received(b"\x00\x01", Format(stop_bits=2), Format(parity="E")))
    assert runs == [(0, Error.PARITY), (1, FINE)]


def test_seven_bits_read_as_eight_take_the_stop_bit_along():
    """H-42: the eighth bit is the stop bit, a one."""
    assert flat(received(b"A", Format(data_bits=7, stop_bits=2), Format())) == [(0xC1, FINE)]


def test_a_sender_at_half_the_rate_makes_framing_errors():
    """H-42: the receiver looks for the stop bit in the middle of the data."""
    runs = flat(received(b"\x00\xff\x00", Format(baudrate=4800), Format(baudrate=9600)))
    assert any(error & Error.FRAMING for _, error in runs)


def test_a_very_slow_zero_is_a_break():
    """H-42: low for longer than a frame."""
    runs = flat(received(b"\0", Format(baudrate=300), Format(baudrate=9600)))
    assert runs[0] == (0, Error.FRAMING | Error.BREAK)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        (Format(), 10),
        (Format(parity="E"), 11),
        (Format(data_bits=5, stop_bits=1.5), 7.5),
        (Format(9600, 7, "O", 2), 11),
    ],
)
def test_a_character_takes_its_bits(settings, bits):
    """H-42: start, data, parity, stop."""
    assert settings.bits == bits
    assert settings.seconds == pytest.approx(bits / 9600)
