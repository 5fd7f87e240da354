"""Whether a proactor loop misses a wake-up by other threads, without anyserial: `.ci/windows tests/windows/wakeups.py`.

With an argument, for so many seconds; else for a minute. A round is a task that another thread starts, and a call in a
worker thread that the task waits for. A loop is woken by a byte on a socket of its own, and asyncio says nothing if the
byte cannot be sent. A round that has not ended after ten seconds gets a second wake-up.
"""

import asyncio
import collections
import os
import queue
import socket
import sys
import threading
import time

PATIENCE = 10.0


class Loop(asyncio.ProactorEventLoop):
    """Counts the bytes by which threads wake it, and those that the socket refused."""

    def __init__(self):
        self.sent = collections.Counter()
        super().__init__()

    def _write_to_self(self):
        try:
            self._csock.send(b"\0")
        except OSError as exc:
            self.sent[f"refused with {exc.winerror}"] += 1
        else:
            self.sent["sent"] += 1

    def state(self):
        try:
            left = len(self._ssock.recv(4096, socket.MSG_PEEK))
        except BlockingIOError:
            left = 0
        read = "pending" if self._self_reading_future._ov.pending else "over"
        return f"{len(self._ready)} calls are due, {left} bytes are in the socket, its read is {read}"


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    loop, answers, tasks = Loop(), queue.SimpleQueue(), set()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def work():
        await loop.run_in_executor(None, int)
        answers.put(None)

    def start():
        task = loop.create_task(work())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    rounds = missed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rounds += 1
        before = loop.sent.copy()
        loop.call_soon_threadsafe(start)
        while True:
            try:
                answers.get(timeout=PATIENCE)
                break
            except queue.Empty:
                missed += 1
                print(f"round {rounds}: bytes {dict(loop.sent - before)}, {loop.state()}", flush=True)
                loop.call_soon_threadsafe(int)
    print(f"{rounds} rounds, {missed} wake-ups missed, bytes {dict(loop.sent)}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
