"""The far end of the lines: `far.py MODE DESCRIPTOR...` on the controllers of pseudo-terminals.

echo     sends back what comes
late     likewise, a few milliseconds later
source   sends as many bytes as a line with a number asks for
steady   likewise, but that many every 10 ms, a hundred times
sink     answers the end of a line with one byte
"""

import os
import select
import sys
import time


def send(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def late(fd: int, data: bytes) -> None:
    time.sleep(0.005)
    send(fd, data)


def source(fd: int, data: bytes) -> None:
    missing = int(data)
    while missing:
        chunk = bytes(min(65536, missing))
        send(fd, chunk)
        missing -= len(chunk)


def steady(fd: int, data: bytes) -> None:
    chunk = bytes(int(data))
    due = time.monotonic()
    for _ in range(100):
        send(fd, chunk)
        due += 0.01
        time.sleep(max(0, due - time.monotonic()))


def sink(fd: int, data: bytes) -> None:
    if data.endswith(b"\n"):
        send(fd, b"k")


def main(mode: str, *fds: str) -> None:
    answer = {"echo": send, "late": late, "source": source, "steady": steady, "sink": sink}[mode]
    epoll = select.epoll()
    for number in fds:
        epoll.register(int(number), select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            answer(fd, os.read(fd, 65536))


if __name__ == "__main__":
    main(*sys.argv[1:])
