"""The description of a port; common to all enumerators."""

from __future__ import annotations

from .._types import PortInfo


def port_info(
    device: str,
    name: str,
    *,
    vid: int | None = None,
    pid: int | None = None,
    serial_number: str | None = None,
    manufacturer: str | None = None,
    product: str | None = None,
    location: str | None = None,
    interface: str | None = None,
    interface_number: int | None = None,
) -> PortInfo:
    """Return the description of a port. If `vid` or `pid` is missing, both and the `hwid` are `None`."""
    hwid = None
    if vid is None or pid is None:
        vid = pid = None
    else:
        hwid = f"USB VID:PID={vid:04X}:{pid:04X}"
        if serial_number is not None:
            hwid += f" SER={serial_number}"
        if location is not None:
            hwid += f" LOCATION={location}"
    return PortInfo(
        device=device,
        name=name,
        description=product,
        hwid=hwid,
        vid=vid,
        pid=pid,
        serial_number=serial_number,
        manufacturer=manufacturer,
        product=product,
        location=location,
        interface=interface,
        interface_number=interface_number,
    )


def number(text: str | None, base: int) -> int | None:
    """Return the number in an attribute's text; `None` if it is missing or not a number."""
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None
