"""One registry of the objects that a forked child must forget, because they belong to the process that made them.

A child has copies of the parent's descriptors, but shares the objects behind them: the open device with its lock and
its queues, an epoll set, a pseudo-terminal's controller. The parent's other threads do not exist in the child, and
locks that they held stay locked. Therefore each object closes its copy with a bare `close(2)`, takes fresh locks, and
is closed for its users.
Nothing is flushed, unlocked, restored, woken or waited for.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Final, Protocol, TypeVar


class Inherited(Protocol):
    """An object that a child gets a copy of and must not use."""

    def _forget(self) -> None:
        """In the child: release the copy. Called while no other thread runs; waits for nothing."""
        ...


_InheritedT = TypeVar("_InheritedT", bound=Inherited)

_objects: Final[weakref.WeakSet[Inherited]] = weakref.WeakSet()


def forgotten_in_child(thing: _InheritedT) -> _InheritedT:
    """Have `thing._forget()` called in every child that this process forks while `thing` lives; returns `thing`."""
    _objects.add(thing)
    return thing


def in_forked_child(callback: Callable[[], object]) -> None:
    """Call `callback` in every child that this process forks, where the OS can fork; for the state of a module."""
    at_fork: Callable[..., None] | None = getattr(os, "register_at_fork", None)
    if at_fork is not None:
        at_fork(after_in_child=callback)


def _forget_all() -> None:
    for thing in list(_objects):
        thing._forget()


in_forked_child(_forget_all)
