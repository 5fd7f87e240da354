"""Leases against another user of the host, who may write into the lease folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.lease import (
    LeaseFileError,
    LeaseFolderError,
    LeaseHeldError,
    LeaseLostError,
    lease_of,
    leased,
    leases,
)

from .benches import Bench
from .conftest import Project
from .leasing import BECOME_OTHER, IS_ROOT, OTHER, holding, output, python, started, take

pytestmark = pytest.mark.posix("users and modes of files")

#: Holds a lock as every user may, and writes nothing.
LOCK = """
file = open(folder / "usb-1-4.lock", "rb")
fcntl.flock(file, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
#: Holds a lock as every user may, and writes the second argument into its file.
CLAIM = """
file = open(folder / "usb-1-4.lock", "r+b")
fcntl.flock(file, fcntl.LOCK_SH)
file.truncate(file.write(sys.argv[2].encode("latin-1")))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""
#: Renews its text ten times a second, as the process that the second argument names.
RENEW = """
file = open(folder / "usb-1-4.lock", "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
pid = os.getpid() if sys.argv[2] == "own" else 1
facts = {"device": "usb-1-4", "pid": pid, "host": socket.gethostname(), "user": "u", "since": 1.0, "ended": None}
for turn in range(600):
    file.seek(0)
    file.truncate(file.write(json.dumps(facts | {"test": f"turn {turn}"}).encode() + b"\\n"))
    file.flush()
    if not turn:
        print("held", flush=True)
    time.sleep(0.1)
"""
KINDS = {
    "fifo": "it is a FIFO, made by",
    "folder": "it is a folder, made by",
    "socket": "it is a socket, made by",
    "link": "it is a symbolic link, made by",
    "second name": "it has 2 names (hard links)",
}

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can act as another user")
needs_locks = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not list its locks")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the leases of one test are, in a place that every user can reach."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o1777)
        yield Path(place) / "leases"


def claim(**changes: object) -> str:
    """A text for a lock file."""
    host = socket.gethostname()
    # No process has this number: Linux gives none above 4,194,304.
    facts = {"device": "usb-1-4", "pid": 5_000_000, "host": host, "user": "u", "test": "t", "since": 1.0, "ended": None}
    return json.dumps(facts | changes) + "\n"


def write_bench(folder: Path) -> Path:
    """A bench file whose leases are in this folder."""
    file = folder.parent / "hil.toml"
    file.write_text(f"schema = 1\nbench.lease_dir = '{folder}'\nports.a.match.path = '/dev/ttyS99'\n")
    return file


def make(kind: str, path: Path) -> None:
    """Put something that is no lock file at a path."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/nowhere")
        case "socket":
            with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path.name)
        case _:
            victim = path.with_name("victim")
            victim.write_text("precious")
            path.hardlink_to(victim)


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_entry_is_listed_as_unknown(folder: Path, kind: str) -> None:
    """H-22: it is listed as unknown, with a remark; the leases beside it are listed as ever."""
    with holding(folder, "usb-1-4"):
        make(kind, folder / "odd.lock")
        # In another process, because a FIFO could block.
        text = output("print(json.dumps([(x.device, x.is_held, x.remark) for x in leases(folder)]))", folder)
    odd, real = json.loads(text)
    assert real == ["usb-1-4", True, ""]
    assert odd[:2] == ["odd", None]
    assert KINDS[kind] in odd[2]


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_entry_as_the_lock_file_is_an_error(folder: Path, kind: str) -> None:
    """H-10: the message names the kind and the command that removes it; another device is not concerned."""
    take(folder, "usb-1-5")
    make(kind, folder / "usb-1-4.lock")
    code = """
try:
    with leased(["usb-1-4"], test="t", timeout=0, folder=folder):
        print("leased")
except LeaseFileError as exc:
    print(exc)
"""
    text = output(code, folder)
    assert text.startswith(f"lock file {folder}/usb-1-4.lock cannot be used: {KINDS[kind]}")
    command = "sudo rm -r" if kind == "folder" else "sudo rm"
    assert text.endswith(f"Remove it while no test uses the device: {command} {folder}/usb-1-4.lock\n")
    take(folder, "usb-1-5")


def test_a_file_with_a_second_name_is_not_written(folder: Path) -> None:
    """H-10: it may be a file of another folder, which only its owner may write."""
    take(folder, "usb-1-5")
    make("second name", folder / "usb-1-4.lock")
    with pytest.raises(LeaseFileError):
        take(folder, "usb-1-4")
    assert (folder / "victim").read_text() == "precious"


def test_hard_links_do_not_make_a_test_wait_for_itself(folder: Path) -> None:
    """H-11: two devices cannot have one lock file."""
    take(folder, "usb-1-4")
    (folder / "usb-1-5.lock").hardlink_to(folder / "usb-1-4.lock")
    start = time.monotonic()
    with pytest.raises(LeaseFileError):
        take(folder, "usb-1-4", "usb-1-5", timeout=60)
    assert time.monotonic() - start < 30


def test_modes_are_set_on_descriptors_not_on_names(folder: Path, tmp_path: Path) -> None:
    """H-10: the name of a new file may be a link to a file of the victim a moment later."""
    victim = tmp_path / "victim"
    victim.touch(mode=0o600)
    swap = """
def swap(event, args):
    if event == "os.chmod" and not isinstance(args[0], int):
        os.rename(args[0], str(args[0]) + ".old")
        os.symlink(sys.argv[2], args[0])

sys.addaudithook(swap)
try:
    with leased(["usb-1-4"], test="t", timeout=0, folder=folder):
        pass
except (LeaseError, OSError):
    pass
"""
    with python(swap, folder, victim) as process:
        process.communicate(timeout=30)
    assert victim.stat().st_mode & 0o777 == 0o600


def test_the_folders_above_are_not_closed_by_the_umask(folder: Path) -> None:
    """H-10: all users must reach the leases; folders that exist keep their mode."""
    mask = os.umask(0o077)
    try:
        take(folder / "deep" / "down", "usb-1-4")
    finally:
        os.umask(mask)
    modes = [path.stat().st_mode & 0o7777 for path in (folder, folder / "deep", folder / "deep" / "down")]
    assert modes == [0o755, 0o755, 0o1777]


@needs_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    """H-10: its owner could replace lock files; the message says whose it is."""
    folder.mkdir()
    os.chmod(folder, 0o1777)
    os.chown(folder, OTHER, OTHER)
    for use in (take, lambda place, _: leases(place)):
        with pytest.raises(LeaseFolderError, match=f"it belongs to uid {OTHER}, who could replace") as caught:
            use(folder, "usb-1-4")
        assert f"sudo mkdir -m 1777 {folder}" in str(caught.value)
    assert list(folder.iterdir()) == []


@needs_root
def test_a_folder_of_root_is_for_every_user(folder: Path) -> None:
    """H-10: the usual case on a host with several users."""
    take(folder, "usb-1-4")
    code = BECOME_OTHER + 'with leased(["usb-1-4", "usb-1-5"], test="t", timeout=0, folder=folder): print("leased")'
    assert output(code, folder) == "leased\n"


@needs_root
def test_a_folder_that_cannot_be_read_is_not_an_empty_list(folder: Path) -> None:
    """H-22: a lease that is held must not be missing."""
    take(folder, "usb-1-4")
    os.chmod(folder, 0o1733)
    code = BECOME_OTHER + "try: print(leases(folder))\nexcept LeaseFolderError as exc: print(exc)"
    assert output(code, folder).startswith(f"lease folder {folder} cannot be used: Permission denied. ")


@pytest.mark.parametrize("there", ["folder", "nothing"])
def test_a_link_as_the_lease_folder_is_refused(folder: Path, tmp_path: Path, there: str) -> None:
    """H-10: what is behind it may be a folder that only the victim can write."""
    target = tmp_path / "target"
    if there == "folder":
        target.mkdir()
    folder.symlink_to(target)
    for use in (take, lambda place, _: leases(place)):
        with pytest.raises(LeaseFolderError, match="cannot be used: it is a symbolic link, made by "):
            use(folder, "usb-1-4")
    assert not target.exists() or list(target.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder of another user"])
def test_the_advised_command_changes_nothing_of_others(folder: Path, tmp_path: Path, kind: str) -> None:
    """H-10: by then another user may have made a link of that name."""
    if kind != "link":
        if not IS_ROOT:
            pytest.skip("only root can act as another user")
        folder.mkdir()
        os.chown(folder, OTHER, OTHER)
    else:
        folder.symlink_to("/nowhere")
    with pytest.raises(LeaseFolderError) as caught:
        take(folder, "usb-1-4")
    (command,) = re.findall(r"sudo (mk[^;]*)", str(caught.value))
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    folder.rmdir() if kind != "link" else folder.unlink()
    folder.symlink_to(target)
    done = subprocess.run(command.split(), capture_output=True, check=False)
    assert done.returncode != 0
    assert target.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize(("mode", "is_fine"), [(0o777, False), (0o775, True), (0o1777, True), (0o700, True)])
def test_a_folder_where_all_may_remove_files_is_refused(folder: Path, mode: int, is_fine: bool) -> None:
    """H-10: without the sticky bit every user may replace every lock file. A group that may write is trusted."""
    folder.mkdir()
    os.chmod(folder, mode)
    if is_fine:
        take(folder, "usb-1-4")
    else:
        with pytest.raises(LeaseFolderError, match=r"every user may remove .* \(mode 0777\)\. .*sudo chmod 1777 "):
            take(folder, "usb-1-4")


@needs_locks
def test_a_text_that_changes_does_not_prolong_a_wait(folder: Path) -> None:
    """H-12: it counts only if it is of a process that has the lock."""
    take(folder, "usb-1-4")
    with started(RENEW, folder, "other"):
        start = time.monotonic()
        with pytest.raises(LeaseHeldError):
            take(folder, "usb-1-4", timeout=1)
        assert time.monotonic() - start < 8


@pytest.mark.gate("it waits for 20 seconds")
def test_a_queue_may_take_ten_times_the_timeout(folder: Path) -> None:
    """H-12: a holder that renews its own text is believed, but not for ever."""
    take(folder, "usb-1-4")
    with started(RENEW, folder, "own") as holder:
        start = time.monotonic()
        with pytest.raises(LeaseHeldError) as caught:
            take(folder, "usb-1-4", timeout=2)
        assert 20 <= time.monotonic() - start < 60
    text = str(caught.value)
    assert text.startswith(f"usb-1-4 is held by pid {holder.pid} of ")
    assert "and other tests had it before, for 10 times lease_timeout = 2 s. " in text


@needs_locks
@pytest.mark.parametrize("pid", [-1, 0, 1, 5_000_000, 2**31, 10**30, "1", True, None])
def test_a_process_without_the_lock_gets_no_kill_command(folder: Path, pid: object) -> None:
    """H-11: the holder is the process that the kernel names, whatever the text says."""
    take(folder, "usb-1-4")
    with started(CLAIM, folder, claim(pid=pid)) as holder:
        with pytest.raises(LeaseHeldError) as caught:
            take(folder, "usb-1-4")
        (lease,) = leases(folder)
    text = str(caught.value)
    assert text.startswith(f"usb-1-4 is held by pid {holder.pid} of ")
    assert "kill" not in text
    assert "pid 5000000" not in text
    assert (lease.is_held, lease.holder) == (True, None)
    assert f"held by pid {holder.pid} of " in lease.remark


@needs_locks
def test_a_process_that_has_ended_gets_no_kill_command(folder: Path) -> None:
    """H-11: its child has the lock, and its number may be that of another process soon."""
    take(folder, "usb-1-4")
    code = """
file = open(folder / "usb-1-4.lock", "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(file.write(sys.argv[2].replace("5000000", str(os.getpid())).encode()))
file.flush()
if os.fork():
    print("held", flush=True)
    os._exit(0)
sys.stdin.read()
"""
    with started(code, folder, claim()) as holder:
        holder.wait()
        with pytest.raises(LeaseHeldError, match="usb-1-4 is held by ") as caught:
            take(folder, "usb-1-4")
        assert "kill" not in str(caught.value)
        assert leases(folder)[0].is_held


@needs_locks
def test_the_text_of_the_last_holder_is_not_that_of_the_next(folder: Path) -> None:
    """H-11: a holder that writes nothing is not taken for the one that has ended."""
    with holding(folder, "usb-1-4") as last:
        pass
    with started(LOCK, folder) as holder, pytest.raises(LeaseHeldError) as caught:
        take(folder, "usb-1-4")
    assert f"pid {holder.pid} of " in str(caught.value)
    assert f"pid {last.pid} " not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        claim(since=-62135596800),
        claim(since=253402300799),
        claim(since=1, ended=1e308),
        claim(since=True, pid=1e3),
        "[" * 4096,
        '{"a":' * 800,
        claim(test="\U0001f600" * 4000),
        claim(test="\x1b]0;x\x07\n\u202e\u009b31m", user="\ud800"),
        claim(device="\x1b[2J"),
    ],
    ids=["year 1", "year 9999", "never", "types", "lists", "tables", "huge", "escapes", "device"],
)
def test_any_text_can_be_shown(
    folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """H-22: any user may write it; a time zone may lead out of the years that there are."""
    bench_file = write_bench(folder)
    with holding(folder, "usb-1-4"):
        (folder / "usb-1-4.lock").write_text(text)
        for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
            with monkeypatch.context() as patch:
                patch.setenv("TZ", zone)
                time.tzset()
                assert main(["who", str(bench_file)]) == 0
                with pytest.raises(LeaseHeldError) as caught:
                    take(folder, "usb-1-4")
            time.tzset()
            shown = capsys.readouterr().out + str(caught.value)
            assert "usb-1-4" in shown
            assert "held" in shown
            assert not set(shown) & set("\x1b\x07\u202e\u009b")


@pytest.mark.parametrize(
    "text", ["[" * 4096, '{"a":' * 800, '{"a":"\\\\' + "[" * 4000], ids=["lists", "tables", "string"]
)
def test_a_nested_text_needs_no_stack(folder: Path, text: str) -> None:
    """H-22: JSON recurses, and a thread of musl has 128 KiB of stack."""
    take(folder, "usb-1-4")
    (folder / "usb-1-4.lock").write_text(text)
    code = """
import threading
threading.stack_size(128 * 1024)
thread = threading.Thread(target=lambda: print(leases(folder)[0].holder))
thread.start()
thread.join()
"""
    assert output(code, folder) == "None\n"


def test_the_text_of_a_lease_cannot_name_another_device(folder: Path) -> None:
    """H-22: the name of the file says which device it locks."""
    take(folder, "usb-1-4")
    (folder / "usb-1-4.lock").write_text(claim(device="usb-9-9"))
    assert [lease.device for lease in leases(folder)] == ["usb-1-4"]
    assert lease_of("usb-9-9", folder).holder is None


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f600", '"', "\\"])
def test_a_long_test_id_does_not_hide_the_holder(folder: Path, letter: str) -> None:
    """H-11: the text has a limit of size; what does not fit is cut."""
    test = f"test_a.py::test_a[{letter * 5000}]"
    with leased(["usb-1-4"], test=test, timeout=0, folder=folder), pytest.raises(LeaseHeldError) as caught:
        take(folder, "usb-1-4")
    assert f"is held by pid {os.getpid()} of " in str(caught.value)
    assert "for test_a.py::test_a[" in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.skipif(sys.platform != "linux", reason="F_SETLEASE exists on Linux only")
def test_a_kernel_lease_does_not_delay_the_list(folder: Path) -> None:
    """H-22: an `open` that waits would take up to 45 seconds for each file."""
    for number in range(3):
        take(folder, f"usb-{number}")
    claim_all = """
import signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
files = [os.open(path, os.O_RDWR) for path in folder.glob("*.lock")]
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""
    with started(claim_all, folder) as process:
        start = time.monotonic()
        assert [lease.is_held for lease in leases(folder)] == [None] * 3
        with pytest.raises(LeaseHeldError, match=f"held: (a process|pid {process.pid} of .*) has a kernel lease "):
            take(folder, "usb-0")
        assert time.monotonic() - start < 20


@needs_root
@needs_locks
def test_a_held_lock_that_cannot_be_opened_is_held(folder: Path) -> None:
    """H-22: the kernel's list of locks knows."""
    show = BECOME_OTHER + "print([(x.device, x.is_held) for x in leases(folder)])"
    take(folder, "usb-1-5")
    with holding(folder, "usb-1-4"):
        for number in (4, 5):
            os.chmod(folder / f"usb-1-{number}.lock", 0)
        assert output(show, folder) == "[('usb-1-4', True), ('usb-1-5', None)]\n"


@needs_root
def test_a_lock_file_that_may_not_be_opened_is_an_error(folder: Path) -> None:
    """H-10: the message says whose it is, and what to do."""
    take(folder, "usb-1-4")
    os.chmod(folder / "usb-1-4.lock", 0)
    code = """
try:
    with leased(["usb-1-4"], test="t", timeout=0, folder=folder): print("leased")
except LeaseFileError as exc: print(exc)
"""
    text = output(BECOME_OTHER + code, folder)
    assert "cannot be used: Permission denied: it belongs to root, mode 0000. Remove it " in text
    assert text.endswith(f"sudo rm {folder}/usb-1-4.lock\n")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_file_removed_while_held_is_an_error(folder: Path, replaced: bool) -> None:
    """H-10: its owner may do that; another test may have had the device meanwhile."""

    def lose() -> None:
        with leased(["usb-1-4"], test="t", timeout=0, folder=folder):
            (folder / "usb-1-4.lock").unlink()
            if replaced:
                take(folder, "usb-1-4")

    with pytest.raises(LeaseLostError, match="another test may have used usb-1-4 at the same time: its lock file"):
        lose()
    take(folder, "usb-1-4")


def test_a_failure_is_kept_when_a_lock_file_was_removed(folder: Path) -> None:
    """H-10: a note of it says that the lease was lost as well."""
    with pytest.raises(ValueError, match="mine") as caught, leased(["usb-1-4"], test="t", timeout=0, folder=folder):
        (folder / "usb-1-4.lock").unlink()
        raise ValueError("mine")
    (note,) = caught.value.__notes__
    assert note.startswith("another test may have used usb-1-4 at the same time")


def test_a_test_that_lost_its_lease_is_an_error(project: Project, bench: Bench) -> None:
    """H-10: the run says that the result may not be trusted, without a traceback of ours."""
    run = project.run(
        "--serial-hw=hil.toml",
        "--serial-loops=asyncio",
        test="""
        from pathlib import Path

        async def test_it(serial_port, serial_peer):
            for path in Path("leases").glob("*.lock"):
                path.unlink()
        """,
    )
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "error in teardown"}
    assert 'link "null": another test may have used dev-' in run.text
    assert "_lease.py" not in run.text


def test_the_doctor_names_an_odd_lock_file(bench: Bench) -> None:
    """H-21: as a problem of the port, without waiting for a FIFO."""
    folder = bench.folder / "leases"
    folder.mkdir()
    for path in (bench.pair.path_a, bench.pair.path_b):
        make("fifo", folder / f"dev-{os.stat(path).st_rdev:x}.lock")
    done = subprocess.run(
        [sys.executable, "-m", "pytest_anyserial", "doctor", "--json", str(bench.folder / "hil.toml")],
        capture_output=True,
        check=False,
        timeout=60,
    )
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["subjects"]["ports.a"]}
    assert findings["lease"]["verdict"] == "problem"
    assert "it is a FIFO, made by " in findings["lease"]["text"]


@pytest.mark.parametrize("name", [b"\x1b]0;OWNED\x07\x1b[2J", b"bad\xff\xfe", "\u202eexe".encode()])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_names_of_entries_are_printed_plain(folder: Path, name: bytes, kind: str) -> None:
    """H-22: any user may choose them, and a terminal or a strict encoding must bear them."""
    take(folder, "usb-1-4")
    path = os.fsencode(folder) + b"/" + name + b".lock"
    os.mkdir(path) if kind == "folder" else Path(os.fsdecode(path)).touch()
    bench_file = write_bench(folder)
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "pytest_anyserial", "who", str(bench_file), *options],
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert "usb-1-4" in done.stdout.decode()
        assert not set(done.stdout.decode()) & set("\x1b\x07\u202e")
