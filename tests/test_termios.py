"""Line settings are built from a defined state: pure values in, pure values out."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

termios = pytest.importorskip("termios")

from anyserial import (  # noqa: E402 - the builder exists only where termios does
    UnsupportedConfigurationError,
    UnsupportedSettingError,
)
from anyserial._backends.posix.termios import STANDARD_RATES, Bits, Line, build, check  # noqa: E402
from anyserial.config import ByteSize, FlowControl, Parity, SerialConfig, StopBits  # noqa: E402

pytestmark = pytest.mark.posix("termios")

CMSPAR = 0x40000000
BITS = Bits(hardware_flow=termios.CRTSCTS, stick_parity=CMSPAR)
CHARACTERS = 19
CLEAN = Line(iflag=0, oflag=0, cflag=0, lflag=0, control_chars=(0,) * CHARACTERS, rate=9600, discipline=0)

SIZES = {
    ByteSize.FIVE: termios.CS5,
    ByteSize.SIX: termios.CS6,
    ByteSize.SEVEN: termios.CS7,
    ByteSize.EIGHT: termios.CS8,
}
PARITIES = {
    Parity.NONE: 0,
    Parity.EVEN: termios.PARENB,
    Parity.ODD: termios.PARENB | termios.PARODD,
    Parity.MARK: termios.PARENB | termios.PARODD | CMSPAR,
    Parity.SPACE: termios.PARENB | CMSPAR,
}
PARITY_BITS = termios.PARENB | termios.PARODD | CMSPAR

flags = st.integers(0, 2**32 - 1)
lines = st.builds(
    Line,
    iflag=flags,
    oflag=flags,
    cflag=flags,
    lflag=flags,
    control_chars=st.tuples(*[st.integers(0, 255)] * CHARACTERS),
    rate=st.integers(1, 2**32 - 1),
    discipline=st.none() | st.integers(0, 255),
)
configs = st.builds(
    SerialConfig,
    baudrate=st.integers(1, 2**32 - 1),
    byte_size=st.sampled_from(ByteSize),
    parity=st.sampled_from(Parity),
    stop_bits=st.sampled_from([StopBits.ONE, StopBits.TWO]),
    flow_control=st.builds(FlowControl, xon_xoff=st.booleans(), rts_cts=st.booleans()),
    hangup_on_close=st.booleans(),
)
any_line_and_config = settings(deadline=None)(given(before=lines, config=configs))


@any_line_and_config
def test_flags_do_not_depend_on_previous_settings(before, config):
    """L-42: the attributes are built from a defined state, whatever was left behind."""
    built = build(before, config, BITS)
    clean = build(CLEAN._replace(control_chars=before.control_chars), config, BITS)
    assert built._replace(discipline=None) == clean._replace(discipline=None)


@any_line_and_config
def test_building_twice_changes_nothing_more(before, config):
    """L-42: the result is a fixed point."""
    once = build(before, config, BITS)
    assert build(once, config, BITS) == once


@any_line_and_config
def test_the_line_is_raw(before, config):
    """L-42, L-43, L-87: no echo, no mapping, no marking; only XON/XOFF may add input flags."""
    built = build(before, config, BITS)
    soft = termios.IXON | termios.IXOFF
    assert built.iflag == (soft if config.flow_control.xon_xoff else 0)
    assert built.oflag == 0
    assert built.lflag == 0


@any_line_and_config
def test_control_characters_other_than_ours_are_kept(before, config):
    """L-42, L-43, E44, E45: VMIN 1, VTIME 0, XON 0x11, XOFF 0x13; the others and `c_line` stay."""
    built = build(before, config, BITS)
    ours = {termios.VMIN: 1, termios.VTIME: 0, termios.VSTART: 0x11, termios.VSTOP: 0x13}
    for index, character in enumerate(built.control_chars):
        assert character == ours.get(index, before.control_chars[index])
    assert len(built.control_chars) == CHARACTERS
    assert built.discipline == before.discipline


@any_line_and_config
def test_control_flags_match_the_config(before, config):
    """L-42: `c_cflag` is receiver, local, size, parity, stop bits, flow control, hang-up, and no more."""
    built = build(before, config, BITS)
    assert built.cflag & termios.CSIZE == SIZES[config.byte_size]
    assert built.cflag & PARITY_BITS == PARITIES[config.parity]
    switches = {
        termios.CREAD: True,
        termios.CLOCAL: True,
        termios.CSTOPB: config.stop_bits is StopBits.TWO,
        termios.CRTSCTS: config.flow_control.rts_cts,
        termios.HUPCL: config.hangup_on_close,
    }
    for bit, on in switches.items():
        assert bool(built.cflag & bit) is on
    assert built.cflag & ~(termios.CSIZE | PARITY_BITS | sum(switches)) == 0
    assert built.rate == config.baudrate


def test_one_and_a_half_stop_bits_have_no_bit():
    """L-42: 1.5 stop bits is judged by the policy, before the builder; it sets nothing."""
    config = SerialConfig(stop_bits=StopBits.ONE_POINT_FIVE)
    assert build(CLEAN, config, BITS) == build(CLEAN, SerialConfig(), BITS)


def test_hardware_flow_control_bits_depend_on_the_platform():
    """L-42: `CCTS_OFLOW|CRTS_IFLOW`, where that is the spelling, takes the place of `CRTSCTS`."""
    two_bits = Bits(hardware_flow=0x30000, stick_parity=0)
    config = SerialConfig(flow_control=FlowControl(rts_cts=True))
    assert build(CLEAN, config, two_bits).cflag & 0x30000 == 0x30000
    assert build(CLEAN, SerialConfig(), two_bits).cflag & 0x30000 == 0


def test_zero_is_not_a_rate():
    """L-42: B0 hangs up, so it is not among the usable rates."""
    assert 0 not in STANDARD_RATES
    assert STANDARD_RATES[9600] == termios.B9600
    assert STANDARD_RATES[115_200] == termios.B115200
    assert termios.B0 not in STANDARD_RATES.values()


@any_line_and_config
def test_a_terminal_that_took_everything_passes(before, config):
    """L-46: no difference is no refusal."""
    wanted = build(before, config, BITS)
    check(wanted, wanted, BITS, "/dev/ttyX")


@pytest.mark.parametrize(
    ("label", "mask"),
    [
        ("byte size", termios.CS7 ^ termios.CS8),
        ("parity", termios.PARENB),
        ("parity", termios.PARODD),
        ("parity", CMSPAR),
        ("stop bits", termios.CSTOPB),
        ("RTS/CTS flow control", termios.CRTSCTS),
    ],
)
@any_line_and_config
def test_a_setting_that_did_not_stick_is_refused_by_name(label, mask, before, config):
    """L-46: the kernel's call may succeed partially; each difference is a refusal of that setting."""
    wanted = build(before, config, BITS)
    actual = wanted._replace(cflag=wanted.cflag ^ mask)
    with pytest.raises(UnsupportedSettingError, match=rf"^/dev/ttyX: .*{label}"):
        check(wanted, actual, BITS, "/dev/ttyX")


@pytest.mark.parametrize("mask", [termios.IXON, termios.IXOFF, termios.IXON | termios.IXOFF])
def test_xon_xoff_that_did_not_stick_is_refused(mask):
    """L-46: software flow control is compared too."""
    wanted = build(CLEAN, SerialConfig(flow_control=FlowControl(xon_xoff=True)), BITS)
    with pytest.raises(UnsupportedSettingError, match="XON/XOFF"):
        check(wanted, wanted._replace(iflag=wanted.iflag ^ mask), BITS, "/dev/ttyX")


def test_bits_that_we_do_not_set_may_differ():
    """L-46: only size, parity, stop bits, flow control and rate are compared."""
    wanted = build(CLEAN, SerialConfig(), BITS)
    actual = wanted._replace(cflag=wanted.cflag ^ termios.CREAD, lflag=termios.ECHO, oflag=termios.OPOST, discipline=3)
    check(wanted, actual, BITS, "/dev/ttyX")


@settings(deadline=None)
@given(rate=st.integers(1, 2**32 - 1), actual=st.integers(0, 2**32 - 1))
@example(rate=1000, actual=1030)
@example(rate=1000, actual=1031)
@example(rate=1000, actual=970)
@example(rate=1000, actual=969)
@example(rate=115_200, actual=0)
def test_a_rate_may_be_off_by_three_percent(rate, actual):
    """L-44: beyond 3 % the error names the rate asked for and the one the driver runs at."""
    wanted = build(CLEAN, SerialConfig(baudrate=rate), BITS)
    got = wanted._replace(rate=actual)
    if 100 * abs(actual - rate) <= 3 * rate:
        check(wanted, got, BITS, "/dev/ttyX")
        return
    with pytest.raises(UnsupportedConfigurationError) as caught:
        check(wanted, got, BITS, "/dev/ttyX")
    assert str(rate) in str(caught.value)
    assert str(actual) in str(caught.value)
    assert caught.value.filename == "/dev/ttyX"
