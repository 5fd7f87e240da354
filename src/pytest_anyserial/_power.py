"""The supply of a port: the commands of the bench file that switch it, and what they said when they failed."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Final, Literal

from ._bench import Power

#: Seconds for one command.
_LIMIT: Final = 30.0


class PowerError(Exception):
    """A supply did not do what the bench file says it does."""


def switch(power: Power, to: Literal["off", "on"], folder: Path) -> None:
    """Run the command in `folder`, and wait for its end.

    Raises:
        PowerError: It cannot be started, takes more than 30 seconds, or says that it failed.
    """
    argv = power.off if to == "off" else power.on
    here = f"power.{power.name}.{to}: {shlex.join(argv)}"
    try:
        done = subprocess.run(  # noqa: S603  the bench file names it, and there is no shell
            argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise PowerError(f"{here} was not done after {_LIMIT:g} s") from None
    except OSError as exc:
        raise PowerError(f"{here} cannot be run in {folder}: {exc.strerror or exc}") from exc
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="backslashreplace").strip()
        raise PowerError(f"{here} failed with exit status {done.returncode}{said and f': {said}'}")
