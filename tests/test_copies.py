"""What users send to another process or copy: errors and values keep all that they say."""

from __future__ import annotations

import copy
import errno
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from anyserial import exceptions
from anyserial.exceptions import PortNotFoundError, SerialError, errno_to_exception
from anyserial.testing import FaultAction, FaultEvent, FaultPlan, FiredFault
from pytest_anyserial._bench.file import BenchFileError

T = TypeVar("T")

CLASSES = [getattr(exceptions, name) for name in exceptions.__all__ if name.endswith("Error")]
WAYS = {
    **{f"pickle {n}": lambda value, n=n: pickle.loads(pickle.dumps(value, n)) for n in range(2, 6)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def described(error: BaseException) -> dict[str, Any]:
    """All that an error says."""
    names = ("args", "errno", "strerror", "filename", "filename2", "winerror", "__notes__")
    return {name: getattr(error, name, None) for name in names} | {"type": type(error), "text": str(error)}


def made(cls: type[SerialError]) -> dict[str, SerialError]:
    """An error of this class in each of the ways that they are made."""
    late = cls("refused by the driver")
    late.filename, late.strerror = "/dev/ttyUSB0", "refused by the driver"
    noted = cls(errno.EIO, "Input/output error", "/dev/ttyUSB0")
    noted.add_note("the adapter was pulled")
    renamed = cls(errno.EIO, "Input/output error", "/dev/a", None, "/dev/b")
    return {
        "text": cls("no backend"),
        "bare": cls(),
        "errno": cls(errno.EIO, "Input/output error"),
        "errno and file": cls(errno.EIO, "Input/output error", "/dev/ttyUSB0"),
        "file set later": late,
        "notes": noted,
        "two files": renamed,
    }


@each_way
@pytest.mark.parametrize("how", made(SerialError))
@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_survives_copying(cls: type[SerialError], how: str, way: Callable[[T], T]) -> None:
    """L-120: with errno, text, file name and notes, however it was made."""
    error = made(cls)[how]
    assert described(way(error)) == described(error)


@each_way
@pytest.mark.parametrize("context", ["open", "lock", "configure", "ioctl", "io"])
@pytest.mark.parametrize("original", [OSError(errno.EACCES, "no"), OSError("only a text"), ValueError("odd")], ids=str)
def test_a_translated_error_survives_copying(original: Exception, context: Any, way: Callable[[T], T]) -> None:
    """L-120: as it comes from a port, also when the cause had no errno."""
    error = errno_to_exception(original, context=context, path="/dev/ttyUSB0")
    assert error.filename == "/dev/ttyUSB0"
    assert described(way(error)) == described(error)


class MeterMissingError(PortNotFoundError):
    """An error of a driver, which is not made as ours are."""

    def __init__(self, *, meter: str) -> None:
        super().__init__(errno.ENOENT, f"no meter {meter}", "/dev/meter")
        self.meter = meter


@each_way
def test_an_error_of_a_driver_survives_copying(way: Callable[[T], T]) -> None:
    """L-120: a subclass may have a constructor of its own and attributes of its own."""
    error = MeterMissingError(meter="M1")
    assert described(way(error)) == described(error)
    assert way(error).meter == "M1"


def test_a_copied_error_is_independent() -> None:
    """L-120: what is added to the copy is not on the original."""
    error = SerialError(errno.EIO, "Input/output error", "/dev/ttyUSB0")
    twin = copy.copy(error)
    twin.filename = "/dev/other"
    twin.add_note("only here")
    assert (error.filename, getattr(error, "__notes__", [])) == ("/dev/ttyUSB0", [])


@each_way
def test_an_error_of_a_bench_file_survives_copying(way: Callable[[T], T]) -> None:
    """H-01: pytest-xdist sends it from one process to another; each problem stays a problem."""
    error = BenchFileError(("hil.toml: ports.a: no match", "hil.toml: links: none"))
    twin = way(error)
    assert (twin.problems, str(twin)) == (error.problems, "hil.toml: ports.a: no match\nhil.toml: links: none")


@each_way
def test_faults_survive_copying(way: Callable[[T], T]) -> None:
    """L-11: events, and plans with all that is in them."""
    event = FaultEvent(action=FaultAction.CORRUPT, at_byte=3, mask=1)
    fired = FiredFault(event=event, index=0, op=1, byte=3, time=0.5)
    assert (way(event), way(fired)) == (event, fired)
    plan = FaultPlan(parity_errors=2, short_write_max=1, schedule=[event])
    assert repr(way(plan)) == repr(plan)
    assert list(way(plan).schedule) == [event]
