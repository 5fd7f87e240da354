"""Addresses that open ports: those of this library, and schemes that a project adds."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import anyserial.sync
from anyserial import (
    ConfigurationError,
    PortNotFoundError,
    SerialConfig,
    SerialPort,
    UnsupportedFeatureError,
    open_serial_port,
    register_scheme,
)
from anyserial.testing import MockBackend, PtyPair

from .servers import serving

pytestmark = pytest.mark.posix("servers for Linux")


@contextmanager
def registered(scheme, opener) -> Iterator[None]:
    remove = register_scheme(scheme, opener)
    try:
        yield
    finally:
        remove()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rfc2271://pi:1", "unknown scheme rfc2271:// in 'rfc2271://pi:1': did you mean rfc2217://? Known: "),
        ("ftp://pi:1", "unknown scheme ftp:// in 'ftp://pi:1'. Known: rfc2217://, socket://"),
    ],
)
async def test_an_unknown_scheme_lists_the_known_ones(url: str, message: str) -> None:
    """R-01: with a suggestion for what is nearly right."""
    with pytest.raises(ConfigurationError) as caught:
        await open_serial_port(url)
    assert message in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/dev/none", "//server/share", "a:b", "/dev/serial/by-id/usb://x"])
async def test_a_path_is_no_address(path: str) -> None:
    """R-01: it is looked for as a device, whatever colons and slashes it has."""
    with pytest.raises(PortNotFoundError):
        await open_serial_port(path)


@pytest.mark.anyio
async def test_a_project_adds_a_scheme_with_a_device() -> None:
    """R-01: the opener gets the address and the config, and what it returns is the port's device."""
    backend, far = MockBackend.pair()
    far.open(far.path, SerialConfig())
    seen: list[object] = []

    async def opener(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> MockBackend:
        seen.extend((url, config.baudrate, tls))
        backend.open(url, config)
        return backend

    with registered("lab", opener):
        async with await open_serial_port("LAB://meter-1", SerialConfig(baudrate=9600)) as port:
            await port.send(b"hello")
            async with SerialPort(far, SerialConfig()) as peer:
                assert await peer.receive() == b"hello"
    assert seen == ["LAB://meter-1", 9600, None]
    with pytest.raises(ConfigurationError, match="unknown scheme lab://"):
        await open_serial_port("lab://meter-1")


@pytest.mark.anyio
async def test_a_scheme_can_name_a_path(ptys: PtyPair) -> None:
    """R-01: the port is the device at that path; TLS is refused, as for any device."""

    async def opener(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        return ptys.path_a

    with registered("lab", opener):
        async with await open_serial_port("lab://meter-1") as port, await open_serial_port(ptys.path_b) as peer:
            assert port.path == ptys.path_a
            await port.send(b"hello")
            assert await peer.receive() == b"hello"
        with pytest.raises(ConfigurationError, match="tls is for remote ports"):
            await open_serial_port("lab://meter-1", tls=ssl.create_default_context())


@pytest.mark.anyio
async def test_a_scheme_can_name_an_address() -> None:
    """R-01: as a project does that looks up where its places are."""

    async def opener(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        return {"lab://meter-1": server.url, "lab://circle": "lab://circle"}[url]

    with serving() as server, registered("lab", opener):
        async with await open_serial_port("lab://meter-1") as port:
            await port.send(b"hello")
            assert await port.receive() == b"hello"
        with pytest.raises(ConfigurationError, match="in a circle"):
            await open_serial_port("lab://circle")


def test_a_blocking_port_opens_by_an_added_scheme() -> None:
    """R-01."""

    async def opener(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        return server.url

    with (
        serving() as server,
        registered("lab", opener),
        anyserial.sync.open_serial_port("lab://meter-1", timeout=5) as port,
    ):
        port.send(b"hello", timeout=5)
        assert port.receive(timeout=5) == b"hello"


@pytest.mark.anyio
async def test_an_error_of_an_opener_becomes_that_of_an_open() -> None:
    """R-11: an `OSError` is translated, with the address; anything else is the caller's."""

    async def opener(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        if url == "lab://none":
            raise FileNotFoundError(2, os.strerror(2))
        raise UnsupportedFeatureError(95, "no such thing", url)

    with registered("lab", opener):
        with pytest.raises(PortNotFoundError) as caught:
            await open_serial_port("lab://none")
        assert caught.value.filename == "lab://none"
        with pytest.raises(UnsupportedFeatureError, match="no such thing"):
            await open_serial_port("lab://other")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("rfc2217", "rfc2217:// has an opener already: choose another scheme"),
        ("Lab", "'Lab' is no scheme: use lower-case letters and digits, such as 'lab'"),
        ("lab://", "'lab://' is no scheme"),
        ("", "'' is no scheme"),
    ],
)
def test_an_invalid_scheme_is_refused(scheme: str, message: str) -> None:
    """R-01."""

    async def opener(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        return ""

    with pytest.raises(ValueError, match="scheme") as caught:
        register_scheme(scheme, opener)
    assert message in str(caught.value)


def test_a_scheme_is_removed_once() -> None:
    """R-01: a second call leaves a later registration alone."""

    async def first(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        return "/dev/none"

    async def second(url: str, config: SerialConfig, tls: ssl.SSLContext | None) -> str:
        return "/dev/none"

    remove = register_scheme("lab", first)
    remove()
    with registered("lab", second):
        remove()
        with pytest.raises(ValueError, match="has an opener already"):
            register_scheme("lab", first)
