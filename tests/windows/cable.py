"""The null modem of `make windows`, on the Linux side: two ptys behind COM ports, pulled and plugged by order.

`cable.py PORT_A PORT_B LINES` makes the links PORT_A and PORT_B, and the files in LINES that tell `lines.c` which pty
faces which. It prints the TCP port at which it takes orders, a line each: `unplug`, `replug` (new ptys, so that nothing
is left of what was sent before).
"""

from __future__ import annotations

import os
import socketserver
import sys
import threading
from pathlib import Path

from anyserial.testing import PtyPair, pty_pair


class Cable:
    def __init__(self, pair: PtyPair, links: list[Path], lines: Path) -> None:
        self._pair = pair
        self._links = links
        self._lines = lines

    def unplug(self) -> None:
        for link in self._links:
            link.unlink(missing_ok=True)
        self._pair.unplug()

    def replug(self) -> None:
        self.unplug()
        self._pair.replug()
        devices = [os.path.realpath(path) for path in (self._pair.path_a, self._pair.path_b)]
        numbers = [os.path.basename(device) for device in devices]
        for number, other in zip(numbers, reversed(numbers), strict=True):
            (self._lines / f"{number}.state").unlink(missing_ok=True)
            (self._lines / number).write_text(f"{other}\n")
        for link, device in zip(self._links, devices, strict=True):
            link.symlink_to(device)


def main() -> None:
    *links, lines = map(Path, sys.argv[1:])
    with pty_pair() as pair:
        cable = Cable(pair, links, lines)
        cable.replug()
        orders = {b"unplug": cable.unplug, b"replug": cable.replug}

        class Orders(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for order in self.rfile:
                    orders[order.strip()]()
                    self.wfile.write(b"done\n")

        with socketserver.TCPServer(("127.0.0.1", 0), Orders) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            print(server.server_address[1], flush=True)
            # Until whoever started this ends.
            sys.stdin.read()
            server.shutdown()


if __name__ == "__main__":
    main()
