"""Chromium without a window, driven over DevTools through a pipe: no port, no driver program, no package.

Messages are JSON, each ended by a NUL. Commands go in on descriptor 3; answers and events come out on descriptor 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

# Windows passes no descriptors on.
_NAMES: Final = () if os.name == "nt" else ("chromium", "chromium-browser", "google-chrome")
CHROMIUM: Final = next(filter(None, map(shutil.which, _NAMES)), None)
MISSING: Final = "Chromium is not installed: apt-get install chromium"

_COMMANDS, _ANSWERS = 3, 4
_PATIENCE: Final = 60.0
# What reaches for the network by itself: nothing that is asked for here.
_FLAGS: Final = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_KEYS: Final = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35}


class Page:
    """One page of a browser.

    Attributes:
        problems: What the console has said: errors, warnings, exceptions that nothing caught, refusals of a policy.
        requests: The addresses that were asked for.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._commands = commands
        self._answers = answers
        self._unread = bytearray()
        self._events: list[str] = []
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path) -> float:
        """Load a file and wait until it is drawn; returns the seconds that took."""
        self._events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=file.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._take(began + _PATIENCE)
        self.drawn()
        return time.monotonic() - began

    def drawn(self) -> None:
        """Wait until what has changed is on the screen."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited.

        Raises:
            AssertionError: It threw something.
        """
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            code = _KEYS.get(key, ord(key.upper()[0]))
            text = key if len(key) == 1 else {"Enter": "\r"}.get(key, "")
            facts = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
            self.call("Input.dispatchKeyEvent", type="keyUp", **facts)
        self.drawn()

    def type(self, text: str) -> None:
        """Put a text where the focus is."""
        self.call("Input.insertText", text=text)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """One event of the mouse: `mousePressed`, `mouseMoved`, `mouseReleased`, `mouseWheel`."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Press and release the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)
        self.drawn()

    def resize(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """The size of the window, the colours that the user prefers, pixels of the screen per pixel of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """What is on the screen, as PNG."""
        self.drawn()
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer.

        Raises:
            AssertionError: The browser refuses it, or has gone.
            TimeoutError: There is no answer within a minute.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._take(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _take(self, deadline: float) -> dict[str, Any]:
        """The next message; events are noted."""
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "the browser has gone"
            self._unread += chunk
        data, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(data)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        self._events.append(event)
        match event:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


@contextmanager
def browser(folder: Path) -> Generator[Page]:
    """A page of a fresh browser, whose profile is in this folder."""
    assert CHROMIUM is not None, MISSING
    commands, answers = os.pipe(), os.pipe()
    # Its sandbox does not work for root.
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    # The shell moves the descriptors, between fork and exec: here they may have these very numbers.
    moved = f'exec "$@" {_COMMANDS}<&{commands[0]} {_ANSWERS}>&{answers[1]}'
    process = subprocess.Popen(
        ["bash", "-c", moved, "bash", CHROMIUM, *_FLAGS, *root, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(commands[0], answers[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for unused in (commands[0], answers[1]):
        os.close(unused)
    try:
        page = Page(commands[1], answers[0])
        yield page
        page._session = None
        with suppress(OSError, AssertionError, TimeoutError):
            page.call("Browser.close")
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(commands[1])
        os.close(answers[0])
