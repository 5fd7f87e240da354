"""Buffers as flat views of bytes."""

from __future__ import annotations

import abc
import sys
from typing import TYPE_CHECKING, TypeAlias

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
elif TYPE_CHECKING:
    # Type checkers bundle the stubs of typing_extensions.
    from typing_extensions import Buffer
else:
    try:
        # AnyIO depends on typing_extensions, but accepts version 4.5, which has no Buffer yet.
        from typing_extensions import Buffer
    except ImportError:

        class Buffer(abc.ABC):  # noqa: B024 - a register of types, as in collections.abc
            """Types with the buffer protocol, as far as Python code can recognise them before 3.12."""

        for _kind in (bytes, bytearray, memoryview):
            Buffer.register(_kind)

BytesLike: TypeAlias = Buffer


def require_positive(name: str, value: int) -> None:
    """Refuse a limit that is not positive.

    Raises:
        ValueError: `value` is zero or negative.
    """
    if value <= 0:
        raise ValueError(f"{name} must be positive, not {value}")


def readable_bytes(data: BytesLike) -> memoryview:
    """Return the raw bytes of `data`; they are copied only if they are not contiguous."""
    view = memoryview(data)
    if view.c_contiguous:
        # A view with an empty dimension cannot be cast.
        return view.cast("B") if view.nbytes else memoryview(b"")
    return memoryview(view.tobytes())


def writable_bytes(buffer: bytearray | memoryview) -> memoryview:
    """Return a view of the caller's buffer, to be filled from its start.

    Raises:
        TypeError: `buffer` is read-only or not contiguous.
        ValueError: `buffer` is empty.
    """
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError(f"buffer must be writable, not a read-only {type(buffer).__name__}")
    if view.nbytes == 0:
        raise ValueError("buffer must be non-empty")
    if not view.c_contiguous:
        raise TypeError("buffer must be contiguous")
    return view.cast("B")
