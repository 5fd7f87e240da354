"""A configuration is checked once, when it is built: friendly spellings become members, all else is refused."""

import copy
import dataclasses
import json
import pickle
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anyserial.config import (
    ByteSize,
    FlowControl,
    Parity,
    RS485Config,
    SerialConfig,
    StopBits,
    UnsupportedPolicy,
)
from anyserial.exceptions import ConfigurationError, SerialError

DEFAULTS = {
    "baudrate": 115_200,
    "byte_size": ByteSize.EIGHT,
    "parity": Parity.NONE,
    "stop_bits": StopBits.ONE,
    "flow_control": FlowControl(),
    "exclusive": False,
    "hangup_on_close": True,
    "low_latency": False,
    "read_chunk_size": 65_536,
    "rs485": None,
    "unsupported_policy": UnsupportedPolicy.RAISE,
    "dtr_on_open": None,
    "rts_on_open": None,
    "flush_on_open": False,
}

# What each enumeration field accepts, and the member it becomes.
SPELLINGS = {
    "byte_size": [(s, m) for m in ByteSize for s in (m, m.value, int(m.value))],
    "parity": [
        (case(word), m)
        for m in Parity
        for word in (m.value, m.value[0])
        for case in (str, str.upper, str.title, str.swapcase)
    ]
    + [(m, m) for m in Parity],
    "stop_bits": [(m, m) for m in StopBits]
    + [(m.value, m) for m in StopBits]
    + [(1, StopBits.ONE), (1.0, StopBits.ONE), (1.5, StopBits.ONE_POINT_FIVE)]
    + [(2, StopBits.TWO), (2.0, StopBits.TWO)],
    "unsupported_policy": [(s, m) for m in UnsupportedPolicy for s in (m, m.value)],
}

# The order of the checks, each field with one wrong value.
WRONG = {
    "baudrate": 0,
    "read_chunk_size": 63,
    "byte_size": 9,
    "parity": "x",
    "stop_bits": 3,
    "flow_control": "rts_cts",
    "exclusive": 1,
    "hangup_on_close": None,
    "low_latency": "yes",
    "rs485": True,
    "unsupported_policy": "explode",
    "dtr_on_open": 0,
    "rts_on_open": "on",
    "flush_on_open": 1.0,
}

BOOLS = ["exclusive", "hangup_on_close", "low_latency", "flush_on_open"]
TRISTATES = ["dtr_on_open", "rts_on_open"]
RS485_BOOLS = ["enabled", "rts_on_send", "rts_after_send", "rx_during_tx"]
RS485_DELAYS = ["delay_before_send", "delay_after_send"]

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.text(string.ascii_letters + string.digits + ".", max_size=4),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.sampled_from([*ByteSize, *Parity, *StopBits, *UnsupportedPolicy]),
)


def valid_configs():
    return st.builds(
        SerialConfig,
        baudrate=st.integers(1, 2**32 - 1),
        flow_control=st.builds(FlowControl, xon_xoff=st.booleans(), rts_cts=st.booleans(), dtr_dsr=st.booleans()),
        read_chunk_size=st.integers(64, 16_777_216),
        rs485=st.none() | st.builds(RS485Config, delay_before_send=st.floats(0, 10)),
        **{name: st.sampled_from([value for value, _ in pairs]) for name, pairs in SPELLINGS.items()},
        **{name: st.booleans() for name in BOOLS},
        **{name: st.none() | st.booleans() for name in TRISTATES},
    )


def refuses(field, value, build=SerialConfig, shown=None):
    with pytest.raises(ConfigurationError) as caught:
        build(**{field: value})
    text = str(caught.value)
    assert text.startswith((shown or field) + " ")
    assert repr(value) in text


@pytest.mark.parametrize(("field", "default"), DEFAULTS.items())
def test_the_default_is_115200_8n1_without_flow_control(field, default):
    """C4, L-19: the defaults are 115200 8N1 without flow control, and no field is a timeout."""
    assert getattr(SerialConfig(), field) == default


def test_the_fields_are_these_in_this_order():
    """L-19: no field is a timeout; `FlowControl` and `RS485Config` hold what the kernel can switch."""
    assert [field.name for field in dataclasses.fields(SerialConfig)] == list(DEFAULTS)
    assert {field.name: field.default for field in dataclasses.fields(FlowControl)} == {
        "xon_xoff": False,
        "rts_cts": False,
        "dtr_dsr": False,
    }
    assert {field.name: field.default for field in dataclasses.fields(RS485Config)} == {
        "enabled": True,
        "rts_on_send": True,
        "rts_after_send": False,
        "delay_before_send": 0.0,
        "delay_after_send": 0.0,
        "rx_during_tx": False,
    }


@pytest.mark.parametrize(
    ("field", "value", "member"), [(field, *pair) for field, pairs in SPELLINGS.items() for pair in pairs]
)
def test_friendly_values_become_members(field, value, member):
    """L-12: every accepted spelling is stored as the member itself."""
    assert getattr(SerialConfig(**{field: value}), field) is member


@pytest.mark.parametrize("field", SPELLINGS)
@settings(deadline=None)
@given(data=st.data())
def test_any_other_spelling_is_refused(field, data):
    """L-13: what is not a listed spelling raises an error with the field and the value in it."""
    pairs = SPELLINGS[field]

    def listed(value):
        if isinstance(value, str) and field == "parity":
            value = value.lower()
        return any(value == v and isinstance(value, type(v)) and type(value) is not bool for v, _ in pairs)

    refuses(field, data.draw(anything.filter(lambda value: not listed(value))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("byte_size", True),
        ("byte_size", 8.0),
        ("byte_size", "EIGHT"),
        ("byte_size", 4),
        ("byte_size", float("nan")),
        ("parity", ""),
        ("parity", " even"),
        ("parity", b"even"),
        ("parity", ["even"]),
        ("stop_bits", True),
        ("stop_bits", "1.0"),
        ("stop_bits", 0),
        ("stop_bits", float("inf")),
        ("stop_bits", float("nan")),
        ("unsupported_policy", "RAISE"),
        ("unsupported_policy", None),
    ],
)
def test_near_misses_are_refused(field, value):
    """L-13: a bool is no number, a float no count, a name of another kind no spelling."""
    refuses(field, value)


@settings(deadline=None)
@given(baudrate=st.integers(1, 2**32 - 1), chunk=st.integers(64, 16_777_216))
@example(baudrate=1, chunk=64)
@example(baudrate=2**32 - 1, chunk=16_777_216)
def test_integers_within_the_bounds_are_kept(baudrate, chunk):
    """L-13: both ends of the ranges of rate and chunk size are legal."""
    config = SerialConfig(baudrate=baudrate, read_chunk_size=chunk)
    assert (config.baudrate, config.read_chunk_size) == (baudrate, chunk)


@settings(deadline=None)
@given(anything.filter(lambda value: type(value) is not int or not 1 <= value < 2**32))
@example(0)
@example(2**32)
@example(9600.0)
@example("9600")
@example(True)
@example(float("nan"))
def test_any_other_rate_is_refused(value):
    """L-13: a rate is an int from 1 to 2**32 - 1, never a float, a string or a bool."""
    refuses("baudrate", value)


@settings(deadline=None)
@given(anything.filter(lambda value: type(value) is not int or not 64 <= value <= 16_777_216))
@example(63)
@example(16_777_217)
@example(64.0)
@example(True)
def test_any_other_chunk_size_is_refused(value):
    """L-13: a chunk size is an int from 64 B to 16 MiB."""
    refuses("read_chunk_size", value)


def test_a_number_too_long_to_print_is_refused_like_any_other():
    """L-13: an int beyond Python's limit for decimal conversion is still a `ConfigurationError`."""
    with pytest.raises(ConfigurationError, match=r"^baudrate "):
        SerialConfig(baudrate=10**5000)


@pytest.mark.parametrize("field", BOOLS + TRISTATES)
@settings(deadline=None)
@given(data=st.data())
def test_a_switch_takes_only_bools(field, data):
    """L-13: 0, 1, strings and None are no switches; None is legal where it means "leave it"."""
    assert getattr(SerialConfig(**{field: True}), field) is True
    assert getattr(SerialConfig(**{field: False}), field) is False
    legal = (bool, type(None)) if field in TRISTATES else (bool,)
    refuses(field, data.draw(anything.filter(lambda value: not isinstance(value, legal))))


@settings(deadline=None)
@given(value=anything.filter(lambda value: value is not None))
@example(value="rts_cts")
@example(value=FlowControl)
def test_compound_fields_take_only_instances(value):
    """L-13: flow control and RS-485 are given as objects; a string is refused."""
    refuses("flow_control", value)
    refuses("rs485", value)


def test_flow_control_needs_an_object():
    """L-13: `None` is not a way to say "no flow control"; `FlowControl.none()` is."""
    refuses("flow_control", None)
    assert FlowControl.none() == FlowControl(xon_xoff=False, rts_cts=False, dtr_dsr=False)
    assert SerialConfig(flow_control=FlowControl.none()) == SerialConfig()


def test_flow_controls_combine_freely():
    """L-13: the kinds of flow control are independent; the value object restricts no combination."""
    every = FlowControl(xon_xoff=True, rts_cts=True, dtr_dsr=True)
    assert SerialConfig(flow_control=every).flow_control is every


@pytest.mark.parametrize(
    ("build", "prefix", "field"),
    [(FlowControl, "flow_control", name) for name in ("xon_xoff", "rts_cts", "dtr_dsr")]
    + [(RS485Config, "rs485", name) for name in RS485_BOOLS],
)
@settings(deadline=None)
@given(value=anything.filter(lambda value: not isinstance(value, bool)))
def test_the_bools_of_compound_fields_are_checked_too(build, prefix, field, value):
    """L-18: a switch inside `FlowControl` or `RS485Config` takes only bools and is named in full."""
    refuses(field, value, build, f"{prefix}.{field}")


@pytest.mark.parametrize("field", RS485_DELAYS)
@settings(deadline=None)
@given(value=st.floats(0, 4_294_967.295) | st.integers(0, 4_294_967))
@example(value=0)
@example(value=4_294_967.295)
def test_a_delay_that_fits_the_kernel_is_kept_as_float(field, value):
    """L-14: a delay is finite, not negative, and fits an unsigned 32-bit count of milliseconds."""
    kept = getattr(RS485Config(**{field: value}), field)
    assert kept == value
    assert type(kept) is float


@pytest.mark.parametrize("field", RS485_DELAYS)
@settings(deadline=None)
@given(
    value=st.one_of(
        st.floats(max_value=0, exclude_max=True),
        st.floats(min_value=4_294_967.296),
        st.integers(max_value=-1),
        st.integers(min_value=4_294_968),
        anything.filter(lambda value: isinstance(value, bool) or not isinstance(value, int | float)),
    )
)
@example(value=float("nan"))
@example(value=float("inf"))
@example(value=-float("inf"))
@example(value=True)
@example(value=4_294_967.296)
@example(value=1e306)
@example(value=10**400)
def test_any_other_delay_is_refused(field, value):
    """L-13, L-14: negative, infinite, NaN, not a number, or beyond 2**32 - 1 ms."""
    refuses(field, value, RS485Config, f"rs485.{field}")


@given(st.sets(st.sampled_from(list(WRONG)), min_size=1))
@settings(deadline=None)
def test_the_first_wrong_field_is_the_one_reported(fields):
    """L-16: rate first, then chunk size, then the rest in field order."""
    with pytest.raises(ConfigurationError) as caught:
        SerialConfig(**{field: WRONG[field] for field in reversed(list(WRONG)) if field in fields})
    first = next(field for field in WRONG if field in fields)
    assert str(caught.value).startswith(f"{first} ")


@pytest.mark.parametrize("policy", list(UnsupportedPolicy))
@pytest.mark.parametrize("field", [name for name in WRONG if name != "unsupported_policy"])
def test_a_wrong_value_raises_under_every_policy(field, policy):
    """L-15: `unsupported_policy` is about devices; a wrong value always raises."""
    with pytest.raises(ConfigurationError, match=f"^{field} "):
        SerialConfig(unsupported_policy=policy, **{field: WRONG[field]})


def test_a_wrong_value_is_caught_as_the_builtin_too():
    """L-13: the error is a `SerialError`, an `OSError` and a `ValueError`, without an errno."""
    with pytest.raises(ValueError, match=r"^parity must be .*, not 'x'$") as caught:
        SerialConfig(parity="x")
    assert isinstance(caught.value, SerialError)
    assert caught.value.errno is None


@settings(deadline=None)
@given(config=valid_configs(), rate=st.integers(1, 2**32 - 1))
def test_with_changes_gives_a_new_checked_config(config, rate):
    """L-17, C35: the original stays as it was; the copy has the change and nothing else."""
    before = dataclasses.astuple(config)
    changed = config.with_changes(baudrate=rate)
    assert changed is not config
    assert changed.baudrate == rate
    assert changed.with_changes(baudrate=config.baudrate) == config
    assert dataclasses.astuple(config) == before
    assert config.with_changes() == config


@pytest.mark.parametrize(("field", "value"), WRONG.items())
def test_with_changes_checks_everything(field, value):
    """L-17, C35: a change is validated as at construction, and converted as well."""
    with pytest.raises(ConfigurationError, match=f"^{field} "):
        SerialConfig().with_changes(**{field: value})
    assert SerialConfig().with_changes(parity="E", stop_bits=2).parity is Parity.EVEN


def test_with_changes_keeps_the_class_of_a_subclass():
    """L-17: the result is of the type it was called on."""

    class Named(SerialConfig):
        __slots__ = ()

    assert type(Named().with_changes(baudrate=300)) is Named


@pytest.mark.parametrize("build", [SerialConfig, SerialConfig().with_changes, FlowControl, RS485Config])
def test_unknown_fields_and_positional_arguments_are_type_errors(build):
    """L-17: misspelt fields and bare values are programming errors, not configuration errors."""
    with pytest.raises(TypeError):
        build(baud=9600)
    with pytest.raises(TypeError):
        build(9600)


@pytest.mark.parametrize(
    "value", [SerialConfig(), FlowControl(), RS485Config()], ids=["SerialConfig", "FlowControl", "RS485Config"]
)
def test_configs_are_frozen(value):
    """L-17, C34: assignment raises, to a field as to a new name."""
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))
    assert not hasattr(value, "__dict__")


@settings(deadline=None)
@given(config=valid_configs(), data=st.data())
def test_equal_configs_in_different_spellings_hash_equal(config, data):
    """L-18: a config built from friendly values is the one built from members."""
    respelt = {
        name: data.draw(st.sampled_from([spelling for spelling, m in pairs if m is getattr(config, name)]))
        for name, pairs in SPELLINGS.items()
    }
    twin = config.with_changes(**respelt)
    assert twin == config
    assert hash(twin) == hash(config)
    assert len({twin, config}) == 1


@settings(deadline=None)
@given(one=valid_configs(), other=valid_configs())
def test_configs_are_equal_exactly_when_all_fields_are(one, other):
    """L-18: equality is by value."""
    assert (one == other) == (dataclasses.astuple(one) == dataclasses.astuple(other))
    assert one != one.with_changes(flush_on_open=not one.flush_on_open)


def test_delays_are_equal_whether_int_or_float():
    """L-18: a whole number of seconds may be written without a point."""
    assert RS485Config(delay_before_send=1) == RS485Config(delay_before_send=1.0)
    assert repr(RS485Config(delay_before_send=1)) == repr(RS485Config(delay_before_send=1.0))


@settings(deadline=None)
@given(valid_configs())
def test_configs_survive_copying_and_pickling(config):
    """L-18: a copy from another process is equal and hashes equal."""
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert hash(twin) == hash(config)


@settings(deadline=None)
@given(valid_configs())
def test_the_printed_form_holds_every_field_and_json_every_value(config):
    """L-08: members are strings, so a config dumped as a dict is plain JSON."""
    data = json.loads(json.dumps(dataclasses.asdict(config)))
    assert list(data) == list(DEFAULTS)
    restored = SerialConfig(
        **data
        | {
            "flow_control": FlowControl(**data["flow_control"]),
            "rs485": data["rs485"] and RS485Config(**data["rs485"]),
        }
    )
    assert restored == config
