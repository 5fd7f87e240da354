"""Talk to the running bench: `control.py unplug ftdi-a`. Run as a file, with as little of Python as possible."""

from __future__ import annotations

import socket
import sys

SOCKET = "/run/virtual-bench/control"


def ask(*words: str, path: str = SOCKET) -> str:
    """The bench's answer to a command.

    Raises:
        OSError: No bench is running.
        RuntimeError: It says no.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(path)
        connection.sendall(" ".join(words).encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    verdict, _, text = answer.decode().strip().partition(" ")
    if verdict != "ok":
        raise RuntimeError(text)
    return text


def main() -> int:
    """Exit status 0: done; 1: the bench says no; 2: there is no bench."""
    try:
        text = ask(*sys.argv[1:])
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"{SOCKET}: {exc.strerror or exc}: is the virtual bench running?", file=sys.stderr)
        return 2
    if text:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
