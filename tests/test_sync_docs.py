"""The page about blocking code is true: what it shows runs on a pair of ptys."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyserial import sync
from anyserial.testing import PtyPair

from .support import MORE_THAN_A_LINK_HOLDS
from .sync_support import Background, signalled, take, until

PAGE = Path(__file__).parents[1] / "docs" / "blocking.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def shown(name: str) -> Callable[..., Any]:
    """The function of that name on the page."""
    (code,) = (code for code in SNIPPETS if f"def {name}(" in code)
    names: dict[str, Any] = {}
    exec(code, names)
    function: Callable[..., Any] = names[name]
    return function


def test_the_first_lines_run(ptys: PtyPair, capsys: pytest.CaptureFixture[str]) -> None:
    """C45, L-149: open, ask, print the answer."""
    with sync.open_serial_port(ptys.path_b) as device:
        answering = Background(lambda: (take(device, 6), device.send(b"ACME")))
        exec(SNIPPETS[0].replace("/dev/ttyUSB0", ptys.path_a))
        answering.result()
    assert capsys.readouterr().out in ("b'ACME'\n", "b'A'\n", "b'AC'\n", "b'ACM'\n")


def test_a_timed_out_send_reports_its_progress(ptys: PtyPair) -> None:
    """L-151: the recipe with the counter."""
    send = shown("send_or_say")
    with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
        send(port, b"fits")
        assert take(peer, 4) == b"fits"
        with pytest.raises(TimeoutError, match=f"of {len(MORE_THAN_A_LINK_HOLDS)} bytes") as caught:
            send(port, MORE_THAN_A_LINK_HOLDS)
        assert f"took {port.stats().bytes_sent - 4} of" in str(caught.value)


def test_a_reply_of_known_length_has_one_deadline(ptys: PtyPair) -> None:
    """L-149, C14: one deadline for all of it."""
    receive_exactly = shown("receive_exactly")
    with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
        waiting = Background(lambda: receive_exactly(port, 6, 20))
        peer.send(b"one")
        until(lambda: port.stats().bytes_received == 3)
        peer.send(b"two")
        assert waiting.result() == b"onetwo"
        peer.send(b"one")
        with pytest.raises(TimeoutError):
            receive_exactly(port, 6, 0.1)


def test_a_port_stays_usable_after_ctrl_c(ptys: PtyPair, capsys: pytest.CaptureFixture[str]) -> None:
    """L-152: the port is good for a last word."""

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
        peer.send(b"x")
        signalled(
            lambda: shown("log_until_ctrl_c")(port), once=lambda: port.stats().bytes_received == 1, handler=ctrl_c
        )
        assert take(peer, 5) == b"STOP\n"
    assert capsys.readouterr().out == "b'x'\n"


def test_a_close_ends_a_reader_thread(ptys: PtyPair) -> None:
    """L-148, L-153: it handles what comes, and a close ends it."""
    handled = bytearray()
    with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
        thread = shown("start_reader")(port, handled.extend)
        assert isinstance(thread, threading.Thread)
        peer.send(b"data")
        until(lambda: handled == b"data")
    thread.join(20)
    assert not thread.is_alive()


def test_the_loop_is_chosen_as_shown() -> None:
    """A24, A25, A28, L-145: by options, not by a policy."""
    (code,) = (code for code in SNIPPETS if "configure_portal(" in code)
    try:
        exec(code)
    finally:
        sync.configure_portal()
