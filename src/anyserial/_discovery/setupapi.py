"""The devices of the class "COM port", from SetupAPI. The only module that loads `setupapi`."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import sys
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

assert sys.platform == "win32" or not TYPE_CHECKING

_GUID_DEVINTERFACE_COMPORT: Final = uuid.UUID("86E0D1E0-8089-11D0-9CE4-08003E301F73")
_DIGCF_PRESENT: Final = 0x02
_DIGCF_DEVICEINTERFACE: Final = 0x10

_SPDRP_MFG: Final = 0x0B
_SPDRP_FRIENDLYNAME: Final = 0x0C
_SPDRP_LOCATION_INFORMATION: Final = 0x0D

_DICS_FLAG_GLOBAL: Final = 1
_DIREG_DEV: Final = 1
_KEY_READ: Final = 0x20019

_CR_SUCCESS: Final = 0
_ERROR_NO_MORE_ITEMS: Final = 259
_INVALID: Final = (1 << 8 * ctypes.sizeof(ctypes.c_void_p)) - 1

_DWORD: Final = ctypes.c_uint32
_POINTER: Final = ctypes.c_void_p

#: Characters; a device instance id has at most 200.
_ROOM: Final = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One device as SetupAPI describes it; an empty text means that the property is missing.

    Attributes:
        instance_id: The device instance id.
        parent_id: The instance id of the parent device.
        port_name: `PortName` in the device's registry key.
        friendly_name: The name that the device manager shows.
        manufacturer: The manufacturer's name in the driver's description.
        location: The text that describes the location of the device.
    """

    instance_id: str
    parent_id: str = ""
    port_name: str = ""
    friendly_name: str = ""
    manufacturer: str = ""
    location: str = ""


class _DeviceInfo(ctypes.Structure):
    """SP_DEVINFO_DATA."""

    _fields_: ClassVar[Any] = [
        ("cbSize", _DWORD),
        ("ClassGuid", ctypes.c_byte * 16),
        ("DevInst", _DWORD),
        ("Reserved", ctypes.c_size_t),
    ]


def records() -> Iterator[Record]:
    """Yield each device that is present."""
    setupapi, cfgmgr = _libraries()
    guid = (ctypes.c_byte * 16).from_buffer_copy(_GUID_DEVINTERFACE_COMPORT.bytes_le)
    devices = setupapi.SetupDiGetClassDevsW(ctypes.byref(guid), None, None, _DIGCF_PRESENT | _DIGCF_DEVICEINTERFACE)
    if devices is None or devices == _INVALID:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        index = 0
        info = _DeviceInfo()
        info.cbSize = ctypes.sizeof(info)
        while True:
            if not setupapi.SetupDiEnumDeviceInfo(devices, index, ctypes.byref(info)):
                break
            index += 1
            yield Record(
                instance_id=_device_id(cfgmgr, info.DevInst),
                parent_id=_parent_id(cfgmgr, info.DevInst),
                port_name=_port_name(setupapi, devices, info),
                friendly_name=_property(setupapi, devices, info, _SPDRP_FRIENDLYNAME),
                manufacturer=_property(setupapi, devices, info, _SPDRP_MFG),
                location=_property(setupapi, devices, info, _SPDRP_LOCATION_INFORMATION),
            )
        code = ctypes.get_last_error()
        if code != _ERROR_NO_MORE_ITEMS:
            raise ctypes.WinError(code)
    finally:
        setupapi.SetupDiDestroyDeviceInfoList(devices)


def _device_id(cfgmgr: Any, device: int) -> str:
    text = ctypes.create_unicode_buffer(_ROOM)
    return text.value if cfgmgr.CM_Get_Device_IDW(device, text, _ROOM, 0) == _CR_SUCCESS else ""


def _parent_id(cfgmgr: Any, device: int) -> str:
    parent = _DWORD()
    if cfgmgr.CM_Get_Parent(ctypes.byref(parent), device, 0) != _CR_SUCCESS:
        return ""
    return _device_id(cfgmgr, parent.value)


def _property(setupapi: Any, devices: int, info: _DeviceInfo, which: int) -> str:
    text = ctypes.create_unicode_buffer(_ROOM)
    found = setupapi.SetupDiGetDeviceRegistryPropertyW(
        devices, ctypes.byref(info), which, None, text, ctypes.sizeof(text), None
    )
    return text.value if found else ""


def _port_name(setupapi: Any, devices: int, info: _DeviceInfo) -> str:
    key = setupapi.SetupDiOpenDevRegKey(devices, ctypes.byref(info), _DICS_FLAG_GLOBAL, 0, _DIREG_DEV, _KEY_READ)
    if key is None or key == _INVALID:
        return ""
    # Windows only.
    winreg: Any = importlib.import_module("winreg")
    try:
        with contextlib.suppress(OSError):
            return str(winreg.QueryValueEx(key, "PortName")[0])
        return ""
    finally:
        winreg.CloseKey(key)


def _libraries() -> tuple[Any, Any]:
    setupapi = ctypes.WinDLL("setupapi", use_last_error=True)
    cfgmgr = ctypes.WinDLL("cfgmgr32")
    setupapi.SetupDiGetClassDevsW.restype = _POINTER
    setupapi.SetupDiGetClassDevsW.argtypes = (_POINTER, ctypes.c_wchar_p, _POINTER, _DWORD)
    setupapi.SetupDiEnumDeviceInfo.argtypes = (_POINTER, _DWORD, _POINTER)
    setupapi.SetupDiDestroyDeviceInfoList.argtypes = (_POINTER,)
    setupapi.SetupDiGetDeviceRegistryPropertyW.argtypes = (
        *(_POINTER, _POINTER, _DWORD),
        *(_POINTER, _POINTER, _DWORD, _POINTER),
    )
    setupapi.SetupDiOpenDevRegKey.restype = _POINTER
    setupapi.SetupDiOpenDevRegKey.argtypes = (_POINTER, _POINTER, _DWORD, _DWORD, _DWORD, _DWORD)
    cfgmgr.CM_Get_Device_IDW.argtypes = (_DWORD, ctypes.c_wchar_p, _DWORD, _DWORD)
    cfgmgr.CM_Get_Parent.argtypes = (_POINTER, _DWORD, _DWORD)
    return setupapi, cfgmgr
