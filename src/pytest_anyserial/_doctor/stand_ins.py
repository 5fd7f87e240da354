"""A table of what each stand-in for a device can show, for choosing a link."""

from __future__ import annotations

from typing import Final

#: The stand-ins, from the fastest to the real hardware.
STAND_INS: Final = ("mock", "replay", "pty", "virtual bench", "remote", "real bench")
#: Subjects of tests, and for each stand-in whether it can show them; empty if it cannot.
SHOWN: Final[dict[str, tuple[str, str, str, str, str, str]]] = {
    "the driver asks the right things in the right order": ("yes", "as recorded", "yes", "yes", "yes", "yes"),
    "answers in pieces, late, damaged, never": (
        "exactly",
        "as recorded",
        "pieces, late",
        "yes",
        "as it happens",
        "as it happens",
    ),
    "a device that vanishes in mid-transfer": (
        "at the byte",
        "as recorded",
        "hang-up",
        "driver's own way",
        "lost connection",
        "yes",
    ),
    "a call cancelled at the worst moment": ("yes", "", "yes", "yes", "yes", "yes"),
    "code that opens a path with anyserial": ("yes", "yes", "yes", "yes", "its address", "yes"),
    "code that opens a path, on any library": ("", "", "yes", "yes", "", "yes"),
    "a driver that looks for its port": ("serial_ports", "serial_ports", "serial_ports", "yes", "", "yes"),
    "several ports on one line (RS-485)": ("serial_bus", "", "", "two ends", "", "serial_bus"),
    "the kernel's tty layer, its limits and queues": ("", "", "yes", "yes", "", "yes"),
    "control and modem lines, break, error counters": ("simulated", "as recorded", "", "yes", "RFC 2217", "yes"),
    "what a kernel driver refuses, rounds or ignores": ("", "as recorded", "", "yes", "", "yes"),
    "parity and rate: both ends must agree": ("", "", "", "emulated", "yes", "yes"),
    "flow control that stops the sender": ("", "", "", "emulated", "yes", "yes"),
    "timeouts and retries in virtual time": ("yes", "", "", "", "", ""),
    "the chip, the cable, the levels, the time it takes": ("", "", "", "", "but the time", "yes"),
    "runs in": ("1 ms", "1 ms", "1 ms", "a minute", "your lab", "your lab"),
    "the same every time": ("yes", "yes", "nearly", "nearly", "no", "no"),
}
