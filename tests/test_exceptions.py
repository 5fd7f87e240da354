"""One tree of errors, and one total table from operating system errors into it."""

import errno
import os
import sys

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyserial import exceptions
from anyserial.exceptions import (
    ConfigurationError,
    PortBusyError,
    PortNotFoundError,
    PortPermissionError,
    SerialClosedError,
    SerialDisconnectedError,
    SerialError,
    UnsupportedAsyncBackendError,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
    UnsupportedPlatformError,
    UnsupportedSettingError,
    errno_to_exception,
)

BASES = {
    SerialError: (OSError,),
    ConfigurationError: (SerialError, ValueError),
    PortNotFoundError: (SerialError, FileNotFoundError),
    PortBusyError: (SerialError,),
    PortPermissionError: (PortBusyError, PermissionError),
    UnsupportedFeatureError: (SerialError, NotImplementedError),
    UnsupportedConfigurationError: (SerialError, ValueError),
    UnsupportedSettingError: (UnsupportedConfigurationError, UnsupportedFeatureError),
    UnsupportedPlatformError: (SerialError, NotImplementedError),
    SerialClosedError: (SerialError, anyio.ClosedResourceError),
    SerialDisconnectedError: (SerialError, anyio.BrokenResourceError),
    UnsupportedAsyncBackendError: (SerialError, RuntimeError),
}

CONTEXTS = ("open", "lock", "configure", "ioctl", "io")

# Every errno of this system, an unknown one, and the ends of a C int.
ERRNOS = (*errno.errorcode, 0, 9999, -1, 2**31 - 1, -(2**31))
c_ints = st.integers(-(2**31), 2**31 - 1)
DENIED = PermissionError(errno.EACCES, "Permission denied")


def expected_class(code, context):
    """The table of the specification, row by row, and what decision 10 adds; the first that matches."""
    match context, errno.errorcode.get(code):
        case "open", "ENOENT" | "ENODEV" | "ENXIO":
            return PortNotFoundError
        case "lock", _:
            return PortBusyError
        case _, "EBUSY":
            return PortBusyError
        case _, "EACCES":
            return PortPermissionError
        case "open", "EPERM":
            return PortPermissionError
        case "configure", "EINVAL" | "ENOTTY":
            return UnsupportedSettingError
        case "ioctl", "EINVAL" | "ENOTTY":
            return UnsupportedFeatureError
        case "configure" | "ioctl" | "io", "EIO" | "ENXIO" | "ENODEV" | "EPIPE" | "ECONNRESET" | "WSAECONNRESET":
            return SerialDisconnectedError
        case "io", "EPERM":
            return SerialDisconnectedError
    return SerialError


@pytest.mark.parametrize(("cls", "bases"), BASES.items())
def test_every_error_is_also_the_builtin_a_caller_would_think_of(cls, bases):
    """The tree: each class is caught by the builtin or AnyIO class beside it."""
    assert cls.__bases__ == bases
    for base in bases:
        with pytest.raises(base):
            raise cls(errno.EIO, "text")


def test_the_module_holds_these_classes_and_the_table():
    """L-07: every exception of the package lives in one module."""
    defined = {v for v in vars(exceptions).values() if isinstance(v, type) and issubclass(v, BaseException)}
    assert defined == set(BASES)
    assert {getattr(exceptions, name) for name in exceptions.__all__} == {*BASES, errno_to_exception}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("code", ERRNOS, ids=lambda code: errno.errorcode.get(code, code))
def test_errno_and_context_decide_the_class(code, context):
    """L-112, L-113, L-114, L-115, L-116, L-117, L-118, L-119: errno and context decide the class."""
    error = errno_to_exception(OSError(code, os.strerror(code)), context=context, path="/dev/ttyX")
    assert type(error) is expected_class(code, context)


@pytest.mark.parametrize("context", CONTEXTS)
def test_eof_and_a_closed_descriptor_raise_different_errors(context):
    """L-118, L-119, L-123: EBADF alone says nothing about the device, so it stays a plain `SerialError`."""
    error = errno_to_exception(OSError(errno.EBADF, "Bad file descriptor"), context=context, path="/dev/ttyX")
    assert type(error) is (PortBusyError if context == "lock" else SerialError)


@settings(deadline=None)
@given(
    code=st.sampled_from(ERRNOS) | c_ints,
    text=st.none() | st.text(),
    filename=st.sampled_from([None, "/dev/ttyX", b"/dev/ttyX"]),
    path=st.sampled_from([None, "/dev/ttyY"]),
    context=st.sampled_from(CONTEXTS),
)
def test_every_os_error_becomes_a_complete_serial_error(code, text, filename, path, context):
    """L-120: errno, text, file name and cause are set, whatever came; nothing else is ever raised."""
    original = OSError(code, text, filename)
    error = errno_to_exception(original, context=context, path=path)
    assert isinstance(error, SerialError)
    assert error.errno == (errno.EBUSY if context == "lock" else code)
    assert isinstance(error.strerror, str)
    assert (text or os.strerror(code)) in error.strerror
    assert error.filename == ("/dev/ttyX" if filename else path)
    assert error.__cause__ is original
    assert error.strerror in str(error)


@settings(deadline=None)
@given(args=st.lists(st.none() | c_ints | st.text(), max_size=3), context=st.sampled_from(CONTEXTS))
def test_errors_that_only_look_like_os_errors_are_translated_too(args, context):
    """L-121: `termios.error` is no `OSError`; whatever its arguments, the result is a `SerialError`."""
    termios = pytest.importorskip("termios")
    original = termios.error(*args)
    error = errno_to_exception(original, context=context, path="/dev/ttyX")
    assert isinstance(error, SerialError)
    assert error.filename == "/dev/ttyX"
    assert error.strerror
    assert error.__cause__ is original
    if len(args) == 2 and isinstance(args[0], int) and context != "lock":
        assert error.errno == args[0]
        assert type(error) is expected_class(args[0], context)


def test_a_real_termios_error_is_translated():
    """L-121, L-116: what `tcgetattr` raises on a file that is no terminal is a refused setting."""
    termios = pytest.importorskip("termios")
    reading, writing = os.pipe()
    try:
        with pytest.raises(termios.error) as caught:
            termios.tcgetattr(reading)
    finally:
        os.close(reading)
        os.close(writing)
    error = errno_to_exception(caught.value, context="configure", path="/dev/ttyX")
    assert type(error) is UnsupportedSettingError
    assert error.errno == errno.ENOTTY
    assert str(error) == f"/dev/ttyX: {os.strerror(errno.ENOTTY)} [ENOTTY]"


@pytest.mark.parametrize("cls", [cls for cls in BASES if cls is not SerialError])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_serial_error_is_returned_unchanged(cls, context):
    """L-111: an error that is already one of ours passes through, untouched."""
    original = cls(errno.EACCES, "text", "/dev/ttyX")
    assert errno_to_exception(original, context=context, path="/dev/ttyY") is original
    assert original.__cause__ is None
    assert (original.filename, original.strerror) == ("/dev/ttyX", "text")


def test_the_name_in_the_error_wins_over_the_given_path():
    """L-120: `filename` is the error's own, the port's path when it has none."""
    named = FileNotFoundError(errno.ENOENT, "No such file or directory", "/dev/ttyX")
    bare = OSError(errno.EIO, "Input/output error")
    assert errno_to_exception(named, context="open", path="/dev/ttyY").filename == "/dev/ttyX"
    assert errno_to_exception(bare, context="io", path="/dev/ttyY").filename == "/dev/ttyY"
    assert errno_to_exception(bare, context="io").filename is None


def test_an_error_of_a_call_on_a_descriptor_names_the_path():
    """L-120: a descriptor number in `filename`, as some calls leave it, is no name; the path is."""
    with pytest.raises(OSError) as caught:
        os.stat(2**20)
    assert caught.value.filename == 2**20
    error = errno_to_exception(caught.value, context="io", path="/dev/ttyX")
    assert error.filename == "/dev/ttyX"
    assert str(error).startswith("/dev/ttyX: ")


def test_a_lock_error_is_busy_and_names_the_cause():
    """L-113, L-122: whatever `flock` reported, the error is EBUSY and says who is in the way."""
    refusal = BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
    error = errno_to_exception(refusal, context="lock", path="/dev/ttyX")
    assert type(error) is PortBusyError
    assert error.errno == errno.EBUSY
    assert str(error).startswith("/dev/ttyX: another process or library holds the exclusive lock")


def test_the_windows_code_is_kept():
    """L-120: `.winerror`, where the original has one, is kept."""

    class WindowsStyle(OSError):
        winerror = 1117

    error = errno_to_exception(WindowsStyle(errno.EIO, "The request failed"), context="io", path="COM3")
    assert error.winerror == 1117


def test_a_denied_open_names_the_group_and_the_command(tmp_path):
    """L-124, C46: the text holds the path, the group that owns the node, and how to join it."""
    grp = pytest.importorskip("grp")
    node = tmp_path / "ttyX"
    node.touch()
    group = grp.getgrgid(node.stat().st_gid).gr_name
    error = errno_to_exception(DENIED, context="open", path=str(node))
    assert type(error) is PortPermissionError
    assert str(node) in str(error)
    assert f"'{group}'" in str(error)
    assert f"usermod -aG {group} " in str(error)
    assert isinstance(error, PermissionError)


@pytest.mark.parametrize("path", [None, "/dev/no-such-tty", "bad\0path"])
def test_a_denied_open_without_a_node_lists_other_causes(path):
    """L-124: without a node to look at, the usual groups or another holder are named."""
    error = errno_to_exception(DENIED, context="open", path=path)
    assert type(error) is PortPermissionError
    assert "another process may hold the port" in str(error)
    assert ("'dialout' or 'uucp'" in str(error)) is (path is not None and sys.platform != "win32")


def test_error_texts_start_with_the_path_and_end_with_the_errno():
    """L-120: one line says where, what, and the number's name."""
    assert str(SerialError(errno.EIO, "gone", "/dev/ttyX")) == "/dev/ttyX: gone [EIO]"
    assert str(SerialError(errno.EIO, "gone", b"/dev/ttyX")) == "/dev/ttyX: gone [EIO]"
    assert str(SerialError(9999, "odd")) == "odd [9999]"
    assert str(SerialError("just text")) == "just text"
