"""For tests of code that talks to a serial port: connected ports without hardware, and the conformance suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._backends.meter import PortListener
from ._backends.mock.backend import MockBackend, faults_of_backend
from ._backends.mock.clock import Clock
from ._backends.mock.fault_events import FaultAction, FaultEvent, FiredFault
from ._backends.mock.fault_plan import FaultPlan
from ._discovery.published import published_ports
from ._platform import PtyPair, pty_pair
from ._port.mock_bus import MockBus, mock_bus
from ._port.mock_pair import MockPair, mock_pair
from ._port.opening import OpenedPort, opened_ports, watch_ports
from .config import SerialConfig
from .stream import SerialPort

if TYPE_CHECKING:
    from . import sync
    from ._conformance import check_port_pair

__all__ = [
    "FaultAction",
    "FaultEvent",
    "FaultPlan",
    "FiredFault",
    "MockBackend",
    "MockBus",
    "MockPair",
    "OpenedPort",
    "PortListener",
    "PtyPair",
    "check_port_pair",
    "faults_of",
    "mock_bus",
    "mock_pair",
    "opened_ports",
    "pty_pair",
    "published_ports",
    "serial_port_pair",
    "watch_ports",
]


def __getattr__(name: str) -> Any:
    if name == "check_port_pair":
        # Imported late, because most programs that use a mock do not run the conformance suite.
        from ._conformance import check_port_pair

        return check_port_pair
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def serial_port_pair(
    *,
    config_a: SerialConfig | None = None,
    config_b: SerialConfig | None = None,
    path_a: str = "/dev/mockA",
    path_b: str = "/dev/mockB",
    paced: bool = False,
    clock: Clock | None = None,
) -> tuple[SerialPort, SerialPort]:
    """Return two open ports joined by an in-memory null-modem cable.

    This is a plain function: it needs no event loop, and each port belongs to the loop it is first used on. `faults_of`
    returns the faults of a port.
    """
    backends = MockBackend.pair(path_a=path_a, path_b=path_b, paced=paced, clock=clock)
    ports: list[SerialPort] = []
    for backend, given in zip(backends, (config_a, config_b), strict=True):
        config = SerialConfig() if given is None else given
        backend.open(backend.path, config)
        ports.append(SerialPort(backend, config))
    return ports[0], ports[1]


def faults_of(port: SerialPort | sync.SerialPort) -> FaultPlan:
    """Return the fault plan of a mock port. Changes of the plan take effect at once.

    Raises:
        TypeError: `port` is not a port, or its backend is not a mock.
    """
    inner: object = port
    if not isinstance(port, SerialPort):
        # Imported late, so that a program without blocking ports does not load them.
        from . import sync

        inner = port._port if isinstance(port, sync.SerialPort) else port
    if not isinstance(inner, SerialPort):
        raise TypeError(f"faults_of takes a port, not {type(port).__name__}")
    faults = faults_of_backend(inner._core.backend)
    if faults is None:
        raise TypeError(f"{inner.path} is no mock port: only mock ports have faults")
    return faults
