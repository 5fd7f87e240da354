"""Every Win32 call that a COM port needs, and the structures it takes. The only module that loads `kernel32`.

A call that fails raises `OSError` with `winerror` set. The structures and numbers can be used on every system; the
functions are loaded when the first one is called.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

assert sys.platform == "win32" or not TYPE_CHECKING

from ...exceptions import UnsupportedPlatformError

DWORD: Final = ctypes.c_uint32
WORD: Final = ctypes.c_uint16
BYTE: Final = ctypes.c_uint8
BOOL: Final = ctypes.c_int32
HANDLE: Final = ctypes.c_void_p

GENERIC_READ: Final = 0x80000000
GENERIC_WRITE: Final = 0x40000000
OPEN_EXISTING: Final = 3
FILE_FLAG_OVERLAPPED: Final = 0x40000000
INVALID_HANDLE_VALUE: Final = (1 << 8 * ctypes.sizeof(ctypes.c_void_p)) - 1
DUPLICATE_SAME_ACCESS: Final = 2

ERROR_ACCESS_DENIED: Final = 5
ERROR_INVALID_HANDLE: Final = 6
ERROR_OPERATION_ABORTED: Final = 995
ERROR_IO_PENDING: Final = 997
ERROR_NOT_FOUND: Final = 1168

#: `OVERLAPPED.Internal` while the operation goes on.
STATUS_PENDING: Final = 0x103

PURGE_TXABORT: Final = 1
PURGE_RXABORT: Final = 2
PURGE_TXCLEAR: Final = 4
PURGE_RXCLEAR: Final = 8

SETRTS: Final = 3
CLRRTS: Final = 4
SETDTR: Final = 5
CLRDTR: Final = 6

MS_CTS_ON: Final = 0x10
MS_DSR_ON: Final = 0x20
MS_RING_ON: Final = 0x40
MS_RLSD_ON: Final = 0x80

CE_RXOVER: Final = 0x01
CE_OVERRUN: Final = 0x02
CE_RXPARITY: Final = 0x04
CE_FRAME: Final = 0x08
CE_BREAK: Final = 0x10

WAIT_OBJECT_0: Final = 0
WAIT_TIMEOUT: Final = 0x102


class DCB(ctypes.Structure):
    """The line settings of a COM port."""

    # Bit fields as Microsoft's compiler places them; Python before 3.14 ignores the name and does so on Windows.
    _layout_ = "ms"
    _fields_: ClassVar[Any] = [
        ("DCBlength", DWORD),
        ("BaudRate", DWORD),
        ("fBinary", DWORD, 1),
        ("fParity", DWORD, 1),
        ("fOutxCtsFlow", DWORD, 1),
        ("fOutxDsrFlow", DWORD, 1),
        ("fDtrControl", DWORD, 2),
        ("fDsrSensitivity", DWORD, 1),
        ("fTXContinueOnXoff", DWORD, 1),
        ("fOutX", DWORD, 1),
        ("fInX", DWORD, 1),
        ("fErrorChar", DWORD, 1),
        ("fNull", DWORD, 1),
        ("fRtsControl", DWORD, 2),
        ("fAbortOnError", DWORD, 1),
        ("fDummy2", DWORD, 17),
        ("wReserved", WORD),
        ("XonLim", WORD),
        ("XoffLim", WORD),
        ("ByteSize", BYTE),
        ("Parity", BYTE),
        ("StopBits", BYTE),
        ("XonChar", ctypes.c_char),
        ("XoffChar", ctypes.c_char),
        ("ErrorChar", ctypes.c_char),
        ("EofChar", ctypes.c_char),
        ("EvtChar", ctypes.c_char),
        ("wReserved1", WORD),
    ]


class COMMTIMEOUTS(ctypes.Structure):
    """When a read or a write ends without being complete."""

    _fields_: ClassVar[Any] = [
        ("ReadIntervalTimeout", DWORD),
        ("ReadTotalTimeoutMultiplier", DWORD),
        ("ReadTotalTimeoutConstant", DWORD),
        ("WriteTotalTimeoutMultiplier", DWORD),
        ("WriteTotalTimeoutConstant", DWORD),
    ]


class COMSTAT(ctypes.Structure):
    """The queues of a COM port."""

    _fields_: ClassVar[Any] = [("flags", DWORD), ("cbInQue", DWORD), ("cbOutQue", DWORD)]


class OVERLAPPED(ctypes.Structure):
    """One operation that completes later. `Internal` is its NT status, `InternalHigh` the number of bytes moved."""

    _fields_: ClassVar[Any] = [
        ("Internal", ctypes.c_size_t),
        ("InternalHigh", ctypes.c_size_t),
        ("Offset", DWORD),
        ("OffsetHigh", DWORD),
        ("hEvent", HANDLE),
    ]


def error(code: int) -> OSError:
    """The error for a Win32 code."""
    return ctypes.WinError(code)


def dos_device(path: str) -> str:
    r"""`path` with the prefix that names from `COM10` up need."""
    return path if path[:4].replace("/", "\\") in ("\\\\.\\", "\\\\?\\") else f"\\\\.\\{path}"


def create_file(path: str) -> int:
    """Open a device for overlapped transfers, for this process alone."""
    handle: int | None = _kernel32().CreateFileW(
        dos_device(path), GENERIC_READ | GENERIC_WRITE, 0, None, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, None
    )
    if handle is None or handle == INVALID_HANDLE_VALUE:
        raise error(ctypes.get_last_error())
    return handle


def close_handle(handle: int) -> None:
    """Release a handle."""
    _kernel32().CloseHandle(handle)


def duplicate(handle: int) -> int:
    """A second handle for the same device."""
    copy = HANDLE()
    this = _kernel32().GetCurrentProcess()
    _kernel32().DuplicateHandle(this, handle, this, ctypes.byref(copy), 0, False, DUPLICATE_SAME_ACCESS)
    assert copy.value is not None
    return copy.value


def setup_queues(handle: int, input_size: int, output_size: int) -> None:
    """Recommend sizes for the driver's queues."""
    _kernel32().SetupComm(handle, input_size, output_size)


def get_state(handle: int) -> DCB:
    """The line settings now."""
    dcb = DCB()
    dcb.DCBlength = ctypes.sizeof(DCB)
    _kernel32().GetCommState(handle, ctypes.byref(dcb))
    return dcb


def set_state(handle: int, dcb: DCB) -> None:
    """Apply line settings; a driver may take one and not act on it."""
    _kernel32().SetCommState(handle, ctypes.byref(dcb))


def get_timeouts(handle: int) -> COMMTIMEOUTS:
    """The timeouts now."""
    timeouts = COMMTIMEOUTS()
    _kernel32().GetCommTimeouts(handle, ctypes.byref(timeouts))
    return timeouts


def set_timeouts(handle: int, timeouts: COMMTIMEOUTS) -> None:
    """Apply timeouts."""
    _kernel32().SetCommTimeouts(handle, ctypes.byref(timeouts))


def clear_error(handle: int) -> tuple[int, int, int]:
    """The line errors since the last call (`CE_*`), the bytes received and unread, the bytes accepted and unsent."""
    errors, status = DWORD(), COMSTAT()
    _kernel32().ClearCommError(handle, ctypes.byref(errors), ctypes.byref(status))
    return errors.value, status.cbInQue, status.cbOutQue


def purge(handle: int, what: int) -> None:
    """Drop what is queued."""
    _kernel32().PurgeComm(handle, what)


def escape(handle: int, function: int) -> None:
    """Set or clear RTS or DTR."""
    _kernel32().EscapeCommFunction(handle, function)


def modem_status(handle: int) -> int:
    """The input lines now, as `MS_*`."""
    status = DWORD()
    _kernel32().GetCommModemStatus(handle, ctypes.byref(status))
    return status.value


def set_break(handle: int, on: bool) -> None:
    """Begin or end a break."""
    (_kernel32().SetCommBreak if on else _kernel32().ClearCommBreak)(handle)


def flush_buffers(handle: int) -> None:
    """Block until everything has been sent."""
    _kernel32().FlushFileBuffers(handle)


def read_file(handle: int, buffer: ctypes.Array[Any], overlapped: OVERLAPPED) -> None:
    """Start a read of the whole buffer; it may be complete when this returns."""
    _start(_kernel32().ReadFile, handle, buffer, overlapped)


def write_file(handle: int, buffer: ctypes.Array[Any], overlapped: OVERLAPPED) -> None:
    """Start a write of the whole buffer; it may be complete when this returns."""
    _start(_kernel32().WriteFile, handle, buffer, overlapped)


def _start(function: Callable[..., int], handle: int, buffer: ctypes.Array[Any], overlapped: OVERLAPPED) -> None:
    if not function(handle, buffer, len(buffer), None, ctypes.byref(overlapped)):
        code = ctypes.get_last_error()
        if code != ERROR_IO_PENDING:
            raise error(code)


def cancel(handle: int, overlapped: OVERLAPPED | None) -> None:
    """Ask for the end of one operation, or of all on the handle; not an error if there is none."""
    if not _kernel32().CancelIoEx(handle, None if overlapped is None else ctypes.byref(overlapped)):
        code = ctypes.get_last_error()
        if code != ERROR_NOT_FOUND:
            raise error(code)


def wait_for(handle: int, overlapped: OVERLAPPED, milliseconds: int) -> None:
    """Block until an operation with an event has ended, however it ended, or until the time is up."""
    count = DWORD()
    _kernel32().GetOverlappedResultEx(handle, ctypes.byref(overlapped), ctypes.byref(count), milliseconds, False)


def dos_error(status: int) -> int:
    """The Win32 code for an NT status."""
    code: int = _ntdll().RtlNtStatusToDosError(status & 0xFFFFFFFF)
    return code


def create_event() -> int:
    """An event that stays set until it is reset."""
    handle: int | None = _kernel32().CreateEventW(None, True, False, None)
    if handle is None:
        raise error(ctypes.get_last_error())
    return handle


def set_event(handle: int) -> None:
    """Wake what waits for an event."""
    _kernel32().SetEvent(handle)


def reset_event(handle: int) -> None:
    """Let waits for an event sleep again."""
    _kernel32().ResetEvent(handle)


#: Name, result, arguments, whether a result of zero is an error.
_POINTER: Final = ctypes.c_void_p
_FUNCTIONS: Final[tuple[tuple[str, Any, tuple[Any, ...], bool], ...]] = (
    ("CreateFileW", HANDLE, (ctypes.c_wchar_p, DWORD, DWORD, _POINTER, DWORD, DWORD, HANDLE), False),
    ("CloseHandle", BOOL, (HANDLE,), True),
    ("GetCurrentProcess", HANDLE, (), False),
    ("DuplicateHandle", BOOL, (HANDLE, HANDLE, HANDLE, _POINTER, DWORD, BOOL, DWORD), True),
    ("SetupComm", BOOL, (HANDLE, DWORD, DWORD), True),
    ("GetCommState", BOOL, (HANDLE, _POINTER), True),
    ("SetCommState", BOOL, (HANDLE, _POINTER), True),
    ("GetCommTimeouts", BOOL, (HANDLE, _POINTER), True),
    ("SetCommTimeouts", BOOL, (HANDLE, _POINTER), True),
    ("ClearCommError", BOOL, (HANDLE, _POINTER, _POINTER), True),
    ("PurgeComm", BOOL, (HANDLE, DWORD), True),
    ("EscapeCommFunction", BOOL, (HANDLE, DWORD), True),
    ("GetCommModemStatus", BOOL, (HANDLE, _POINTER), True),
    ("SetCommBreak", BOOL, (HANDLE,), True),
    ("ClearCommBreak", BOOL, (HANDLE,), True),
    ("FlushFileBuffers", BOOL, (HANDLE,), True),
    ("ReadFile", BOOL, (HANDLE, _POINTER, DWORD, _POINTER, _POINTER), False),
    ("WriteFile", BOOL, (HANDLE, _POINTER, DWORD, _POINTER, _POINTER), False),
    ("CancelIoEx", BOOL, (HANDLE, _POINTER), False),
    ("GetOverlappedResultEx", BOOL, (HANDLE, _POINTER, _POINTER, DWORD, BOOL), False),
    ("CreateEventW", HANDLE, (_POINTER, BOOL, BOOL, ctypes.c_wchar_p), False),
    ("SetEvent", BOOL, (HANDLE,), True),
    ("ResetEvent", BOOL, (HANDLE,), True),
)


def _refuse_zero(result: int, _function: object, _arguments: object) -> int:
    if not result:
        raise error(ctypes.get_last_error())
    return result


@functools.cache
def _kernel32() -> ctypes.WinDLL:
    if not hasattr(ctypes, "WinDLL"):
        raise UnsupportedPlatformError("COM ports need Windows")
    library = ctypes.WinDLL("kernel32", use_last_error=True)
    for name, result, arguments, zero_is_error in _FUNCTIONS:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        if zero_is_error:
            function.errcheck = _refuse_zero
    return library


@functools.cache
def _ntdll() -> ctypes.WinDLL:
    library = ctypes.WinDLL("ntdll")
    library.RtlNtStatusToDosError.restype, library.RtlNtStatusToDosError.argtypes = DWORD, (DWORD,)
    return library
