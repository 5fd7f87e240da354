"""Leases: whatever the processes do, a device has one holder, and who waits is told who that is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_anyserial._bench.lease import LeaseFileError, LeaseFolderError, LeaseHeldError, leased, leases

from .leasing import IS_ROOT, holding, python, take

pytestmark = pytest.mark.posix("holders that use flock")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the leases of one test are, in a place that every user can reach."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o1777)
        yield Path(place) / "leases"


def test_a_device_never_has_two_holders(folder: Path) -> None:
    """H-10, H-11: many processes that take it again and again, each alone, in whatever order they name the devices."""
    hammer = """
witness = folder.parent / "witness"
for turn in range(25):
    devices = ["usb-1-4", "usb-1-5"][:: 1 if (turn + int(sys.argv[2])) % 2 else -1]
    with leased(devices, test=f"turn {turn}", timeout=60, folder=folder):
        os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
        time.sleep(0.001)
        os.unlink(witness)
"""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(python(hammer, folder, number)) for number in range(6)]
        for process in processes:
            _, problem = process.communicate(timeout=60)
            assert (process.returncode, problem) == (0, "")
    assert [(lease.device, lease.is_held) for lease in leases(folder)] == [("usb-1-4", False), ("usb-1-5", False)]


def test_a_device_is_held_within_the_block(folder: Path) -> None:
    """H-10: also within one process, and given back afterwards."""
    with leased(["dev-440"], test="a", timeout=0, folder=folder):
        assert leases(folder)[0].is_held
        with pytest.raises(LeaseHeldError):
            take(folder, "dev-440")
    take(folder, "dev-440")


def test_two_names_of_one_device_are_one_lease(folder: Path) -> None:
    """H-10: a link whose ends share a device, or two files that spell it alike, lock it once."""
    with leased(["usb-1-4", "usb-1-4"], test="a", timeout=0, folder=folder):
        assert len(leases(folder)) == 1


def test_a_killed_holder_frees_its_devices_at_once(folder: Path) -> None:
    """H-11: SIGKILL leaves no lock behind, only the text of who it was."""
    with holding(folder, "usb-1-4,usb-1-5") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    take(folder, "usb-1-5", "usb-1-4")


def test_a_forked_child_holds_nothing(folder: Path) -> None:
    """H-11: a process that the holder forked may live on; the device is free when the holder is gone."""
    fork = """
with leased(["usb-1-4"], test="fork", timeout=0, folder=folder):
    child = os.fork()
    if child == 0:
        os.close(1), os.close(2)
        sys.stdin.read()
        os._exit(0)
    print(child, flush=True)
    os.kill(os.getpid(), 9)
"""
    with python(fork, folder) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.wait()
        os.kill(child, 0)
        take(folder, "usb-1-4")


def test_waiting_names_the_holder(folder: Path) -> None:
    """H-11: pid, user, host, test, since when, and the next step."""
    with holding(folder, "usb-1-4") as holder, pytest.raises(LeaseHeldError) as caught:
        take(folder, "usb-1-4", timeout=0.2)
    text = str(caught.value)
    assert text.startswith(f"usb-1-4 is held by pid {holder.pid} of ")
    assert f" on {os.uname().nodename} (since 20" in text
    assert "for test_it.py::test_long), which finished no test within lease_timeout = 0.2 s. " in text
    assert f"(kill {holder.pid})" in text


def test_a_holder_without_a_text_is_reported_as_unknown(folder: Path) -> None:
    """H-11: the text is information, the lock is the truth; nonsense in the file changes nothing."""
    for nonsense in ("", "{}", "[1]", '{"device": 3}', "\x00\xff", '{"since": 1e999}'):
        with holding(folder, "usb-1-4"):
            (folder / "usb-1-4.lock").write_text(nonsense, encoding="latin-1")
            with pytest.raises(
                LeaseHeldError,
                match=r"is (held|leased) by .*, (for an unknown purpose|whose lock file names no holder); waited",
            ):
                take(folder, "usb-1-4")
            assert [(lease.is_held, lease.holder) for lease in leases(folder)] == [(True, None)]


def test_text_of_other_users_cannot_disturb_a_terminal(folder: Path) -> None:
    """H-10: any user may write the text."""
    take(folder, "usb-1-4")
    path = folder / "usb-1-4.lock"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "test": "\x1b[2J", "user": "j\u00fcrgen"}))
    holder = leases(folder)[0].holder
    assert holder is not None
    assert str(holder).isascii()
    assert str(holder).isprintable()


def test_waiting_counts_from_the_last_test_that_the_holder_ended(folder: Path) -> None:
    """H-12: a queue of short tests does not expire, however long it is."""
    queue = """
for turn in range(10):
    with leased(["usb-1-4"], test=f"turn {turn}", timeout=60, folder=folder):
        if not turn:
            print("held", flush=True)
        time.sleep(0.4)
"""
    with python(queue, folder) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        take(folder, "usb-1-4", timeout=2)


def test_the_next_in_the_queue_gets_the_device(folder: Path) -> None:
    """H-11: who waits gets it when the holder gives it back."""
    with holding(folder, "usb-1-4") as holder:
        waiter_code = """
with leased(["usb-1-4"], test="waiter", timeout=60, folder=folder):
    print(leases(folder)[0].holder.test, flush=True)
"""
        with python("print('up', flush=True)" + waiter_code, folder) as waiter:
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == "up\n"
            assert holder.stdin is not None
            holder.stdin.close()
            assert waiter.stdout.readline() == "waiter\n"


def test_a_deleted_file_locks_nothing(folder: Path) -> None:
    """H-10: who locks a file that has no name any more starts again, with the one that has."""
    with holding(folder, "usb-1-4") as holder:
        os.unlink(folder / "usb-1-4.lock")
        # The lock of the old file is out of reach; that is the deleter's doing.
        take(folder, "usb-1-4")
        assert holder.poll() is None


def test_leases_are_listed(folder: Path) -> None:
    """H-22: the device, whether it is held, and by whom it was held last; looking takes nothing away."""
    assert leases(folder) == []
    take(folder, "usb-1-5")
    with holding(folder, "usb-1-4:1.0") as holder:
        held, free = leases(folder)
        assert (held.device, held.is_held) == ("usb-1-4:1.0", True)
        assert held.holder is not None
        assert (held.holder.pid, held.holder.test, held.holder.ended) == (holder.pid, "test_it.py::test_long", None)
        assert (free.device, free.is_held) == ("usb-1-5", False)
        assert free.holder is not None
        assert free.holder.ended is not None
        assert free.holder.since <= free.holder.ended


def test_listing_leases_does_not_make_a_lease_fail(folder: Path) -> None:
    """H-22, H-11: a list locks each file for a moment; a lease that does not wait survives that."""
    take(folder, "usb-1-4")
    look = """
print("up", flush=True)
while True:
    leases(folder)
"""
    with python(look, folder) as looker:
        assert looker.stdout is not None
        assert looker.stdout.readline() == "up\n"
        for _ in range(200):
            take(folder, "usb-1-4")


def test_folder_and_files_are_for_every_user(folder: Path) -> None:
    """H-10: the folder is 1777 and the files 0666, whatever the umask."""
    mask = os.umask(0o077)
    try:
        take(folder, "usb-1-4")
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert [path.name for path in folder.iterdir()] == ["usb-1-4.lock"]
    assert (folder / "usb-1-4.lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_two_users_share_a_bench(folder: Path) -> None:
    """H-10: whoever came first, the other waits for the lock and is told; and gets it afterwards."""
    other = """
import getpass
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    with leased(["usb-1-4"], test="other", timeout=0, folder=folder):
        pass
except LeaseHeldError as exc:
    print(exc)
with leased(["usb-1-5"], test="other", timeout=0, folder=folder):
    print("held", flush=True)
    sys.stdin.read()
"""
    with leased(["usb-1-4"], test="mine", timeout=0, folder=folder), python(other, folder) as process:
        assert process.stdout is not None
        assert "usb-1-4 is held by pid" in process.stdout.readline()
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match=f"usb-1-5 is held by pid {process.pid} of "):
            take(folder, "usb-1-5")
    take(folder, "usb-1-5")
    assert (folder / "usb-1-5.lock").stat().st_uid == 65534


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_a_folder_closed_to_others_is_an_error_with_the_fix(folder: Path) -> None:
    """H-10: the text names the folder, the reason and the command."""
    folder.mkdir(mode=0o755)
    code = """
os.setuid(65534)
try:
    with leased(["usb-1-4"], test="other", timeout=0, folder=folder):
        pass
except LeaseFolderError as exc:
    print(exc)
"""
    with python(code, folder) as process:
        text, problem = process.communicate(timeout=20)
    assert problem == ""
    assert text == (
        f"lease folder {folder} cannot be used: Permission denied. All users of the bench must be able to write "
        f"there: sudo chmod 1777 {folder}, or set lease_dir in the bench file\n"
    )


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """H-10: the operating system's word for it, and the fix."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaseFolderError, match=r"lease folder .*/file cannot be used: "):
        take(tmp_path / "file", "usb-1-4")


def test_a_link_in_place_of_a_lock_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """H-10: in a folder where everybody may write, a link may point at somebody's file."""
    take(folder, "usb-1-5")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / "usb-1-4.lock").symlink_to(victim)
    with pytest.raises(LeaseFileError, match=r"it is a symbolic link, made by .*: sudo rm "):
        take(folder, "usb-1-4")
    assert victim.read_text() == "precious"
