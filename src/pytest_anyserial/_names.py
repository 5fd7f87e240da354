"""Names of the fixtures, and what each of them asks of a test. This module imports nothing."""

from __future__ import annotations

#: The module that defines the fixtures.
MODULE = f"{__package__}._fixtures"
#: Fixtures that live on the test's event loop.
ASYNC = frozenset({"serial_port", "serial_peer", "serial_pair", "serial_clock", "serial_factory", "serial_bus"})
#: Fixtures that play the device: on the test's event loop, or in a thread for a test that has none.
FAR_ENDS = frozenset({"serial_script", "serial_device"})
#: Fixtures that give device paths.
PATHS = frozenset({"serial_path", "serial_peer_path"})
#: Fixtures that need end B to be a port.
PEERS = frozenset({"serial_peer", "serial_pair", "serial_peer_path", "sync_serial_peer", "serial_factory", *FAR_ENDS})
#: Fixtures of the mock link; a test that uses one runs there, whatever links are selected.
MOCK_ONLY = frozenset({"serial_faults", "serial_clock"})
#: All that a test may ask for.
NAMES = (
    ASYNC
    | FAR_ENDS
    | PATHS
    | MOCK_ONLY
    | {"serial_link", "serial_config", "serial_ports", "serial_transcript", "sync_serial_port", "sync_serial_peer"}
)
#: Where the function that hides a test's coroutine function from other plugins keeps it.
STANDS_FOR = "_anyserial_stands_for"


def on_loop(name: str) -> str:
    """The fixture behind one that plays the device, for tests with an event loop."""
    return f"_{name}_on_loop"
