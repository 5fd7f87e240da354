"""What type checkers make of configs, values and errors; never run. Each ignored error must be one."""

from typing import assert_type

import anyio

from anyserial import (
    ByteSize,
    BytesLike,
    Capability,
    ConfigurationError,
    ControlLines,
    DiscoveryBackend,
    FlowControl,
    Parity,
    PortBusyError,
    PortInfo,
    PortPermissionError,
    RS485Config,
    SerialCapabilities,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    StopBits,
    UnsupportedPolicy,
    UnsupportedSettingError,
)
from anyserial.exceptions import errno_to_exception


class MeterConfig(SerialConfig):
    """A subclass keeps its type through `with_changes`."""


def fields(config: SerialConfig) -> None:
    assert_type(config.baudrate, int)
    assert_type(config.byte_size, ByteSize)
    assert_type(config.parity, Parity)
    assert_type(config.stop_bits, StopBits)
    assert_type(config.flow_control, FlowControl)
    assert_type(config.rs485, RS485Config | None)
    assert_type(config.unsupported_policy, UnsupportedPolicy)
    assert_type(config.dtr_on_open, bool | None)
    assert_type(config.with_changes(baudrate=9600), SerialConfig)
    assert_type(MeterConfig().with_changes(baudrate=9600), MeterConfig)
    assert_type(FlowControl.none(), FlowControl)
    assert_type(hash(config), int)

    config.baudrate = 9600  # type: ignore[misc]
    SerialConfig(9600)  # type: ignore[call-arg]
    SerialConfig(baud=9600)  # type: ignore[call-arg]
    SerialConfig(timeout=1.0)  # type: ignore[call-arg]


def members_are_strings(parity: Parity, capability: Capability) -> None:
    assert_type(parity.encode(), bytes)
    assert_type(parity is Parity.EVEN, bool)
    if capability is Capability.SUPPORTED:
        return
    if capability is Capability.UNSUPPORTED:
        return
    assert_type(capability is Capability.UNKNOWN, bool)


def values(info: PortInfo, capabilities: SerialCapabilities) -> None:
    assert_type(info.device, str)
    assert_type(info.vid, int | None)
    assert_type(info.serial_number, str | None)
    assert_type(capabilities.platform, str)
    assert_type(capabilities.rs485, Capability)
    ControlLines(rts=True, dtr=False)

    ControlLines(rts=True)  # type: ignore[call-arg]
    info.vid = 1  # type: ignore[misc]


def aliases(data: BytesLike) -> None:
    assert_type(memoryview(data).nbytes, int)
    backend: DiscoveryBackend = "native"
    assert_type(len(backend), int)


def errors(error: SerialError, exc: OSError) -> None:
    assert_type(errno_to_exception(exc, context="io"), SerialError)
    assert_type(errno_to_exception(exc, context="open", path="/dev/ttyUSB0"), SerialError)
    assert_type(error.errno, int | None)
    builtin: OSError = error
    wrong_value: ValueError = ConfigurationError("no")
    denied: PermissionError = PortPermissionError(13, "no")
    busy: PortBusyError = PortPermissionError(13, "no")
    closed: anyio.ClosedResourceError = SerialClosedError(9, "no")
    broken: anyio.BrokenResourceError = SerialDisconnectedError(5, "no")
    missing: NotImplementedError = UnsupportedSettingError(22, "no")
    raise ExceptionGroup("all", [builtin, wrong_value, denied, busy, closed, broken, missing])


def contexts_are_words(exc: OSError) -> None:
    errno_to_exception(exc, context="nonsense")  # type: ignore[arg-type]
    errno_to_exception(exc, "io")  # type: ignore[call-arg]
