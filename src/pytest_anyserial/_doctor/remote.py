"""Remote ports: the server's address, its signature, and its response time."""

from __future__ import annotations

import socket
import statistics
import time
from typing import Final
from urllib.parse import urlsplit

from anyio import to_thread

from anyserial import PortInfo, SerialPort

from .._text import plain
from .finding import Finding, ok, problem, warning

#: How many times settings are sent, because each gets an answer.
_QUESTIONS: Final = 9
#: Seconds. A server that answers at once needs less than 1 ms, and a local network adds about 1 ms.
_SLOW: Final = 0.003
_LOCAL: Final = ("127.", "::1")


async def check_server(device: PortInfo) -> list[Finding]:
    """Return the findings about an address that need no connection."""
    parts = urlsplit(device.device)
    host = parts.hostname or ""
    try:
        # A look-up takes as long as the name servers of this host.
        found = await to_thread.run_sync(socket.getaddrinfo, host, parts.port, 0, socket.SOCK_STREAM)
    except (OSError, ValueError) as exc:
        text = f"{plain(host)} is not known here: {getattr(exc, 'strerror', None) or exc}"
        return [problem("address", text, "check the name in match.url, or write the IP address")]
    places = list(dict.fromkeys(str(place[0]) for *_, place in found))
    findings = [ok("address", f"{plain(host)} is {', '.join(places)}")]
    if not all(place.startswith(_LOCAL) for place in places):
        text = f"{plain(parts.netloc)} may ask for no login: who reaches it has the device"
        findings.append(warning("network", text, "let a firewall on that machine accept the hosts that run tests only"))
    return findings


async def ask(port: SerialPort) -> list[Finding]:
    """Return the findings about the server of an open port."""
    if port.capabilities.backend != "rfc2217":
        return [ok("server", "bytes alone: it takes no settings")]
    signature = port.port_info and port.port_info.description
    findings = [ok("server", plain(signature) if signature else "it does not say what it is")]
    times: list[float] = []
    for _ in range(_QUESTIONS):
        start = time.perf_counter()
        await port.configure(port.config)
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    text = f"answers wait {median * 1e3:.1f} ms (worst {max(times) * 1e3:.1f} ms)"
    if median < _SLOW:
        return [*findings, ok("answers", text)]
    advice = "ser2net waits for more bytes, and uses Nagle's algorithm, without chardelay: false and tcp(nodelay)"
    return [*findings, warning("answers", text, advice)]
