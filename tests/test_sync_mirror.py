"""The blocking port has the methods of the async port, by reflection: a new one that is not mirrored fails here."""

from __future__ import annotations

import inspect
from inspect import Parameter
from typing import Any

import pytest

import anyserial.stream
import anyserial.sync

ASYNC, SYNC = anyserial.stream.SerialPort, anyserial.sync.SerialPort
TIMEOUT = Parameter("timeout", Parameter.KEYWORD_ONLY, default=None, annotation="float | None")
# A blocking function cannot be called as an async one, so it does not have its name either.
RENAMED = {"aclose": "close"}


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def plain(function: Any) -> Any:
    """The function itself, for a method of any kind."""
    return getattr(function, "__func__", function)


METHODS = sorted(name for name in public(ASYNC) if callable(getattr(ASYNC, name)))
COROUTINES = [name for name in METHODS if inspect.iscoroutinefunction(plain(getattr(ASYNC, name)))]
FUNCTIONS = [name for name in METHODS if name not in COROUTINES]
PROPERTIES = sorted(public(ASYNC) - set(METHODS))


def parameters(cls: type, name: str) -> list[Parameter]:
    return list(inspect.signature(plain(getattr(cls, name))).parameters.values())


def with_timeout(given: list[Parameter]) -> list[Parameter]:
    """The same, and `timeout` behind the other keywords."""
    rest = [one for one in given if one.kind is Parameter.VAR_KEYWORD]
    return [*(one for one in given if one not in rest), TIMEOUT, *rest]


def test_the_public_names_are_the_same() -> None:
    """L-142: every name of the async class, `close` for `aclose`, and no other."""
    assert public(SYNC) == {RENAMED.get(name, name) for name in public(ASYNC)}


def test_the_lists_of_methods_are_not_empty() -> None:
    """L-142: the lists behind these tests are not empty by mistake."""
    assert {"receive", "send_eof", "drain_exact", "open", "aclose"} <= set(COROUTINES)
    assert {"input_waiting", "output_waiting", "stats", "extra"} == set(FUNCTIONS)
    assert {"path", "is_open", "config", "extra_attributes"} <= set(PROPERTIES)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_stays_a_property(name: str) -> None:
    """L-142: of the same type, and read-only."""
    mirror, original = inspect.getattr_static(SYNC, name), inspect.getattr_static(ASYNC, name)
    assert isinstance(mirror, property)
    assert mirror.fset is None
    assert mirror.fget is not None
    assert inspect.signature(mirror.fget) == inspect.signature(original.fget)


@pytest.mark.parametrize("name", COROUTINES)
def test_a_coroutine_becomes_a_function_with_a_timeout(name: str) -> None:
    """L-142, E26: same parameters in the same order with the same defaults, then keyword-only `timeout=None`."""
    mirror = getattr(SYNC, RENAMED.get(name, name))
    assert not inspect.iscoroutinefunction(plain(mirror))
    assert inspect.ismethod(mirror) is inspect.ismethod(getattr(ASYNC, name))
    assert parameters(SYNC, RENAMED.get(name, name)) == with_timeout(parameters(ASYNC, name))


@pytest.mark.parametrize("name", COROUTINES)
def test_a_function_returns_what_the_coroutine_returns(name: str) -> None:
    """L-142: what the coroutine returns when awaited."""
    original, mirror = getattr(ASYNC, name), getattr(SYNC, RENAMED.get(name, name))
    assert inspect.signature(plain(mirror)).return_annotation == inspect.signature(plain(original)).return_annotation


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_plain_function_gets_no_timeout(name: str) -> None:
    """L-142: nothing waits in it. The default of `extra` is AnyIO's own mark for "none given"."""
    mirror, original = parameters(SYNC, name), parameters(ASYNC, name)
    assert [(one.name, one.kind) for one in mirror] == [(one.name, one.kind) for one in original]
    assert [one.default is Parameter.empty for one in mirror] == [one.default is Parameter.empty for one in original]


def test_async_with_becomes_with() -> None:
    """L-142: and binds the port itself."""
    assert hasattr(ASYNC, "__aenter__")
    assert hasattr(SYNC, "__enter__")
    assert not hasattr(SYNC, "__aenter__")


def test_opening_functions_are_mirrored() -> None:
    """L-142: the module's function and connectable too."""
    modules = anyserial.stream, anyserial.sync
    original, mirror = (list(inspect.signature(module.open_serial_port).parameters.values()) for module in modules)
    assert mirror == with_timeout(original)
    original, mirror = (parameters(module.SerialConnectable, "connect") for module in modules)
    assert mirror == with_timeout(original)
    original, mirror = (parameters(module.SerialConnectable, "__init__") for module in modules)
    assert mirror == original
    assert public(anyserial.sync.SerialConnectable) == public(anyserial.stream.SerialConnectable)


def test_a_config_has_no_timeout() -> None:
    """L-19, E28: a timeout belongs to a call."""
    assert not any("timeout" in name for name in public(anyserial.SerialConfig))
