"""Serial ports for Python's async world: one API on asyncio, uvloop and trio."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ._buffers import BytesLike
from ._types import CommEvent, ControlLines, LineErrors, ModemLines, PortInfo, SerialStats
from .capabilities import Capability, SerialCapabilities, SerialStreamAttribute, UnsupportedPolicy
from .config import ByteSize, FlowControl, Parity, RS485Config, SerialConfig, StopBits
from .discovery import DiscoveryBackend, canonical_port_name, find_serial_port, list_serial_ports
from .exceptions import (
    ConfigurationError,
    PortBusyError,
    PortNotFoundError,
    PortPermissionError,
    SerialClosedError,
    SerialDisconnectedError,
    SerialError,
    UnsupportedAsyncBackendError,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
    UnsupportedPlatformError,
    UnsupportedSettingError,
)
from .stream import SerialConnectable, SerialPort, open_serial_port, register_scheme

__all__ = [
    "ByteSize",
    "BytesLike",
    "Capability",
    "CommEvent",
    "ConfigurationError",
    "ControlLines",
    "DiscoveryBackend",
    "FlowControl",
    "LineErrors",
    "ModemLines",
    "Parity",
    "PortBusyError",
    "PortInfo",
    "PortNotFoundError",
    "PortPermissionError",
    "RS485Config",
    "SerialCapabilities",
    "SerialClosedError",
    "SerialConfig",
    "SerialConnectable",
    "SerialDisconnectedError",
    "SerialError",
    "SerialPort",
    "SerialStats",
    "SerialStreamAttribute",
    "StopBits",
    "UnsupportedAsyncBackendError",
    "UnsupportedConfigurationError",
    "UnsupportedFeatureError",
    "UnsupportedPlatformError",
    "UnsupportedPolicy",
    "UnsupportedSettingError",
    "__version__",
    "canonical_port_name",
    "find_serial_port",
    "list_serial_ports",
    "open_serial_port",
    "register_scheme",
]

#: The name of the distribution, because another project publishes a distribution called `anyserial`.
__distribution__ = "pytest-anyserial"

logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Imported late, because reading the metadata takes longer than most of the imports above.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(__distribution__)
        except PackageNotFoundError:
            # A frozen application, or one with a copy of the sources, has no metadata.
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
