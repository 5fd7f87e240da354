"""A USB serial adapter: answers the kernel's transfers with what its chip and its UART say.

The chip knows registers, the UART knows the line; this knows descriptors, queues of transfers and plugging.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections import deque
from typing import Final, Protocol

from . import usbip, vhci
from .uart import Scheduler, Uart

_MANUFACTURER: Final = "anyserial"
# Seconds that the kernel may take to let go of a port after an unplug.
_PORT_IS_FREE: Final = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What a device says it is.

    Attributes:
        vid: Vendor id.
        pid: Product id.
        release: `bcdDevice`; drivers tell chip generations apart by it.
        device_class: `bDeviceClass`.
        product: The product string.
    """

    vid: int
    pid: int
    release: int
    device_class: int
    product: str


class Chip(Protocol):
    """What differs from adapter to adapter; one file each."""

    identity: Identity
    configuration: bytes

    def reset(self) -> None:
        """Power has come."""
        ...

    def control(self, setup: usbip.Setup, data: bytes) -> bytes | None:
        """Carry out a class or vendor request; returns what it reads, None is a stall."""
        ...

    def poll(self, endpoint: int, size: int) -> bytes | None:
        """What an input transfer of `size` bytes on `endpoint` gives now; None as long as there is nothing to say."""
        ...


class MakesChip(Protocol):
    """A chip's class."""

    def __call__(self, uart: Uart) -> Chip:
        """The chip around `uart`, which calls `uart.notify` when it has something to say."""
        ...


class Adapter:
    """One adapter, plugged in or not.

    Args:
        name: Also its serial number.
        make_chip: What it is.
        scheduler: Its time.
    """

    def __init__(self, name: str, make_chip: MakesChip, scheduler: Scheduler) -> None:
        self.name = name
        self.uart = Uart(name, scheduler)
        self.chip = make_chip(self.uart)
        self.port: int | None = None
        self._connection: usbip.Connection | None = None
        self._inputs: dict[int, deque[usbip.Transfer]] = {}
        self._outputs: deque[tuple[usbip.Transfer, memoryview]] = deque()
        self._busy = False
        self.uart.notify = self.run

    @property
    def is_plugged(self) -> bool:
        """Whether the kernel has it."""
        return self._connection is not None

    def connect(self, sock: socket.socket) -> None:
        """Serve whoever plays the kernel at the far end of `sock`."""
        self.uart.power(True)
        self.chip.reset()
        self._connection = usbip.Connection(sock, self._message, self._lost)

    async def plug(self) -> None:
        """Attach to this machine's kernel, where it was before if it was.

        Raises:
            RuntimeError: It is plugged in already, or no port of the virtual host controller becomes free.
        """
        if self.is_plugged:
            raise RuntimeError(f"{self.name} is plugged in already")
        deadline = asyncio.get_running_loop().time() + _PORT_IS_FREE
        while self.port not in (free := vhci.free_ports()):
            if self.port is None and free:
                self.port = free[0]
                break
            if asyncio.get_running_loop().time() > deadline:
                which = "no port" if self.port is None else f"port {self.port}"
                raise RuntimeError(f"{self.name}: {which} of vhci_hcd became free in {_PORT_IS_FREE:g} s")
            await asyncio.sleep(0.02)
        ours, theirs = socket.socketpair()
        with theirs:
            self.connect(ours)
            vhci.attach(self.port, theirs)

    async def unplug(self) -> None:
        """As when the plug is pulled: the drivers let go of the device, then its port is empty.

        Until then it goes on answering. A real host controller ends at once what was asked of a device that is gone;
        the virtual one does not, and a driver that is waiting for an answer would keep the device for 5 s more.
        """
        self._check_plugged()
        device = vhci.device(self.name)
        if device is not None:
            await asyncio.to_thread(vhci.remove, device)
        if self.port is not None and self.is_plugged:
            vhci.detach(self.port)
            self._lost()

    def cut(self) -> None:
        """As when the device dies: the kernel has to find out.

        What it has asked before is answered, because of what `unplug` says.
        """
        self._check_plugged()
        if self._connection is not None:
            self._connection.catch_up()
        self._lost()

    def run(self) -> None:
        """Complete every transfer that can be completed now."""
        # Completing one changes the UART, which calls here again.
        if self._busy:
            return
        self._busy = True
        try:
            while self._feed_line() or self._answer_inputs():
                pass
        finally:
            self._busy = False

    def _check_plugged(self) -> None:
        if not self.is_plugged:
            raise RuntimeError(f"{self.name} is not plugged in")

    def _lost(self) -> None:
        if self._connection is None:
            return
        self._connection.close()
        self._connection = None
        self._inputs.clear()
        self._outputs.clear()
        self.uart.power(False)

    def _feed_line(self) -> bool:
        """Move output from transfers to the UART; whether there was any."""
        moved = False
        while self._outputs and self.uart.room:
            transfer, rest = self._outputs[0]
            rest = rest[self.uart.transmit(bytes(rest[: self.uart.room])) :]
            moved = True
            if rest:
                self._outputs[0] = transfer, rest
            else:
                self._outputs.popleft()
                self._send(usbip.completion(transfer.sequence, length=transfer.length))
        return moved

    def _answer_inputs(self) -> bool:
        """Give the kernel what the chip has to say; whether there was anything."""
        moved = False
        for endpoint, waiting in self._inputs.items():
            while waiting and (data := self.chip.poll(endpoint, waiting[0].length)) is not None:
                self._send(usbip.completion(waiting.popleft().sequence, data=data))
                moved = True
        return moved

    def _send(self, message: bytes) -> None:
        if self._connection is not None:
            self._connection.send(message)

    def _message(self, message: usbip.Transfer | usbip.Unlink) -> None:
        if isinstance(message, usbip.Unlink):
            self._send(usbip.unlink_answer(message.sequence, found=self._forget(message.victim)))
        elif message.endpoint == 0:
            self._control(message)
        elif message.is_input:
            self._inputs.setdefault(message.endpoint, deque()).append(message)
        else:
            self._outputs.append((message, memoryview(message.data)))
        self.run()

    def _forget(self, sequence: int) -> bool:
        for waiting in self._inputs.values():
            for transfer in waiting:
                if transfer.sequence == sequence:
                    waiting.remove(transfer)
                    return True
        for output in self._outputs:
            if output[0].sequence == sequence:
                self._outputs.remove(output)
                return True
        return False

    def _control(self, transfer: usbip.Transfer) -> None:
        setup = transfer.setup
        answer = self._standard(setup) if setup.is_standard else self.chip.control(setup, transfer.data)
        if answer is None:
            self._send(usbip.completion(transfer.sequence, usbip.STALLED))
        elif setup.is_input:
            self._send(usbip.completion(transfer.sequence, data=answer[: setup.length]))
        else:
            self._send(usbip.completion(transfer.sequence, length=len(transfer.data)))

    def _standard(self, setup: usbip.Setup) -> bytes | None:
        match setup.request:
            case 0:  # GET_STATUS: bus powered, nothing halted
                return b"\0\0"
            case 6:  # GET_DESCRIPTOR
                return self._descriptor(setup.value >> 8, setup.value & 0xFF)
            case 8:  # GET_CONFIGURATION
                return b"\1"
            case 10:  # GET_INTERFACE
                return b"\0"
            case 1 | 3 | 5 | 9 | 11:  # CLEAR_FEATURE, SET_FEATURE, SET_ADDRESS, SET_CONFIGURATION, SET_INTERFACE
                return b""
            case _:
                return None

    def _descriptor(self, kind: int, index: int) -> bytes | None:
        identity = self.chip.identity
        strings = (_MANUFACTURER, identity.product, self.name)
        match kind, index:
            case 1, _:
                ids = (identity.vid, identity.pid, identity.release)
                return struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, identity.device_class, 0, 0, 64, *ids, 1, 2, 3, 1)
            case 2, _:
                return self.chip.configuration
            case 3, 0:
                return b"\x04\x03\x09\x04"  # the only language: English
            case 3, 1 | 2 | 3:
                text = strings[index - 1].encode("utf-16-le")
                return bytes([2 + len(text), 3]) + text
            case _:
                return None


def configuration(interfaces: int, *parts: bytes) -> bytes:
    """A configuration descriptor with everything that belongs to it."""
    body = b"".join(parts)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), interfaces, 1, 0, 0x80, 50) + body


def interface(number: int, endpoints: int, *, kind: tuple[int, int, int] = (0xFF, 0xFF, 0xFF), name: int = 0) -> bytes:
    """An interface descriptor; `kind` is class, subclass and protocol."""
    return bytes([9, 4, number, 0, endpoints, *kind, name])


def bulk(address: int, size: int = 64) -> bytes:
    """An endpoint descriptor; an address from 0x80 on is an input."""
    return struct.pack("<BBBBHB", 7, 5, address, 2, size, 0)


def interrupt(address: int, size: int, milliseconds: int) -> bytes:
    """An endpoint descriptor for notifications."""
    return struct.pack("<BBBBHB", 7, 5, address, 3, size, milliseconds)
