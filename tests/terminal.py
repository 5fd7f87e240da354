"""A terminal of another system: its calls and what they changed, over a real pty for the bytes."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Any

from anyserial import SerialConfig, SerialPort
from anyserial._backends.posix.settings import TtyFacts
from anyserial._backends.posix.tty import open_tty

_DIRECTIONS = {"_IO": 0x20000000, "_IOR": 0x40000000, "_IOW": 0x80000000}


def request(direction: str, group: str, number: int, size: int = 0) -> int:
    """The number of an ioctl as macOS and the BSDs make it from its direction and the size of its argument."""
    return _DIRECTIONS[direction] | size << 16 | ord(group) << 8 | number


IOSSIOSPEED = request("_IOW", "T", 2, 8)
SET_BREAK, CLEAR_BREAK = request("_IO", "t", 123), request("_IO", "t", 122)


class Terminal:
    """What a system's `tcgetattr`, `tcsetattr` and `ioctl` answer.

    `calls` holds what was changed, in order, as `(call, rate or number)`. `refuse` maps the name of a call to the
    errnos of its next failures; `drops` are the bits of c_cflag that the driver clears; `speed` is the rate at first,
    as the system writes it; `told` the one it tells whatever was set; `modem` is the answer to TIOCMGET.
    """

    def __init__(self, *, drops: int = 0, modem: int | None = None, speed: int = 9600) -> None:
        characters = [bytes([100 + place]) for place in range(20)]
        cflag = termios.CREAD | termios.CS8
        self.attributes: list[Any] = [
            *(termios.ICRNL, termios.OPOST, cflag, termios.ECHO | termios.ICANON, speed, speed),
            characters,
        ]
        self.drops = drops
        self.modem = modem
        self.rate = speed
        self.told: int | None = None
        self.refuse: dict[str, list[int]] = {}
        self.calls: list[tuple[str, int]] = []

    @property
    def functions(self) -> dict[str, Any]:
        """As a facts object takes them."""
        return {"ioctl": self.ioctl, "tcgetattr": self.tcgetattr, "tcsetattr": self.tcsetattr}

    @property
    def cflag(self) -> int:
        flags: int = self.attributes[2]
        return flags

    async def open(self, facts: TtyFacts, path: str, **fields: Any) -> SerialPort:
        """A port on this terminal, whose bytes go over the pty at `path`."""
        config = SerialConfig(**fields)
        return SerialPort(await open_tty(path, config, facts), config)

    def tcgetattr(self, fd: int) -> list[Any]:
        self._refuse("tcgetattr", termios.error)
        told = self.attributes[5] if self.told is None else self.told
        return [*self.attributes[:4], told, told, list(self.attributes[6])]

    def tcsetattr(self, fd: int, when: int, attributes: list[Any]) -> None:
        assert when == termios.TCSANOW
        self.calls.append(("tcsetattr", attributes[5]))
        self._refuse("tcsetattr", termios.error)
        self.attributes = [*attributes[:2], attributes[2] & ~self.drops, *attributes[3:]]
        self.rate = attributes[5]

    def ioctl(self, fd: int, number: int, arg: Any = 0, *_: bool) -> Any:
        match number:
            case 0x80085402:  # IOSSIOSPEED
                (rate,) = struct.unpack("=Q", arg)
                self.calls.append(("IOSSIOSPEED", rate))
                self._refuse("IOSSIOSPEED", OSError)
                self.rate = rate
            case 0x2000747B | 0x2000747A:  # TIOCSBRK, TIOCCBRK
                self.calls.append(("break", number))
            case termios.TIOCMGET if self.modem is not None:
                return struct.pack("i", self.modem)
            case termios.TIOCOUTQ:
                self._refuse("TIOCOUTQ", OSError)
                return fcntl.ioctl(fd, number, arg)
            case _:
                return fcntl.ioctl(fd, number, arg)
        return arg

    def _refuse(self, name: str, error: type[Exception]) -> None:
        if codes := self.refuse.get(name):
            code = codes.pop(0)
            raise error(code, os.strerror(code))
