"""What a test leaves behind: sections of its report, properties of its item, files with the whole transcript."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from anyserial import SerialClosedError

from .. import _loops
from .._keys import LINK, RUNNING, TEST, WIRE
from .._options import test_id
from .._text import encodable, plain
from . import outcome

if TYPE_CHECKING:
    from .._links.link import SerialLink
    from .._transcript.transcript import PortLog
    from .._views.view import SerialView

_RUN: pytest.StashKey[_Run] = pytest.StashKey()
_EVIDENCE: pytest.StashKey[Evidence] = pytest.StashKey()


class _Run:
    """The settings and state that all tests of a run share. A plugin from the first test with serial fixtures on.

    Attributes:
        mode: The tests that leave files: `"failed"`, `"all"` or `"off"`.
        captures: Whether they leave a capture too.
        folder: The folder of these files.
        attempts: How often each test was run, by its id. A test that is run again gets its own files.
    """

    def __init__(self, config: pytest.Config) -> None:
        given: str | None = config.getoption("--serial-artifacts")
        self.mode = str(config.getoption("--serial-transcript"))
        self.captures = bool(config.getoption("--serial-pcapng"))
        self.folder = config.rootpath / ".pytest_anyserial" if given is None else config.invocation_params.dir / given
        self.attempts: dict[str, int] = {}

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """After Ctrl-C, ignore the SerialClosedError of a fixture that was waiting on a port that we closed."""
        try:
            return (yield)
        except SerialClosedError:
            if RUNNING not in session.config.stash:
                raise
            return None

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
        """Make the texts of a serial test's report encodable, so that a worker of pytest-xdist can send them."""
        data = yield
        is_ours = isinstance(report, pytest.TestReport) and outcome.link_of(report) is not None
        return _encodable(data) if is_ours else data

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Show the transcript of an interrupted test here, because pytest prints no report for it."""
        item: pytest.Item | None = config.stash.get(RUNNING, None)
        # Of a mutant nothing is shown.
        if item is not None and LINK in item.stash and WIRE not in item.stash:
            terminalreporter.section(f"serial ports of {plain(item.nodeid)}, which was interrupted")
            for title, text in item.stash[_EVIDENCE].of(item.stash[LINK], "the test was interrupted"):
                terminalreporter.write_sep("-", title)
                terminalreporter.line(text)


class Evidence:
    """The evidence of one test: sections, properties and files."""

    def __init__(self, item: pytest.Function) -> None:
        self._item = item
        item.stash[_EVIDENCE] = self
        self._began = datetime.now(UTC)
        if _RUN not in item.config.stash:
            item.config.stash[_RUN] = _Run(item.config)
            item.config.pluginmanager.register(item.config.stash[_RUN])
        self._run = run = item.config.stash[_RUN]
        self._attempt = run.attempts[item.nodeid] = run.attempts.get(item.nodeid, 0) + 1
        self._leaves_files = run.mode == "all"
        self._ours: dict[str, str | None] = {}
        self._unwritten = ""
        self._reasons: list[str] = []

    @property
    def folder(self) -> Path | None:
        """The folder of the test's transcripts, one file per port; None if none are written."""
        if self._run.mode == "off":
            return None
        # Imported late, because most tests leave no file.
        from .. import _files

        name = _files.named_after(encodable(test_id(self._item)))
        return self._run.folder / (name if self._attempt == 1 else f"{name}-{self._attempt}")

    def add_to(self, report: pytest.TestReport, notes: Callable[[], list[tuple[str, str]]]) -> None:
        """Complete the report of one phase; `notes` are titles and texts for a failure, beside the transcript."""
        self._leaves_files |= report.failed
        if report.failed:
            self._reasons.append(_reason(report))
        link: SerialLink | None = self._item.stash.get(LINK, None)
        if link is not None:
            self._set_properties(link)
            if report.failed:
                # Write the files now too, because the run may end before the teardown.
                report.sections.extend(self.of(link))
            elif report.when == "teardown" and self._leaves_files:
                self._write(link)
        if report.failed:
            report.sections.extend(notes())
        report.user_properties = list(self._item.user_properties)
        if self._unwritten:
            outcome.note_unwritten(report, self._unwritten)
        if hasattr(self._item.config, "workerinput"):
            from .recorded import as_json, as_text

            # A worker of pytest-xdist sends its reports, and a value that cannot be sent ends the whole run.
            report.user_properties = [(as_text(name), as_json(value)) for name, value in report.user_properties]

    def of(self, link: SerialLink, reason: str = "") -> list[tuple[str, str]]:
        """Titles and texts of what has happened on a link; files are written too, and may name one more reason."""
        if reason:
            self._reasons.append(reason)
        # Most tests pass.
        from .._transcript import timeline

        sections = [(title, "\n".join(text)) for title, text in timeline.sections(link.transcript, link._end_of)]
        written = self._write(link)
        return [*sections, ("serial transcripts", "\n".join(written))] if written else sections

    def _set_properties(self, link: SerialLink) -> None:
        self._set("serial_link", link.name)
        if link._wiring.bench is not None:
            self._set("serial_bench", link._wiring.bench)
        backend = self._item.funcargs.get("anyio_backend")
        if backend is not None:
            self._set("serial_loop", _loops.claimed(backend).word)
        for stem, log in _by_stem(link):
            self._set(f"{stem}_adapter", log.adapter)

    def _write(self, link: SerialLink) -> list[str]:
        """Write the files; returns their names, or why there are none."""
        self._unwritten = ""
        folder = self.folder
        if folder is None:
            return []
        # Most tests leave no file.
        from .. import _files

        about = {
            "test": encodable(test_id(self._item)),
            "began": self._began.isoformat(timespec="milliseconds"),
            "bench": self._ours.get("serial_bench"),
            "link": link.name,
            "loop": self._ours.get("serial_loop"),
        }
        written: list[str] = []
        try:
            for stem, log in _by_stem(link):
                _files.make(folder.parent)
                folder.mkdir(exist_ok=True)
                name = f"{stem}.jsonl"
                _files.put(folder, name, (f"{line}\n" for line in link.transcript.json_lines(log, about)))
                written.append(self._named(f"{stem}_transcript", folder / name))
            if written:
                files = [folder / f"{stem}.jsonl" for stem, _ in _by_stem(link)]
                written += self._add_views(link, folder, files, about)
        except OSError as exc:
            self._unwritten = f"{plain(str(folder))}: {_files.reason(exc)}"
            written.append(f"could not be written: {self._unwritten}")
        return written

    def _add_views(
        self, link: SerialLink, folder: Path, files: Iterable[Path], about: Mapping[str, str | None]
    ) -> Iterator[str]:
        """Write what shows the transcripts of a test to people and other tools; yields the names of these files."""
        from .. import _files
        from . import timeline_page

        item = self._item
        views: dict[str, SerialView] = {}
        for given in item.config.hook.pytest_anyserial_views(item=item):
            views.update(given or {})
        far_end = item.stash[TEST].far_end if TEST in item.stash else None
        page = timeline_page.page(
            link.transcript,
            link._end_of,
            {**about, "reason": "\n".join(self._reasons)},
            views,
            far_end.unmet() if far_end is not None and self._reasons else (),
        )
        _files.put(folder, timeline_page.NAME, page)
        yield self._named("serial_timeline", folder / timeline_page.NAME)
        if self._run.captures:
            from .._transcript import pcapng

            _files.put(folder, pcapng.NAME, pcapng.capture(files))
            yield self._named("serial_capture", folder / pcapng.NAME)

    def _named(self, name: str, file: Path) -> str:
        """Let a property of the item name a file; returns the name for people."""
        shown = _shown(file, self._item.config)
        self._set(name, encodable(shown))
        return plain(shown)

    def _set(self, name: str, value: str | None) -> None:
        """Let a property of the item have this value, whatever the test has recorded under that name."""
        self._ours[name] = value
        properties = self._item.user_properties
        # Each phase sets them, and they rarely change.
        if (name, value) in properties:
            return
        names = [other for other, _ in properties]
        place = names.index(name) if name in names else len(names)
        properties[place : place + 1] = [(name, value)]


def _by_stem(link: SerialLink) -> list[tuple[str, PortLog]]:
    """The records of a link's ports, each under a name of its own: `serial_port`, `serial_port-2`."""
    seen: dict[str, int] = {}
    named: list[tuple[str, PortLog]] = []
    for log in link.transcript.logs:
        seen[log.name] = number = seen.get(log.name, 0) + 1
        named.append((log.name if number == 1 else f"{log.name}-{number}", log))
    return named


def _reason(report: pytest.TestReport) -> str:
    """Why a phase failed, in short: the message of the exception, else the end of the report."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text: str = report.longreprtext if crash is None else crash.message
    return text if report.when == "call" else f"{report.when}: {text}"


def _encodable(data: Any) -> Any:
    match data:
        case str():
            return encodable(data)
        case list():
            return [_encodable(one) for one in cast("list[object]", data)]
        case tuple():
            # The place and reason of a skip; pytest accepts no list.
            return tuple(_encodable(one) for one in cast("tuple[object, ...]", data))
        case dict():
            return {name: _encodable(value) for name, value in cast("dict[str, object]", data).items()}
        case _:
            return data


def _shown(file: Path, config: pytest.Config) -> str:
    return str(file.relative_to(config.rootpath)) if file.is_relative_to(config.rootpath) else str(file)
