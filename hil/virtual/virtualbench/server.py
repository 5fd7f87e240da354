"""The running bench: all adapters, their cables, and the commands that change them."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .adapter import Adapter
from .cable import INPUTS, OUTPUTS, Cable
from .plan import CHIPS, Wiring
from .sampling import Error
from .uart import Scheduler, Uart

# Bytes of a request, and seconds that it may take to arrive.
_LONGEST: Final = 1024
_PATIENCE: Final = 10.0

HELP: Final = """\
unplug NAME                  pull the plug
cut NAME                     let the adapter vanish without a word
replug NAME                  plug it in again, where it was
open NAME.OUTPUT             break the wire from tx, rts or dtr
close NAME.OUTPUT            repair it
swap NAME.OUTPUT NAME.OUTPUT exchange what two outputs drive
hold NAME.INPUT on|off|free  drive cts, dsr, cd or ri from outside
inject NAME KIND [HEX]       receive a byte (00) with an error: parity, framing, overrun or break
restore                      every wire as in the beginning, everything plugged in
state                        all of it, as JSON
help                         this text"""


class Bench:
    """All adapters of a plan.

    Args:
        plan: What there is.
        scheduler: Its time; the running asyncio loop, outside of tests.
    """

    def __init__(self, plan: Sequence[Wiring], scheduler: Scheduler) -> None:
        self.adapters: dict[str, Adapter] = {}
        self._cables: dict[str, Cable] = {}
        for wiring in plan:
            adapters = [
                Adapter(port, CHIPS[chip], scheduler) for port, chip in zip(wiring.ports, wiring.chips, strict=True)
            ]
            cable = Cable(*(adapter.uart for adapter in adapters))
            for adapter in adapters:
                self.adapters[adapter.name] = adapter
                self._cables[adapter.name] = cable

    async def plug_all(self) -> None:
        """Plug in whatever is not."""
        for adapter in self.adapters.values():
            if not adapter.is_plugged:
                await adapter.plug()

    async def unplug_all(self) -> None:
        """Leave nothing behind in the kernel."""
        for adapter in self.adapters.values():
            if adapter.is_plugged:
                await adapter.unplug()

    async def command(self, line: str) -> str:
        """Carry out one command.

        Raises:
            RuntimeError: It makes no sense; the message says why.
        """
        match line.split():
            case ["unplug", name]:
                await self._adapter(name).unplug()
            case ["cut", name]:
                self._adapter(name).cut()
            case ["replug", name]:
                await self._adapter(name).plug()
            case ["open", pin]:
                cable, end, output = self._pin(pin, OUTPUTS)
                cable.break_wire(end, output)
            case ["close", pin]:
                cable, end, output = self._pin(pin, OUTPUTS)
                cable.repair_wire(end, output)
            case ["swap", one, other]:
                cable, first, first_output = self._pin(one, OUTPUTS)
                _, second, second_output = self._pin(other, OUTPUTS)
                if second not in cable.ends:
                    raise RuntimeError(f"{one} and {other} are not in one cable")
                cable.swap((first, first_output), (second, second_output))
            case ["hold", pin, "on" | "off" | "free" as level]:
                cable, end, line = self._pin(pin, INPUTS[1:])
                cable.hold(end, line, {"on": True, "off": False, "free": None}[level])
            case ["inject", name, kind, *byte]:
                self._inject(self._adapter(name).uart, kind, byte)
            case ["restore"]:
                for cable in self._cables.values():
                    cable.restore()
                await self.plug_all()
            case ["state"]:
                return json.dumps({name: _state(adapter) for name, adapter in self.adapters.items()})
            case ["help"] | []:
                return HELP
            case _:
                raise RuntimeError(f"{line!r} is no command; there are:\n{HELP}")
        return ""

    def _adapter(self, name: str) -> Adapter:
        if name not in self.adapters:
            raise RuntimeError(f"{name!r} is no adapter; there are {', '.join(self.adapters)}")
        return self.adapters[name]

    def _pin(self, text: str, known: Sequence[str]) -> tuple[Cable, Uart, str]:
        name, _, line = text.partition(".")
        adapter = self._adapter(name)
        if line not in known:
            raise RuntimeError(f"{text!r} names no line; {name} has {', '.join(f'{name}.{line}' for line in known)}")
        return self._cables[name], adapter.uart, line

    def _inject(self, uart: Uart, kind: str, byte: list[str]) -> None:
        try:
            error = Error[kind.upper()]
            (data,) = bytes.fromhex("".join(byte) or "00")
        except (KeyError, ValueError):
            raise RuntimeError(
                f"inject takes parity, framing, overrun or break, then one byte in hex; not {' '.join((kind, *byte))!r}"
            ) from None
        uart.receive(bytes([data]), error)


async def serve(bench: Bench, path: Path, *, owner: int | None = None) -> asyncio.Server:
    """Take commands from one user of this machine, one line per connection.

    Every local user can connect to a TCP port, so a request begins with a key. That is in the file `key` beside `path`,
    which only `owner` (by default, this process's user) can read; `path` has the number of the port. The answer is a
    line `ok` or `no`, then text. TCP, because a shell can open it without the help of any program.
    """
    key, secret = secrets.token_hex(16), path.with_name("key")

    async def answer(reader: asyncio.StreamReader) -> str:
        async with asyncio.timeout(_PATIENCE):
            try:
                request = await reader.readline()
            except ValueError:
                raise RuntimeError(f"a request has at most {_LONGEST} bytes") from None
        given, _, line = request.decode(errors="replace").strip().partition(" ")
        if not hmac.compare_digest(given.encode(), key.encode()):
            raise RuntimeError(f"the key is wrong; {secret} has it")
        return await bench.command(line)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            text = f"ok\n{await answer(reader)}"
        except (RuntimeError, OSError) as exc:
            text = f"no\n{exc}"
        writer.write(text.strip().encode() + b"\n")
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0, limit=_LONGEST)
    (address,) = (each.getsockname() for each in server.sockets)
    secret.unlink(missing_ok=True)
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        if owner is not None:
            shutil.chown(secret, owner)
        file.write(f"{key}\n")
    path.write_text(f"{address[1]}\n")
    return server


def _state(adapter: Adapter) -> dict[str, object]:
    uart = adapter.uart
    return {
        "plugged": adapter.is_plugged,
        "baudrate": uart.format.baudrate,
        "data_bits": uart.format.data_bits,
        "parity": uart.format.parity,
        "stop_bits": uart.format.stop_bits,
        "rts": uart.rts,
        "dtr": uart.dtr,
        "break": uart.breaking,
        "modem": [flag.name for flag in type(uart.modem) if flag in uart.modem],
    }
