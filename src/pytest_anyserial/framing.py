r"""Framers for `serial_device.serve(handler, framer=...)`: where a request ends.

`serial_device.serve(meter, framer=terminator(b"\r"))`
"""

from __future__ import annotations

from ._device.framing import AnyFramer, Framer, fixed, length, silence, terminator

__all__ = ["AnyFramer", "Framer", "fixed", "length", "silence", "terminator"]
