"""Serial ports for Python's async world: one API on asyncio, uvloop and trio."""

from __future__ import annotations

import logging
from importlib.metadata import version

from ._buffers import BytesLike
from ._values import CommEvent, ControlLines, LineErrors, ModemLines, PortInfo, SerialStats
from .capabilities import Capability, SerialCapabilities, SerialStreamAttribute, UnsupportedPolicy
from .config import ByteSize, FlowControl, Parity, RS485Config, SerialConfig, StopBits
from .discovery import DiscoveryBackend, find_serial_port, list_serial_ports
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
from .stream import SerialConnectable, SerialPort, open_serial_port

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
    "find_serial_port",
    "list_serial_ports",
    "open_serial_port",
]

__version__ = version("anyserial")

logging.getLogger(__name__).addHandler(logging.NullHandler())
