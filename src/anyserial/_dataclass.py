"""Frozen dataclasses with slots whose methods are compiled when they are first looked up.

To compile the methods of the dataclasses that users see took half of the time of `import anyserial`, and a program
needs few of them. In all other respects `dataclass` is that of the standard library with `frozen` and `slots`.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # what type checkers know
else:

    def dataclass(*, frozen, slots, kw_only=False, repr=True):  # noqa: A002  as the standard library calls it
        """Make a class a dataclass; `frozen` and `slots` have to be true."""
        assert frozen
        assert slots

        def decorate(cls):
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
            # Dataclasses that derive from it look at this.
            cls.__dataclass_params__.frozen = True
            for name in _COMPILED:
                if repr or name != "__repr__":
                    setattr(cls, name, _Method(cls, name))
            for name, method in _SHARED.items():
                setattr(cls, name, method)
            return cls

        return decorate


class _Method:
    """Stands for a method, and compiles it when it is first looked up."""

    def __init__(self, cls: type[Any], name: str) -> None:
        self._cls = cls
        self._name = name

    def __get__(self, instance: object, owner: object = None) -> Any:
        cls, name = self._cls, self._name
        method = vars(_compiled(cls, name))[name]
        # Not if another thread was faster, or a test replaced it meanwhile.
        if vars(cls).get(name) is self:
            setattr(cls, name, method)
        return method if instance is None else method.__get__(instance)


def _compiled(cls: type[Any], method: str) -> type[Any]:
    """Return a class that has this method of `cls`; it works on any object with these attributes."""
    fields = dataclasses.fields(cls)
    # The module is where the names in annotations are looked up.
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    options: dict[str, Any] = {"module": cls.__module__} if sys.version_info >= (3, 12) else {}
    if hasattr(cls, "__post_init__"):
        namespace["__post_init__"] = cls.__post_init__
    return dataclasses.make_dataclass(
        cls.__name__,
        [(field.name, field.type, field) for field in fields],
        namespace=namespace,
        frozen=True,
        init=method == "__init__",
        repr=method == "__repr__",
        eq=method in ("__eq__", "__hash__"),
        **options,
    )


def _set(self: Any, name: str, value: object) -> None:
    if name in self.__dataclass_fields__ or not hasattr(self, "__dict__"):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    # An attribute that a derived class has added.
    object.__setattr__(self, name, value)


def _delete(self: Any, name: str) -> None:
    if name in self.__dataclass_fields__ or not hasattr(self, "__dict__"):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_COMPILED: Final = ("__init__", "__repr__", "__eq__", "__hash__")
_SHARED: Final = {
    "__setattr__": _set, "__delattr__": _delete, "__getstate__": _state, "__setstate__": _set_state,
}  # fmt: skip
