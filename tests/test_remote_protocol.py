"""RFC 2217 and its telnet, without a connection: bytes in any cut, options, answers, silence, what servers do wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import ConfigurationError
from anyserial._backends.remote import rfc2217
from anyserial._backends.remote.rfc2217 import Client, Request, control, rate
from anyserial._backends.remote.telnet import (
    BINARY,
    COM_PORT,
    DO,
    DONT,
    IAC,
    SB,
    SE,
    WILL,
    WONT,
    Option,
    Telnet,
    escaped,
    escaped_prefix,
)
from anyserial._backends.remote.url import RemoteAddress, parse

#: Bytes with many 0xFF and the like among them.
WIRE = st.lists(st.sampled_from((255, 255, 250, 240, 0, 65)) | st.integers(0, 255), max_size=60).map(bytes)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    at = 0
    for place in sorted({place % (len(data) + 1) for place in places}):
        yield data[at:place]
        at = place
    yield data[at:]


def answer(command: int, value: bytes = b"") -> bytes:
    """What a server sends."""
    return bytes((IAC, SB, COM_PORT, 100 + command)) + escaped(value) + bytes((IAC, SE))


def agreed(client: Client) -> Client:
    client.telnet.feed(bytes((IAC, DO, COM_PORT, IAC, DO, BINARY, IAC, WILL, BINARY)))
    client.telnet.out.clear()
    return client


@given(data=WIRE, events=st.lists(WIRE, max_size=3), places=st.lists(st.integers(0, 10_000), max_size=12))
def test_data_and_subnegotiations_survive_any_cut(data: bytes, events: list[bytes], places: list[int]) -> None:
    """R-02, R-06: 0xFF is doubled both ways, also when the two halves come in two reads."""
    heard: list[bytes] = []
    sender, receiver = Telnet(frozenset(), list), Telnet(frozenset(), heard.append)
    wire = escaped(data)
    for event in events:
        sender.subnegotiate(event)
        wire += bytes(sender.out) + escaped(data)
        sender.out.clear()
    for chunk in cut(wire, places):
        receiver.feed(chunk)
    assert bytes(receiver.data) == data * (1 + len(events))
    assert heard == events
    assert not receiver.out


@given(data=WIRE, place=st.integers(0, 200))
def test_the_sent_count_includes_a_half_sent_doubled_byte(data: bytes, place: int) -> None:
    """R-03: of a doubled byte one half may be out; then the byte counts, and its other half goes next."""
    sent = place % (len(escaped(data)) + 1)
    count, is_half = escaped_prefix(data, sent)
    assert escaped(data[:count]) == escaped(data)[:sent] + b"\xff" * is_half


@given(
    asked=st.lists(st.tuples(st.sampled_from((0, 1)), st.sampled_from((WILL, DO)), st.integers(0, 5)), max_size=10),
    wanted=st.tuples(st.frozensets(st.integers(0, 5)), st.frozensets(st.integers(0, 5))),
)
def test_negotiation_always_ends(
    asked: list[tuple[int, int, int]], wanted: tuple[frozenset[int], frozenset[int]]
) -> None:
    """R-05, R-13: whatever both ask for, they fall silent, and agree on what is used."""
    ends = [Telnet(options, list) for options in wanted]
    for end, verb, option in asked:
        ends[end].ask(verb, option)
    for _ in range(5):
        outs = [bytes(end.out) for end in ends]
        for end in ends:
            end.out.clear()
        for end, out in zip(reversed(ends), outs, strict=True):
            end.feed(out)
    assert not any(end.out for end in ends)
    for option in range(6):
        for mine, theirs in ((0, 1), (1, 0)):
            assert ends[mine].state(WILL, option) is ends[theirs].state(DO, option)


def test_what_is_not_wanted_is_refused_once() -> None:
    """R-05: ECHO on this side, and terminal types; nothing is answered to a refusal."""
    telnet = Telnet(frozenset({BINARY}), list)
    telnet.feed(bytes((IAC, DO, 1, IAC, WILL, 24, IAC, DONT, 1, IAC, WONT, 24)))
    assert bytes(telnet.out) == bytes((IAC, WONT, 1, IAC, DONT, 24))


def test_an_option_that_ends_is_confirmed() -> None:
    """R-05."""
    telnet = Telnet(frozenset({BINARY}), list)
    telnet.feed(bytes((IAC, DO, BINARY)))
    telnet.feed(bytes((IAC, DONT, BINARY)))
    assert bytes(telnet.out) == bytes((IAC, WILL, BINARY, IAC, WONT, BINARY))
    assert telnet.state(WILL, BINARY) is Option.NO


def test_an_endless_subnegotiation_is_bounded() -> None:
    """R-13: a server that never ends one keeps no more than 4 KiB."""
    heard: list[bytes] = []
    telnet = Telnet(frozenset(), heard.append)
    telnet.feed(bytes((IAC, SB)))
    for _ in range(100):
        telnet.feed(bytes(1000))
    telnet.feed(bytes((IAC, SE)) + b"x")
    assert [len(one) for one in heard] == [4096]
    assert bytes(telnet.data) == b"x"


@pytest.mark.parametrize("agreement", [(IAC, DO, COM_PORT), (IAC, WILL, COM_PORT)], ids=["ser2net", "pyserial"])
def test_either_side_may_offer_the_com_port_option(agreement: tuple[int, ...]) -> None:
    """R-05: some servers let this side do it, some say that they do."""
    client = Client()
    assert bytes(client.telnet.out).startswith(bytes((IAC, WILL, COM_PORT)))
    client.telnet.feed(bytes((IAC, DO, BINARY, IAC, WILL, BINARY)))
    assert not client.is_decided
    client.telnet.feed(bytes(agreement))
    assert client.is_decided
    assert client.has_com_port
    assert client.is_binary


def test_a_server_that_refuses_is_decided() -> None:
    """R-11: it is plain telnet, or has no 8-bit path."""
    client = Client()
    client.telnet.feed(bytes((IAC, DONT, COM_PORT, IAC, DONT, BINARY, IAC, WONT, BINARY)))
    assert client.is_decided
    assert not client.has_com_port
    assert not client.is_binary


def test_requests_go_out_at_once_and_end_with_a_query() -> None:
    """R-06."""
    client = agreed(Client())
    client.begin(rate(0xFF00), Request(rfc2217.SET_PARITY, b"\x01"))
    assert bytes(client.telnet.out) == b"".join(
        (
            b"\xff\xfa\x2c\x01\x00\x00\xff\xff\x00\xff\xf0",
            b"\xff\xfa\x2c\x03\x01\xff\xf0",
            b"\xff\xfa\x2c\x01\x00\x00\x00\x00\xff\xf0",
        )
    )


def test_silence_is_distinguished_from_an_answer() -> None:
    """R-06: ser2net passes over what it cannot do; the query's answer shows that at once."""
    client = agreed(Client())
    exchange = client.begin(rate(9600), Request(rfc2217.SET_STOPSIZE, b"\x03"), control(rfc2217.RTS_ON))
    client.telnet.feed(answer(1, (9600).to_bytes(4, "big")))
    assert not exchange.is_over
    client.telnet.feed(answer(5, b"\x0b") + answer(1, (9600).to_bytes(4, "big")))
    assert exchange.is_over
    assert exchange.answers == [(9600).to_bytes(4, "big"), None, b"\x0b"]
    assert exchange.rate == 9600


def test_control_answers_belong_to_their_setting() -> None:
    """R-06: servers confirm the end of a break with the value for its begin; others come in another order."""
    client = agreed(Client())
    exchange = client.begin(control(rfc2217.BREAK_OFF), control(rfc2217.DTR_ON), control(rfc2217.FLOW_NONE))
    client.telnet.feed(answer(5, b"\x02") + answer(5, b"\x08") + answer(5, b"\x05") + answer(1, bytes(4)))
    assert exchange.answers == [b"\x05", b"\x08", b"\x02"]


@pytest.mark.parametrize(
    "noise",
    [
        answer(rfc2217.PURGE_DATA, b"\x03"),
        answer(rfc2217.PURGE_DATA, b"\x03") * 2,
        answer(0, b"server 1.0"),
        answer(5),
        answer(99, b"?"),
        bytes((IAC, SB, 7, 1, IAC, SE)),
        bytes((IAC, SB, IAC, SE)),
        bytes((IAC, 241)),
    ],
)
def test_answers_to_nothing_are_dropped(noise: bytes) -> None:
    """R-06, R-13: late ones, doubled ones, unknown ones, empty ones."""
    client = agreed(Client())
    client.telnet.feed(noise)
    exchange = client.begin(Request(rfc2217.SET_DATASIZE, b"\x08"))
    client.telnet.feed(noise + answer(2, b"\x08") + noise + answer(1, bytes(4)) + noise)
    assert exchange.answers == [b"\x08"]
    assert not client.telnet.data


def test_extra_bytes_behind_a_rate_are_ignored() -> None:
    """R-06, R-13."""
    client = agreed(Client())
    exchange = client.begin(rate(115_200))
    client.telnet.feed(answer(1, (115_200).to_bytes(4, "big") + b"more") * 2)
    assert exchange.rate == 115_200


def test_late_answers_do_not_answer_the_next_exchange() -> None:
    """R-06, R-08: what was behind a blocked line is answered later."""
    client = agreed(Client())
    late = client.begin(rate(9600))
    client.give_up()
    exchange = client.begin(rate(19_200))
    client.telnet.feed(answer(1, (9600).to_bytes(4, "big")) * 2)
    assert not exchange.is_over
    client.telnet.feed(answer(1, (19_200).to_bytes(4, "big")) * 2)
    assert exchange.is_over
    assert exchange.rate == 19_200
    assert late.answers == [None]


def test_late_answers_to_nothing_asked_now_are_dropped() -> None:
    """R-06, R-08: a receive that waits takes them; what is asked afterwards has its own answers."""
    client = agreed(Client())
    client.begin(rate(9600), Request(rfc2217.SET_DATASIZE, b"\x07"))
    client.give_up()
    old = answer(1, (9600).to_bytes(4, "big"))
    client.telnet.feed(old + answer(2, b"\x07") + old)
    exchange = client.begin(Request(rfc2217.SET_DATASIZE, b"\x08"))
    client.telnet.feed(answer(2, b"\x08") + old)
    assert exchange.is_over
    assert exchange.answers == [b"\x08"]


def test_late_answers_of_every_kind_belong_to_their_exchange() -> None:
    """R-06, R-08: a setting that was given up with the value that is asked for next."""
    client = agreed(Client())
    client.begin(rate(9600), Request(rfc2217.SET_DATASIZE, b"\x07"))
    client.give_up()
    exchange = client.begin(Request(rfc2217.SET_DATASIZE, b"\x08"))
    old = answer(1, (9600).to_bytes(4, "big"))
    client.telnet.feed(old + answer(2, b"\x07") + old)
    assert exchange.answers == [None]
    client.telnet.feed(answer(2, b"\x08") + old)
    assert exchange.answers == [b"\x08"]


def test_a_lost_answer_is_waited_for_once() -> None:
    """R-13: a server that has swallowed a query answers those that follow."""
    client = agreed(Client())
    client.begin()
    client.give_up()
    client.begin()
    client.telnet.feed(answer(1, bytes(4)))
    client.give_up()
    exchange = client.begin()
    client.telnet.feed(answer(1, bytes(4)))
    assert exchange.is_over


def test_lines_and_errors_are_kept() -> None:
    """R-07: the state of the lines, not their changes; of errors how often each was told."""
    client = agreed(Client())
    assert client.modem_state is None
    client.telnet.feed(answer(rfc2217.NOTIFY_MODEMSTATE, b"\xb1"))
    client.telnet.feed(answer(rfc2217.NOTIFY_LINESTATE, b"\x18") + answer(rfc2217.NOTIFY_LINESTATE, b"\x10"))
    assert client.modem_state == rfc2217.CTS | rfc2217.DSR | rfc2217.CARRIER
    assert client.line_events == {2: 0, 4: 0, 8: 1, 16: 2}


def test_a_server_can_hold_data_back() -> None:
    """R-06."""
    client = agreed(Client())
    client.telnet.feed(answer(rfc2217.FLOWCONTROL_SUSPEND))
    assert client.is_held
    client.telnet.feed(answer(rfc2217.FLOWCONTROL_RESUME))
    assert not client.is_held


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("rfc2217://pi:7001", RemoteAddress("rfc2217", "pi", 7001)),
        ("RFC2217://pi:7001/", RemoteAddress("rfc2217", "pi", 7001)),
        ("socket://[::1]:7002?timeout=0.5", RemoteAddress("socket", "::1", 7002, 0.5)),
        ("rfc2217://10.0.0.1:1?ign_set_control&poll_modem", RemoteAddress("rfc2217", "10.0.0.1", 1)),
    ],
)
def test_addresses_are_taken_apart(url: str, address: RemoteAddress) -> None:
    """R-01: also those of pyserial, whose options have no effect here."""
    assert parse(url) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("socket://pi", "'socket://pi' needs a host and a TCP port: socket://host:port"),
        ("socket://:7", "'socket://:7' needs a host"),
        ("socket://pi:0", "'socket://pi:0' needs a host"),
        ("socket://pi:70000", "'socket://pi:70000' is not an address: "),
        ("socket://[::1:7", "'socket://[::1:7' is not an address: "),
        ("socket://me@pi:7", "'socket://me@pi:7' has more than a host and a TCP port"),
        ("socket://pi:7/tty", "has more than a host and a TCP port"),
        ("socket://pi:7?timeout=no", "timeout=no in 'socket://pi:7?timeout=no' must be a positive number of seconds"),
        ("socket://pi:7?timeout=inf", "must be a positive number of seconds"),
        ("socket://pi:7?tiemout=1", "unknown option 'tiemout' in 'socket://pi:7?tiemout=1'. Known: timeout"),
    ],
)
def test_a_wrong_address_names_the_wrong_part(url: str, message: str) -> None:
    """R-01, R-11."""
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert message in str(caught.value)
