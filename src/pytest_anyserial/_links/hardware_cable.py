"""A link of the bench in use by one test: leased, found where it is now, brought to a known state.

Set-up never trusts the last tear-down, which may have been a SIGKILL.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from anyserial import SerialError, SerialPort, UnsupportedPolicy, open_serial_port

from .. import _run_async
from .._bench.lease import LeaseError, LeaseLostError, leased
from .._bench.resolve import BenchMatchError, resolve
from .._bench.supply import PresenceError, brought, devices, located, switch
from .._text import count, cut, plain_lines
from .hardware import HardwareWiring

if TYPE_CHECKING:
    from .._guard import Guard

#: Seconds without a byte that count as silence, and at slow rates so many frames.
_SILENCE: Final = 0.02
#: And that do where there was a byte before.
_CONVINCING: Final = 0.2
_FRAMES: Final = 3
_BITS_PER_FRAME: Final = 12
#: What was on its way when the last test ended has passed by then.
_PATIENCE: Final = 2.0
_WINDOWS: Final = 5
_SHOWN: Final = 16


class NoisyLinkError(Exception):
    """Bytes come although nobody on this link sends."""


_PROBLEMS: Final = (BenchMatchError, LeaseError, NoisyLinkError, PresenceError, SerialError)


class HardwareCable:
    """The ends of a leased link, by their present paths, and what makes the device at end A come and go."""

    def __init__(self, wiring: HardwareWiring, guard: Guard) -> None:
        self.is_unplugged = False
        self._wiring = wiring
        self._bench = wiring.hardware.bench
        self._guard = guard
        # What can be switched asks nobody.
        self._attendant = None if wiring.port(0).power else wiring.hardware.attendant

    @property
    def path_a(self) -> str:
        """Where the device at end A is now.

        Raises:
            BenchMatchError: It is not plugged in.
        """
        return located(self._wiring.port(0)).device

    @property
    def path_b(self) -> str:
        """Where the device at end B is now.

        Raises:
            LookupError: There is none, or it is not plugged in.
        """
        return located(self._wiring.port(1)).device

    def unplug(self) -> None:
        """Switch the supply of end A off, or ask the person at the bench, and wait until its device is gone.

        Raises:
            PresenceError: The command failed, or the device stayed.
        """
        if "unplug" not in self._guard.needs.requires:
            pytest.fail(
                f"{self._guard.test} unplugs {self._wiring.name}, which may take other ports with it: "
                "mark the test with @pytest.mark.anyserial(requires=['unplug']), so that all of them are leased",
                pytrace=False,
            )
        self.is_unplugged = True
        port, attendant = self._wiring.port(0), self._attendant
        if attendant is None:
            switch(self._bench, port, "off")
        else:
            attendant.unplug(port)

    def replug(self) -> None:
        """Switch the supply on, or ask the person at the bench, and wait until the device can be opened.

        Raises:
            PresenceError: The command failed, or the device did not come back.
        """
        port, attendant = self._wiring.port(0), self._attendant
        if attendant is None:
            switch(self._bench, port, "on")
        else:
            attendant.replug(port)
        self.is_unplugged = False

    async def settle(self) -> None:
        """Empty the input queues, and make sure that nothing comes; a device under test may say what it likes.

        Raises:
            BenchMatchError: A device is not plugged in.
            NoisyLinkError: Something keeps coming.
            SerialError: An end cannot be opened.
        """
        plugged_in = await devices()
        paths = [resolve(port, plugged_in).device for port in self._wiring.ports]
        if self._wiring.device is not None:
            return
        async with AsyncExitStack() as stack:
            ports: list[SerialPort] = []
            for number, path in enumerate(paths):
                config = self._wiring.config(number, self._guard.needs.config)
                # What is missing is for the test's own ports to say.
                config = config.with_changes(unsupported_policy=UnsupportedPolicy.IGNORE)
                ports.append(await stack.enter_async_context(await open_serial_port(path, config)))
            await _silence(ports)


@contextmanager
def hardware_cable(wiring: HardwareWiring, guard: Guard) -> Generator[HardwareCable]:
    """The link of this wiring for the test that `guard` watches, alone with it, for the length of a `with` block."""
    hardware = wiring.hardware
    bench = hardware.bench
    cable = HardwareCable(wiring, guard)
    unplugs = "unplug" in guard.needs.requires
    with _problems_fail(wiring, (LeaseLostError,)), ExitStack() as stack:
        with _problems_fail(wiring):
            keys = hardware.keys(wiring.link.ends, test=guard.test, neighbours=unplugs)
            lease = leased(keys, test=guard.test, timeout=bench.lease_timeout, folder=bench.lease_dir)
            stack.enter_context(lease)
            try:
                _run_async.call(cable.settle)
            except BenchMatchError:
                for port in wiring.ports:
                    brought(bench, port, test=guard.test, held=unplugs)
                _run_async.call(cable.settle)
            for port in wiring.ports:
                hardware.probed(port.name, held=True)
        yield cable
        if cable.is_unplugged:
            with _problems_fail(wiring):
                cable.replug()


@contextmanager
def _problems_fail(wiring: HardwareWiring, kinds: tuple[type[Exception], ...] = _PROBLEMS) -> Generator[None]:
    try:
        yield
    except kinds as exc:
        text = f'link "{wiring.title}" of {wiring.hardware.file}: {exc}'
        # A report of the cause beside it would say the same twice.
        raise pytest.fail.Exception(plain_lines(text), pytrace=False) from None


async def _silence(ports: list[SerialPort]) -> None:
    slowest = min(port.config.baudrate for port in ports)
    pause = max(_SILENCE, _FRAMES * _BITS_PER_FRAME / slowest)
    came, end = b"", ""
    with anyio.move_on_after(max(_PATIENCE, _WINDOWS * pause)):
        while True:
            for port in ports:
                await port.reset_input_buffer()
            await anyio.sleep(pause)
            noisy = [port for port in ports if port.input_waiting()]
            if not noisy:
                return
            end = "ab"[ports.index(noisy[0])]
            came = await noisy[0].receive()
            pause = max(pause, _CONVINCING)
    shown, rest = cut(came, _SHOWN)
    raise NoisyLinkError(
        f"bytes keep coming to end {end} although no test sends: {count(len(came), 'byte')} within {pause:g} s, "
        f"such as {shown.hex(' ')}{rest and ' ' + rest}. Look for a program, a console or a device that talks here"
    )
