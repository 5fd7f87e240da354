"""Enumerations, value types and aliases: frozen, hashable, keyword only, plain strings underneath."""

import copy
import dataclasses
import enum
import json
import pickle
import subprocess
import sys
import typing

import pytest
from anyio import TypedAttributeSet

from anyserial import (
    BytesLike,
    CommEvent,
    ControlLines,
    DiscoveryBackend,
    LineErrors,
    ModemLines,
    PortInfo,
    SerialStats,
)
from anyserial.capabilities import Capability, SerialCapabilities, SerialStreamAttribute, UnsupportedPolicy
from anyserial.config import ByteSize, FlowControl, Parity, RS485Config, SerialConfig, StopBits

MEMBERS = {
    ByteSize: {"FIVE": "5", "SIX": "6", "SEVEN": "7", "EIGHT": "8"},
    Parity: {"NONE": "none", "ODD": "odd", "EVEN": "even", "MARK": "mark", "SPACE": "space"},
    StopBits: {"ONE": "1", "ONE_POINT_FIVE": "1.5", "TWO": "2"},
    Capability: {"SUPPORTED": "supported", "UNSUPPORTED": "unsupported", "UNKNOWN": "unknown"},
    UnsupportedPolicy: {"RAISE": "raise", "WARN": "warn", "IGNORE": "ignore"},
}

REQUIRED = dataclasses.MISSING
CAPABILITIES = (
    "custom_baudrate",
    "mark_space_parity",
    "one_point_five_stop_bits",
    "xon_xoff",
    "rts_cts",
    "dtr_dsr",
    "modem_lines",
    "break_signal",
    "exclusive_access",
    "low_latency",
    "rs485",
    "input_waiting",
    "output_waiting",
    "port_discovery",
)

# Fields in order, with their defaults.
FIELDS = {
    ModemLines: dict.fromkeys(("cts", "dsr", "ri", "cd"), REQUIRED),
    ControlLines: dict.fromkeys(("rts", "dtr"), REQUIRED),
    LineErrors: dict.fromkeys(("parity", "framing", "overrun", "breaks", "buffer_overrun"), 0),
    SerialStats: dict.fromkeys(
        ("bytes_received", "bytes_sent", "read_calls", "write_calls", "read_eagain", "write_eagain"), 0
    ),
    CommEvent: dict.fromkeys(("cts_changed", "dsr_changed", "rlsd_changed", "ring", "error", "break_received"), False),
    PortInfo: {"device": REQUIRED}
    | dict.fromkeys(
        (
            "name",
            "description",
            "hwid",
            "vid",
            "pid",
            "serial_number",
            "manufacturer",
            "product",
            "location",
            "interface",
            "interface_number",
        )
    ),
    SerialCapabilities: dict.fromkeys(("platform", "backend", *CAPABILITIES), REQUIRED),
}

SAMPLES = [
    ModemLines(cts=True, dsr=False, ri=False, cd=True),
    ControlLines(rts=True, dtr=False),
    LineErrors(parity=1, breaks=2),
    SerialStats(bytes_sent=5, write_calls=1),
    CommEvent(ring=True),
    PortInfo(device="/dev/ttyUSB0", vid=0x0403, pid=0x6001),
    SerialCapabilities(platform="linux", backend="mock", **dict.fromkeys(CAPABILITIES, Capability.UNKNOWN)),
    FlowControl(rts_cts=True),
    RS485Config(delay_after_send=0.25),
    SerialConfig(baudrate=9600),
]
each_sample = pytest.mark.parametrize("value", SAMPLES, ids=lambda value: type(value).__name__)


@pytest.mark.parametrize(("cls", "members"), MEMBERS.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_members_are_their_values(cls, members):
    """L-08, L-09: exactly these members; each is a `str` equal to its value, in JSON too."""
    assert issubclass(cls, enum.StrEnum)
    assert {name: member.value for name, member in cls.__members__.items()} == members
    for member in cls:
        assert member == member.value
        assert str(member) == member.value
        assert hash(member) == hash(member.value)
        assert json.loads(json.dumps({member: member})) == {member.value: member.value}
        assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize(("cls", "fields"), FIELDS.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_values_have_these_fields_and_defaults(cls, fields):
    """L-11: the fields, in this order, with these defaults."""
    assert {field.name: field.default for field in dataclasses.fields(cls)} == fields
    assert list(fields) == [field.name for field in dataclasses.fields(cls)]


@each_sample
def test_every_field_is_keyword_only(value):
    """L-11: a positional argument is a `TypeError`; so is an unknown name or a required one left out."""
    cls = type(value)
    assert all(field.kw_only for field in dataclasses.fields(cls))
    with pytest.raises(TypeError):
        cls(*dataclasses.astuple(value))
    with pytest.raises(TypeError):
        dataclasses.replace(value, no_such_field=1)
    if REQUIRED in FIELDS.get(cls, {}).values():
        with pytest.raises(TypeError):
            cls()


@each_sample
def test_values_are_frozen_and_have_no_dict(value):
    """L-11: neither a field nor a new name can be set, and there is nowhere to keep one."""
    assert not hasattr(value, "__dict__")
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        value.no_such_field = 1


def test_values_can_be_inspected_before_the_first_is_made():
    """L-11: in a new interpreter, because methods are compiled when they are first looked up."""
    code = """if True:
        import dataclasses, inspect, sys, typing, anyserial.config
        for name in sys.argv[1:]:
            cls = getattr(anyserial.config, name, None) or getattr(anyserial, name)
            names = [field.name for field in dataclasses.fields(cls)]
            assert list(inspect.signature(cls).parameters) == names, name
            assert list(typing.get_type_hints(cls.__init__)) == [*names, "return"], name
    """
    subprocess.run([sys.executable, "-c", code, *[cls.__name__ for cls in FIELDS]], check=True, timeout=60)


def test_a_value_can_be_derived_from():
    """L-11: by a dataclass with another field, and by a class with attributes of its own."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Named(SerialConfig):
        label: str = ""

    class Noted(ModemLines):
        note = ""

    named = Named(baudrate=9600, label="meter").with_changes(parity="E")
    assert (named.label, named.parity) == ("meter", Parity.EVEN)
    assert "label='meter'" in repr(named)
    assert named != SerialConfig(baudrate=9600, parity="E")
    noted = Noted(cts=True, dsr=False, ri=False, cd=False)
    noted.note = "by hand"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'cts'"):
        noted.cts = False
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'cts'"):
        del noted.cts


@each_sample
def test_values_are_equal_and_hash_by_value(value):
    """L-11: copies are equal, hash equal, and differ as soon as one field does."""
    for twin in (dataclasses.replace(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert hash(twin) == hash(value)
    assert len({value, dataclasses.replace(value)}) == 1
    assert all(value != other for other in SAMPLES if other is not value)


@each_sample
def test_the_printed_form_can_be_read(value):
    """L-11: the repr names the class and every field."""
    text = repr(value)
    assert text.startswith(f"{type(value).__name__}(")
    assert all(f"{field.name}=" in text for field in dataclasses.fields(value))


def test_one_different_field_makes_values_differ():
    """L-11: equality looks at every field."""
    info = PortInfo(device="/dev/ttyUSB0")
    for field in dataclasses.fields(PortInfo):
        assert dataclasses.replace(info, **{field.name: "x"}) != info


@pytest.mark.parametrize("field", CAPABILITIES)
def test_capabilities_hold_three_valued_facts(field):
    """L-09: every fact about a device is a `Capability`, next to two words for platform and backend."""
    hints = typing.get_type_hints(SerialCapabilities)
    assert hints[field] is Capability
    assert hints["platform"] is hints["backend"] is str


def test_stream_attributes_are_typed_keys():
    """L-07: the keys of `port.extra(...)` are distinct and live in one attribute set."""
    assert issubclass(SerialStreamAttribute, TypedAttributeSet)
    keys = [SerialStreamAttribute.capabilities, SerialStreamAttribute.config, SerialStreamAttribute.port_info]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    "value",
    [b"x", bytearray(b"x"), memoryview(b"x")],
)
def test_bytes_and_the_like_are_bytes_like(value):
    """L-10: `BytesLike` is the buffer type of PEP 688."""
    assert isinstance(value, BytesLike)
    assert not isinstance("x", BytesLike)
    assert not isinstance([1], BytesLike)


def test_the_buffer_type_is_the_shared_one():
    """L-10: on 3.12 and later it is `collections.abc.Buffer` itself; before, the backport."""
    module = "collections.abc" if sys.version_info >= (3, 12) else "typing_extensions"
    assert BytesLike is getattr(pytest.importorskip(module), "Buffer")  # noqa: B009 - absent from 3.11's stubs


def test_discovery_backends_are_three_words():
    """L-10: the enumerators that can be asked for."""
    assert typing.get_args(DiscoveryBackend) == ("native", "pyudev", "pyserial")
