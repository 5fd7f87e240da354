"""Missing optional features: the list of features, the errors by which a driver refuses, and the policy."""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import sys
import warnings
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import Final, Protocol

from ..capabilities import Capability, UnsupportedPolicy
from ..config import Parity, SerialConfig, StopBits
from ..exceptions import UnsupportedFeatureError

_log = logging.getLogger("anyserial.config")

_NO_SUCH_CALL: Final = frozenset({errno.ENOTTY, errno.EINVAL})
_GONE: Final = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV})

#: Set if another thread than the caller's does the work of a call: the function that warns the caller.
warn_from_elsewhere: Final[ContextVar[Callable[[str], None] | None]] = ContextVar("warn_from_elsewhere", default=None)


class Feature:
    """An optional feature: the capability it needs, whether a config wants it, and the config without it."""

    __slots__ = ("capability", "label", "wanted", "without")

    def __init__(
        self,
        capability: str,
        label: str,
        wanted: Callable[[SerialConfig], bool],
        without: Callable[[SerialConfig], SerialConfig],
    ) -> None:
        self.capability = capability
        self.label = label
        self.wanted = wanted
        self.without = without


RS485: Final = Feature(
    "rs485", "RS-485", lambda config: config.rs485 is not None, lambda config: config.with_changes(rs485=None)
)
LOW_LATENCY: Final = Feature(
    "low_latency",
    "low latency",
    lambda config: config.low_latency,
    lambda config: config.with_changes(low_latency=False),
)
DTR_DSR: Final = Feature(
    "dtr_dsr",
    "DTR/DSR flow control",
    lambda config: config.flow_control.dtr_dsr,
    lambda config: config.with_changes(flow_control=dataclasses.replace(config.flow_control, dtr_dsr=False)),
)
MARK_SPACE: Final = Feature(
    "mark_space_parity",
    "mark/space parity",
    lambda config: config.parity in (Parity.MARK, Parity.SPACE),
    lambda config: config.with_changes(parity=Parity.NONE),
)
ONE_POINT_FIVE: Final = Feature(
    "one_point_five_stop_bits",
    "1.5 stop bits",
    lambda config: config.stop_bits is StopBits.ONE_POINT_FIVE,
    lambda config: config.with_changes(stop_bits=StopBits.ONE),
)
CONTROL_LINES: Final = Feature(
    "modem_lines",
    "setting DTR or RTS at open",
    lambda config: config.dtr_on_open is not None or config.rts_on_open is not None,
    lambda config: config.with_changes(dtr_on_open=None, rts_on_open=None),
)

#: The order in which missing features are reported.
_FEATURES: Final = (RS485, LOW_LATENCY, DTR_DSR, MARK_SPACE, ONE_POINT_FIVE, CONTROL_LINES)


class DeviceFeature(Protocol):
    """An optional feature of one open device, such as RS-485."""

    @property
    def feature(self) -> Feature:
        """The name of the feature in the policy."""
        ...

    @property
    def restore_after_output(self) -> bool:
        """Whether restoring it would disturb output that is not yet sent."""
        ...

    def apply(self, config: SerialConfig, policy: Policy) -> None:
        """Set the device as `config` says; `OSError` if the driver refuses."""
        ...

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state."""
        ...

    def restore(self) -> None:
        """Restore the state found at open."""
        ...


class Policy:
    """The decision for one open or one configure.

    `warn` receives the text for each feature that is left out under `WARN`. It may raise (warnings as errors); then the
    operation is undone as after any other failure.
    """

    def __init__(self, policy: UnsupportedPolicy, path: str, warn: Callable[[str], None]) -> None:
        self._policy = policy
        self._path = path
        self._warn = warn

    def left_out(self, feature: Feature, cause: OSError | None = None, *, has_vanished: bool = False) -> None:
        """Raise, warn or log that `feature` is missing; `cause` is the driver's refusal, if there was one.

        The error of a device that has vanished is not a refusal, so it is raised under every policy.
        """
        if cause is not None and (has_vanished or cause.errno in _GONE):
            raise cause
        reason = "is not supported by this device" if cause is None else f"was refused: {cause.strerror}"
        text = f"{feature.label} {reason}"
        if self._policy is UnsupportedPolicy.RAISE:
            advice = "set unsupported_policy to WARN or IGNORE to go on without it"
            code = None if cause is None else cause.errno
            raise UnsupportedFeatureError(code, f"{text} ({advice})", self._path) from cause
        _log.debug("%s: going on without %s: it %s", self._path, feature.label, reason)
        if self._policy is UnsupportedPolicy.WARN:
            self._warn(f"{self._path}: {text}; going on without it")

    def adjusted(self, text: str) -> None:
        """Warn, unless the policy is to ignore, that the driver applied a feature with other values."""
        _log.debug("%s: %s", self._path, text)
        if self._policy is not UnsupportedPolicy.IGNORE:
            self._warn(f"{self._path}: {text}")

    def settle(self, config: SerialConfig, unsupported: Collection[str]) -> SerialConfig:
        """Return `config` without the features whose capability is in `unsupported`, each as the policy says."""
        for feature in _FEATURES:
            if feature.capability in unsupported and feature.wanted(config):
                self.left_out(feature)
                config = feature.without(config)
        return config


def probe(call: Callable[[], object]) -> Capability:
    """Whether the driver supports `call`, which changes nothing. Errors other than "no such call" give UNKNOWN."""
    try:
        call()
    except OSError as exc:
        return Capability.UNSUPPORTED if lacks_call(exc) else Capability.UNKNOWN
    return Capability.SUPPORTED


def lacks_call(exc: OSError) -> bool:
    """Whether an error means that the kernel or the driver has no such call."""
    return exc.errno in _NO_SUCH_CALL


def warn_caller(text: str) -> None:
    """Give a `RuntimeWarning` at the first frame outside this package, even if another thread does the work."""
    warn = warn_from_elsewhere.get() or warner()
    warn(text)


def warner() -> Callable[[str], None]:
    """Return a function that warns at the first frame outside this package in the present call stack."""
    package = __name__.partition(".")[0] + "."
    frame = sys._getframe(0)
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(package):
        frame = frame.f_back
    return functools.partial(
        warnings.warn_explicit,
        category=RuntimeWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
