"""Convert a recording to a test with a scripted device. The author fills in the names of the driver."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, Final

from anyserial import SerialConfig

from .._text import plain
from .events import config_from_fields
from .file import Recording
from .playback import shown_call
from .steps import Step, steps_from

#: Seconds. Shorter pauses are left out of the script.
_MIN_PAUSE: Final = 0.05
#: Fields of a config that affect a scripted test.
_FIELDS: Final = ("baudrate", "byte_size", "parity", "stop_bits", "flow_control", "rs485")


@dataclasses.dataclass(slots=True)
class _Exchange:
    """A request and its replies. If the request is empty, the device sends them unprompted."""

    request: bytes
    replies: list[tuple[bytes, float]]

    def lines(self, times: int) -> Iterator[str]:
        if not self.request:
            for data, after in self.replies:
                yield f"    serial_script.send({_literal(data)}{_after_argument(after)})"
            return
        replies = "".join(f".reply({_literal(data)}{_after_argument(after)})" for data, after in self.replies)
        yield f"    serial_script.on({_literal(self.request)}){replies}{f'.times({times})' if times > 1 else ''}"


def script_lines(recording: Recording) -> Iterator[str]:
    """Yield the lines of a test module."""
    config = _config(config_from_fields(recording.head["config"]))
    name = re.sub(r"\W+", "_", str(recording.head.get("test", "")).rpartition("::")[2], flags=re.ASCII).strip("_")
    yield f'"""Made from {plain(recording.shown)}; fill in the names of the driver."""'
    yield ""
    if config:
        yield "import pytest"
        yield ""
        yield "from anyserial import SerialConfig"
        yield ""
    yield "from your_driver import YourDriver"
    yield ""
    yield ""
    if config:
        yield f"@pytest.mark.anyserial(config=SerialConfig({config}))"
    yield f"async def {name if name.startswith('test') else f'test_{name}'}(serial_port, serial_script):"
    yield from _body(steps_from(recording.events()))
    yield ""
    yield "    driver = YourDriver(serial_port)"
    yield "    assert await driver.your_call() == ..."


def _body(steps: Iterator[Step]) -> Iterator[str]:
    last: _Exchange | None = None
    current: _Exchange | None = None
    times = 0
    for step in steps:
        match step.kind:
            case "expect":
                if current is not None and current == last:
                    times += 1
                elif current is not None:
                    if last is not None:
                        yield from last.lines(times)
                    last, times = current, 1
                current = _Exchange(step.data, [])
            case "play":
                if current is None:
                    current = _Exchange(b"", [])
                _add(current, step)
            case _ if step.call == "open":
                continue
            case _:
                for exchange, number in _remaining(last, times, current):
                    yield from exchange.lines(number)
                last = current = None
                yield f"    # {_remark(step)}"
    for exchange, number in _remaining(last, times, current):
        yield from exchange.lines(number)


def _remaining(last: _Exchange | None, times: int, current: _Exchange | None) -> list[tuple[_Exchange, int]]:
    if last is not None and last == current:
        return [(last, times + 1)]
    return [(each, number) for each, number in ((last, times), (current, 1)) if each is not None]


def _add(exchange: _Exchange, step: Step) -> None:
    after = round(step.wait, 2) if step.wait >= _MIN_PAUSE else 0.0
    if exchange.replies and not after:
        data, before = exchange.replies[-1]
        exchange.replies[-1] = data + step.data, before
    else:
        exchange.replies.append((step.data, after))


def _remark(step: Step) -> str:
    if step.kind == "call":
        return f"Here the driver called {shown_call(step.call, step.arguments)}."
    if step.kind == "refuse":
        return f"Here {step.call}() failed on the device."
    if step.kind == "gone":
        return "Here the device was unplugged."
    levels = ", ".join(f"{name} {value}" for name, value in step.arguments.items())
    return f"Here the device had {levels}."


def _config(config: SerialConfig) -> str:
    default: Any = SerialConfig()
    changed = ((name, getattr(config, name)) for name in _FIELDS if getattr(config, name) != getattr(default, name))
    return ", ".join(
        f"{name}={str(value)!r}" if isinstance(value, str) else f"{name}={value!r}" for name, value in changed
    )


def _literal(data: bytes) -> str:
    text = repr(data)[2:-1]
    return repr(data) if "'" in text or '"' in text else f'b"{text}"'


def _after_argument(seconds: float) -> str:
    return f", after={seconds:g}" if seconds else ""
