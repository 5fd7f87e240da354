"""Places of a run: acquired once, released at its end, taken over when a run was killed; with a real labgrid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import anyserial.sync
from anyserial import SerialDisconnectedError
from pytest_anyserial._bench.place import PlaceRequest, RunPlaces
from pytest_anyserial._bench.resolve import PlaceError

from .labs import ALICE, Lab, lab, needs_labgrid, patient, running, until

pytestmark = [needs_labgrid, patient, pytest.mark.posix("labgrid, on Linux")]

METER = {"a": PlaceRequest(place="meter-1")}
ANY_METER = {"a": PlaceRequest(tags=(("board", "meter"),))}


class User:
    """A user of the lab, whose runs tell it what they wait for."""

    def __init__(self, made: Lab) -> None:
        self.lab = made
        self.said: list[str] = []

    @contextlib.contextmanager
    def run(self, requests: Mapping[str, PlaceRequest] = METER, wait: float = 0) -> Iterator[RunPlaces]:
        places = RunPlaces(
            self.lab.client, requests, wait=wait, lease_dir=self.lab.folder / "leases", say=self.said.append
        )
        try:
            places.acquire(requests)
            for name in requests:
                places.acquired(name)
            yield places
        finally:
            assert places.release() == []

    def refusal(self, requests: Mapping[str, PlaceRequest] = METER, wait: float = 0) -> str:
        with pytest.raises(PlaceError) as caught, self.run(requests, wait):
            pass
        return str(caught.value)


@pytest.fixture
def user(shared_lab: Lab) -> User:
    return User(shared_lab)


@contextlib.contextmanager
def alice_has(made: Lab, place: str) -> Iterator[None]:
    assert "acquired place" in made.run("-p", place, "acquire", user=ALICE)
    try:
        yield
    finally:
        made.run("-p", place, "release", user=ALICE)


RUN = """
import signal, sys
from pathlib import Path
from pytest_anyserial._bench.labgrid import Client
from pytest_anyserial._bench.place import RunPlaces, PlaceRequest

signal.signal(signal.SIGINT, signal.default_int_handler)
command, coordinator, folder, place, wait = sys.argv[1:]
client = Client(command, coordinator, Path(folder))
places = RunPlaces(
    client, {"a": PlaceRequest(place=place)}, wait=float(wait), lease_dir=Path(folder, "leases"), say=lambda text: None
)
try:
    print(places.acquired("a").url, flush=True)
    sys.stdin.read()
finally:
    problems = places.release()
print(problems)
"""


def process(
    made: Lab, place: str, wait: float = 0, user: Mapping[str, str] | None = None
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A run in a process of its own, which prints the address and ends when its input does."""
    arguments = [made.client.command, made.coordinator, str(made.folder), place, str(wait)]
    return running([sys.executable, "-c", RUN, *arguments], user=user, stdin=subprocess.PIPE)


def line(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline()


def test_a_run_acquires_a_place_and_releases_it(user: User) -> None:
    """R-21: bytes pass meanwhile."""
    with user.run() as places, anyserial.sync.SerialPort.open(places.acquired("a").url) as port:
        assert user.lab.place().owner == user.lab.client.owner
        far = os.open(user.lab.pairs["meter-1"].path_b, os.O_RDWR | os.O_NOCTTY)
        try:
            port.send(b"MEAS?")
            assert os.read(far, 5) == b"MEAS?"
        finally:
            os.close(far)
    assert user.lab.place().owner is None


def test_the_owner_of_a_place_is_named(user: User) -> None:
    """R-22: with the date and the command that takes the place away."""
    with alice_has(user.lab, "meter-1"):
        state = user.lab.place()
        taken = f"place meter-1 is acquired by desk/alice since {state.changed}"
        kick = user.lab.client.line("-p", "meter-1", "release", "--kick")
        assert user.refusal() == f"{taken}. If that user has left it: {kick}"
        waited = user.refusal(wait=0.1)
        assert (
            waited
            == f"{taken}, and was not released within 0.1 s (wait in [labgrid]). If that user has left it: {kick}"
        )


def test_a_run_waits_for_its_turn(user: User) -> None:
    """R-20: in the queue of labgrid, and it says what it waits for."""
    with alice_has(user.lab, "meter-1"):

        def release() -> None:
            until(lambda: bool(user.said), "the run says that it waits")
            user.lab.run("-p", "meter-1", "release", user=ALICE)

        thread = threading.Thread(target=release)
        thread.start()
        with user.run(wait=120):
            assert user.lab.place().owner == user.lab.client.owner
        thread.join()
    assert len(user.said) == 1
    assert user.said[0].startswith("waiting 120 s at most: place meter-1 is acquired by desk/alice since ")
    assert user.lab.run("reservations") == ""


def test_the_next_run_takes_over_from_a_killed_run(user: User) -> None:
    """R-22: the next run has the place, says so, and releases it."""
    with process(user.lab, "meter-1") as run:
        assert line(run).startswith("rfc2217://")
        run.kill()
        run.wait()
    assert user.lab.place().owner == user.lab.client.owner
    with user.run():
        assert user.said == ["place meter-1 is taken over from a run of yours that was killed"]
    assert user.lab.place().owner is None


def test_a_place_acquired_by_a_person_is_kept(user: User) -> None:
    """R-21: a person has acquired it, not a run."""
    user.lab.client.acquire("meter-2")
    try:
        with user.run({"a": PlaceRequest(place="meter-2")}):
            pass
        assert user.lab.place("meter-2").owner == user.lab.client.owner
    finally:
        user.lab.client.release("meter-2")


def test_another_run_of_the_same_user_is_kept_out(user: User) -> None:
    """R-21: labgrid itself would let it in."""
    with user.run():
        text = User(user.lab).refusal()
        assert text.startswith(f"place meter-1 is used by another run on this host: pid {os.getpid()} of ")


def test_three_runs_take_turns(user: User) -> None:
    """R-21: of two users, on one place; each has it alone, and all end well."""
    users: list[Mapping[str, str]] = [{}, {}, ALICE]
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(process(user.lab, "meter-1", 120, each)) for each in users]
        owners: list[str] = []
        lock = threading.Lock()
        alone: list[bool] = []

        def follow(run: subprocess.Popen[str]) -> None:
            assert line(run).startswith("rfc2217://")
            alone.append(lock.acquire(blocking=False))
            owners.append(user.lab.place().owner or "")
            lock.release()
            assert run.stdin is not None
            run.stdin.close()
            assert line(run) == "[]\n"

        threads = [threading.Thread(target=follow, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert alone == [True, True, True]
        assert sorted(owners) == sorted([user.lab.client.owner, user.lab.client.owner, "desk/alice"])
        assert [run.wait(20) for run in runs] == [0, 0, 0]
    assert user.lab.place().owner is None


def test_a_place_without_a_port_is_refused(user: User) -> None:
    """R-22: labgrid would acquire it; whether it is acquired already makes no difference."""
    show = user.lab.client.line("-p", "empty", "show")
    text = f"place empty has no serial port: no exporter offers what it matches ({show})"
    assert user.refusal({"a": PlaceRequest(place="empty")}) == text
    user.lab.client.acquire("empty")
    try:
        assert user.refusal({"a": PlaceRequest(place="empty")}) == text
    finally:
        user.lab.client.release("empty")


def test_a_place_with_two_ports_needs_a_resource(user: User) -> None:
    """R-20: and two ports of a bench may share the place."""
    pair = PlaceRequest(place="pair")
    assert user.refusal({"a": pair}) == "place pair has 2 serial ports: choose one with resource = ... of left, right"
    assert (
        user.refusal({"a": pair._replace(resource="middle")})
        == "place pair has no serial port middle; it has left, right"
    )
    with user.run({"a": pair._replace(resource="left"), "b": pair._replace(resource="right")}) as places:
        assert places.acquired("a").url != places.acquired("b").url
    assert user.lab.place("pair").owner is None


def test_tags_find_a_place_that_is_free(user: User) -> None:
    """R-20: two ports get two places, and a third one none."""
    with alice_has(user.lab, "meter-2"), user.run(ANY_METER) as places:
        assert places.acquired("a").place == "meter-1"
    with user.run({"a": ANY_METER["a"], "b": ANY_METER["a"]}) as places:
        assert sorted(places.acquired(name).place for name in "ab") == ["meter-1", "meter-2"]
    with alice_has(user.lab, "meter-1"), alice_has(user.lab, "meter-2"):
        assert user.refusal(ANY_METER) == "no place with board=meter is free (meter-1: desk/alice, meter-2: desk/alice)"
    text = "labgrid has no place with board=metre. It has: meter-1 (board=meter), meter-2 (board=meter)"
    assert user.refusal({"a": PlaceRequest(tags=(("board", "metre"),))}) == text


def test_tags_take_over_the_place_of_a_killed_run(user: User) -> None:
    """R-22: or the place would never be free again."""
    with alice_has(user.lab, "meter-2"):
        with process(user.lab, "meter-1") as run:
            line(run)
            run.kill()
            run.wait()
        with user.run(ANY_METER) as places:
            assert places.acquired("a").place == "meter-1"
    assert user.lab.place().owner is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_exporter_that_ends_is_found_again(tmp_path: Path, number: signal.Signals) -> None:
    """R-22: an open port is lost within a second, except that SIGKILL leaves the server running for a while."""
    with lab(tmp_path / "lab") as made, User(made).run(wait=30) as places:
        url = places.acquired("a").url
        with anyserial.sync.SerialPort.open(url) as port:
            made.end("exporter", number)
            if number is signal.SIGTERM:
                start = time.monotonic()
                with pytest.raises(SerialDisconnectedError):
                    port.receive(1, timeout=5)
                assert time.monotonic() - start < 1
        with pytest.raises(PlaceError, match=r"^the exporter of place meter-1 is gone: pi\. Start it again"):
            places.renew("a")
        made.start_exporter()
        places.renew("a")
        assert places.acquired("a").url != url
        with anyserial.sync.SerialPort.open(places.acquired("a").url):
            pass


def test_a_coordinator_that_is_started_again_is_asked_again(tmp_path: Path) -> None:
    """R-22: it has forgotten who has what, and its end is the end of the exporter."""
    with lab(tmp_path / "lab") as made, User(made).run(wait=30) as places:
        url = places.acquired("a").url
        made.end("coordinator", signal.SIGKILL)
        with pytest.raises(PlaceError, match="the coordinator of labgrid cannot be reached"):
            places.renew("a")
        until(lambda: made.has_ended("exporter"), "the exporter ends")
        made.start_coordinator()
        made.start_exporter()
        assert made.place().owner is None
        places.renew("a")
        assert (made.place().owner, places.acquired("a").url == url) == (made.client.owner, False)


def test_a_place_that_was_kicked_is_lost(user: User) -> None:
    """R-22: and left to its new owner."""
    with user.run() as places:
        user.lab.run("-p", "meter-1", "release", "--kick", user=ALICE)
        with alice_has(user.lab, "meter-1"):
            with pytest.raises(
                PlaceError, match=r"^this run has lost its place: place meter-1 is acquired by desk/alice"
            ):
                places.renew("a")
            assert places.release() == []
            assert user.lab.place().owner == "desk/alice"
