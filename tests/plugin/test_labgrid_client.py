"""What labgrid's own command says of places, against a real coordinator and a real exporter."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest

from pytest_anyserial._bench.labgrid import Client
from pytest_anyserial._bench.resolve import LabgridError

from .labs import ALICE, Lab, lab, needs_labgrid, patient

pytestmark = [needs_labgrid, patient, pytest.mark.posix("labgrid, on Linux")]


def complaint(client: Client, place: str) -> str:
    with pytest.raises(LabgridError) as caught:
        client.place(place)
    return str(caught.value)


def test_an_acquired_place_has_an_address(shared_lab: Lab) -> None:
    """R-20: and a free one has none."""
    client = shared_lab.client
    free = client.place("meter-1")
    assert (free.owner, free.tags, [port.url for port in free.serial_ports]) == (None, {"board": "meter"}, [None])
    client.acquire("meter-1")
    try:
        taken = client.place("meter-1")
        (port,) = taken.serial_ports
        assert (taken.owner, port.acquired, port.name) == (client.owner, "meter-1", "console")
        assert port.url == f"rfc2217://127.0.0.1:{port.params['port']}"
    finally:
        client.release("meter-1")
    assert client.place("meter-1").owner is None


def test_all_places_and_ports_are_listed(shared_lab: Lab) -> None:
    """R-24: with the whole names."""
    assert [place.name for place in shared_lab.client.places()] == ["empty", "meter-1", "meter-2", "pair"]
    assert [port.path for port in shared_lab.client.serial_ports()] == [
        "pi/meter-1/NetworkSerialPort/console",
        "pi/meter-2/NetworkSerialPort/console",
        "pi/pair/NetworkSerialPort/left",
        "pi/pair/NetworkSerialPort/right",
    ]


def test_a_reservation_gives_a_place_by_tag(shared_lab: Lab) -> None:
    """R-20: as soon as one is free."""
    client = shared_lab.client
    token = client.reserve({"board": "meter"})
    try:
        place = client.allocated(token)
        assert client.wait(token, 60) == place
        assert place in ("meter-1", "meter-2")
        second = client.reserve({"name": place})
        try:
            assert client.allocated(second) is None
            assert client.wait(second, 3) is None
        finally:
            client.cancel(second)
    finally:
        client.cancel(token)


def test_a_place_of_another_user_is_left_alone(shared_lab: Lab) -> None:
    """R-22: it can neither be acquired nor released."""
    shared_lab.run("-p", "meter-2", "acquire", user=ALICE)
    try:
        assert shared_lab.place("meter-2").owner == "desk/alice"
        with pytest.raises(LabgridError, match="already acquired by desk/alice"):
            shared_lab.client.acquire("meter-2")
        shared_lab.client.release("meter-2")
        assert shared_lab.place("meter-2").owner == "desk/alice"
    finally:
        shared_lab.run("-p", "meter-2", "release", user=ALICE)


def test_a_place_is_named_in_full(shared_lab: Lab) -> None:
    """R-20: although labgrid takes a part of a name for the name."""
    assert complaint(shared_lab.client, "meter-").startswith("labgrid says: pattern meter- matches multiple places")
    assert complaint(shared_lab.client, "eter-1") == (
        "labgrid has no place 'eter-1'; the name of one is longer: meter-1. "
        f"To see all: {shared_lab.client.line('places')}"
    )


def test_a_missing_exporter_leaves_an_orphan(tmp_path: Path) -> None:
    """R-22: the place stays acquired."""
    with lab(tmp_path / "lab") as made:
        made.client.acquire("meter-1")
        made.end("exporter", signal.SIGTERM)
        state = made.place()
        assert (state.owner, state.serial_ports) == (made.client.owner, ())
        assert state.orphans == ("pi/meter-1/NetworkSerialPort/console",)


def test_a_missing_coordinator_is_an_error(shared_lab: Lab, tmp_path: Path) -> None:
    """R-20: with what gRPC says of it."""
    text = complaint(Client(shared_lab.client.command, "127.0.0.1:1", tmp_path), "meter-1")
    assert text.startswith("the coordinator of labgrid cannot be reached: ")
    assert shlex.join(["-x", "127.0.0.1:1", "-p", "meter-1", "show"]) in text


def test_a_missing_client_says_how_to_get_it(tmp_path: Path) -> None:
    """R-20: labgrid has an environment of its own."""
    assert complaint(Client("./no-client", None, tmp_path), "meter-1").startswith(
        f"{tmp_path}/no-client cannot be run: No such file or directory. Install labgrid in an environment of its own"
    )


def test_the_environment_chooses_no_place(shared_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-20: what LG_PLACE and LG_ENV say is for people at a terminal."""
    monkeypatch.setitem(os.environ, "LG_ENV", "/no/such/environment.yaml")
    monkeypatch.setitem(os.environ, "LG_PLACE", "meter-2")
    assert shared_lab.client.place("meter-1").name == "meter-1"
