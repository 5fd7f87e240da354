"""Runs a job inside the guest, as root, started as a file: opens the throw-away root for an ordinary user first."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import traceback
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from virtualbench import inside  # noqa: E402  the package is found through the line above


def _let_in(user: str, *paths: str) -> None:
    """Let anybody pass to `paths`: the host's root may keep its home, and a Python in it, to itself."""
    del user
    for path in paths:
        for parent in Path(path).resolve().parents:
            mode = parent.stat().st_mode
            if mode & 0o001 == 0:
                parent.chmod(mode | 0o001)


def main() -> int:
    """Exit status of the job, or `inside.BROKEN` with the reason on standard error."""
    with open(sys.argv[1], encoding="utf-8") as file:
        job = inside.Job(**json.load(file))
    user = pwd.getpwuid(int(job.user)) if job.user.isdecimal() else pwd.getpwnam(job.user)
    try:
        _let_in(job.user, sys.executable, os.path.realpath(sys.executable), job.folder + "/x")
        if user.pw_uid:
            # Caches and temporary files; on the host nothing changes.
            os.chown(job.folder, user.pw_uid, user.pw_gid)
        for output in sys.argv[2:]:
            mount = ["mount", "-t", "9p", "-o", "rw,cache=none,trans=virtio,version=9p2000.L,msize=512000"]
            subprocess.run(["/run/guest/busybox", *mount, "output", output], check=True)
            os.chown(output, user.pw_uid, user.pw_gid)
        return inside.run(job)
    except Exception:
        traceback.print_exc()
        return inside.BROKEN


if __name__ == "__main__":
    sys.exit(main())
