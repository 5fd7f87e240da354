"""Runs a job inside the guest, as root, started as a file: opens the throw-away root for an ordinary user first."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

assert sys.platform == "linux" or not TYPE_CHECKING

# The package is beside this folder.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from virtualbench import inside

# A folder that init.sh makes, and everybody may write to.
_HOME = "/run/tmp"
# What may belong to another user on the host, and is made anew by who misses it.
_CACHES = (".hypothesis", ".pytest_anyserial", ".pytest_cache")


def _prepare(job: inside.Job, output: str | None) -> inside.Job:
    """Open the way for the user, give them the folder they start in, and a home; on the host nothing changes."""
    user = pwd.getpwuid(int(job.user)) if job.user.isdecimal() else pwd.getpwnam(job.user)
    # The host's root may keep its home, and a Python in it, to itself.
    programs = [os.path.join(job.folder, program) for program in (sys.executable, job.command[0])]
    folders = [
        job.folder,
        *(os.path.join(job.folder, path) for path in job.environment.get("PYTHONPATH", "").split(":")),
    ]
    folders += map(os.path.dirname, (*programs, *map(os.path.realpath, programs)))
    for folder in filter(os.path.isdir, folders):
        for parent in (Path(folder), *Path(folder).parents):
            parent.chmod(parent.stat().st_mode | 0o001)
    writable = [job.folder]
    if output is not None:
        options = "rw,cache=none,trans=virtio,version=9p2000.L,msize=512000"
        subprocess.run(["/run/guest/busybox", "mount", "-t", "9p", "-o", options, "output", output], check=True)
        writable.append(output)
    if user.pw_uid != 0:
        for folder in writable:
            os.chown(folder, user.pw_uid, user.pw_gid)
        for cache in _CACHES:
            shutil.rmtree(os.path.join(job.folder, cache), ignore_errors=True)
    environment = {**job.environment, "HOME": _HOME, "TMPDIR": _HOME}
    return dataclasses.replace(job, environment=environment)


def main() -> int:
    """Exit status of the job, or `inside.BROKEN` with the reason on standard error."""
    with open(sys.argv[1], encoding="utf-8") as file:
        job = inside.Job(**json.load(file))
    try:
        return inside.run(_prepare(job, sys.argv[2] if len(sys.argv) > 2 else None))
    except RuntimeError as exc:
        print(f"virtual bench: {exc}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    return inside.BROKEN


if __name__ == "__main__":
    sys.exit(main())
