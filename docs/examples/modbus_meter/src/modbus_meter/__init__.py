"""An energy meter on Modbus RTU."""

from modbus_meter.client import ModbusClient
from modbus_meter.errors import (
    BadReplyError,
    DeviceBusyError,
    DeviceError,
    IllegalAddressError,
    IllegalFunctionError,
    IllegalValueError,
    ModbusError,
    NoReplyError,
)
from modbus_meter.meter import Meter

__all__ = [
    "BadReplyError",
    "DeviceBusyError",
    "DeviceError",
    "IllegalAddressError",
    "IllegalFunctionError",
    "IllegalValueError",
    "Meter",
    "ModbusClient",
    "ModbusError",
    "NoReplyError",
]
