"""What can go wrong on the bus: no answer, a broken answer, or a device that refuses."""


class ModbusError(Exception):
    """A request did not get its answer."""


class NoReplyError(ModbusError, TimeoutError):
    """The device did not answer in time."""


class BadReplyError(ModbusError):
    """What came is not an answer to the request: wrong checksum, unit, function or length."""


class DeviceError(ModbusError):
    """The device understood the request and refused it; ``code`` is its Modbus exception code."""

    def __init__(self, code: int, request: str) -> None:
        super().__init__(f"{request}: refused by the device with exception code {code}")
        self.code = code


class IllegalFunctionError(DeviceError):
    """Code 1: the device does not have this function."""


class IllegalAddressError(DeviceError):
    """Code 2: the device does not have these registers."""


class IllegalValueError(DeviceError):
    """Code 3: the device does not accept this value."""


class DeviceBusyError(DeviceError):
    """Code 6: the device has no time now; ask again later."""


_BY_CODE: dict[int, type[DeviceError]] = {
    1: IllegalFunctionError,
    2: IllegalAddressError,
    3: IllegalValueError,
    6: DeviceBusyError,
}


def refusal(code: int, request: str) -> DeviceError:
    """Return the exception that stands for a Modbus exception code."""
    return _BY_CODE.get(code, DeviceError)(code, request)
