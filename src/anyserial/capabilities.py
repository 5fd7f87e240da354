"""The capabilities of a device, as far as they can be determined without trying an operation."""

from __future__ import annotations

import enum

from anyio import TypedAttributeSet, typed_attribute

from ._dataclass import dataclass
from ._types import PortInfo
from .config import SerialConfig, UnsupportedPolicy

__all__ = ["Capability", "SerialCapabilities", "SerialStreamAttribute", "UnsupportedPolicy"]


class Capability(enum.StrEnum):
    """Whether a device has one capability.

    `SUPPORTED`: the probe at open found the mechanism; the driver may still refuse a value. `UNSUPPORTED`: the
    mechanism does not exist. `UNKNOWN`: only the operation itself will show.
    """

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialCapabilities:
    """A snapshot taken at open; it does not change afterwards and outlives the port.

    `platform` and `backend` are names such as `"linux"`, `"darwin"`, `"windows"` or `"mock"`.
    """

    platform: str
    backend: str
    custom_baudrate: Capability
    mark_space_parity: Capability
    one_point_five_stop_bits: Capability
    xon_xoff: Capability
    rts_cts: Capability
    dtr_dsr: Capability
    modem_lines: Capability
    break_signal: Capability
    exclusive_access: Capability
    low_latency: Capability
    rs485: Capability
    input_waiting: Capability
    output_waiting: Capability
    port_discovery: Capability


class SerialStreamAttribute(TypedAttributeSet):
    """Keys for `port.extra(...)`, next to AnyIO's `FileStreamAttribute.path` and `.fileno`."""

    #: the port's `SerialCapabilities`
    capabilities: SerialCapabilities = typed_attribute()
    #: the `SerialConfig` last applied
    config: SerialConfig = typed_attribute()
    #: the device's `PortInfo`; missing if discovery has none
    port_info: PortInfo = typed_attribute()
