"""Optional features that are missing: one list of them, how a driver says no, and the policy that decides what then."""

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

#: Set where the work of a call is done in another thread than the caller's: how to warn that caller.
warn_from_elsewhere: Final[ContextVar[Callable[[str], None] | None]] = ContextVar("warn_from_elsewhere", default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Feature:
    """An optional feature: the capability it needs, whether a config asks for it, the config without it."""

    capability: str
    label: str
    wanted: Callable[[SerialConfig], bool]
    without: Callable[[SerialConfig], SerialConfig]


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
        """Whether restoring it would disturb output that has not left."""
        ...

    def apply(self, config: SerialConfig, policy: Policy) -> None:
        """Bring the device to what `config` asks; `OSError` when the driver refuses."""
        ...

    def snapshot(self) -> Callable[[], None]:
        """A callable that brings back the present state."""
        ...

    def restore(self) -> None:
        """Bring back what was found at open."""
        ...


class Policy:
    """The decision for one open or one configure.

    `warn` receives the text for each feature that is left out under `WARN`; it may raise (warnings as errors), which
    then undoes the operation like any other failure.
    """

    def __init__(self, policy: UnsupportedPolicy, path: str, warn: Callable[[str], None]) -> None:
        self._policy = policy
        self._path = path
        self._warn = warn

    def left_out(self, feature: Feature, cause: OSError | None = None) -> None:
        """Raise, warn or log that `feature` is missing; `cause` is the driver's refusal, if there was one.

        A device that has vanished refuses nothing: that error is raised whatever the policy.
        """
        if cause is not None and cause.errno in _GONE:
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
        """Warn, unless the policy is to ignore, that the driver took a feature in a form of its own."""
        _log.debug("%s: %s", self._path, text)
        if self._policy is not UnsupportedPolicy.IGNORE:
            self._warn(f"{self._path}: {text}")

    def settle(self, config: SerialConfig, unsupported: Collection[str]) -> SerialConfig:
        """`config` without the features whose capability is in `unsupported`."""
        for feature in _FEATURES:
            if feature.capability in unsupported and feature.wanted(config):
                self.left_out(feature)
                config = feature.without(config)
        return config


def probe(call: Callable[[], object]) -> Capability:
    """Whether the driver answers `call`, which changes nothing; other errors than "no such call" prove nothing."""
    try:
        call()
    except OSError as exc:
        return Capability.UNSUPPORTED if lacks_call(exc) else Capability.UNKNOWN
    return Capability.SUPPORTED


def lacks_call(exc: OSError) -> bool:
    """Whether the kernel or the driver says that it has no such call."""
    return exc.errno in _NO_SUCH_CALL


def warn_caller(text: str) -> None:
    """A `RuntimeWarning` that points at the first frame outside this package, also from another thread's work."""
    warn = warn_from_elsewhere.get() or warner()
    warn(text)


def warner() -> Callable[[str], None]:
    """A function that warns as from the first frame outside this package that leads here now."""
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
