"""The documentation is true where a machine can tell: links lead somewhere, examples are of today, duties are met."""

import importlib
import re
from pathlib import Path

import pytest

from .pages import PAGES, ROOT, blocks

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@by_page
def test_links_within_the_project_resolve(page: Path) -> None:
    """A reader can follow every link that stays inside the project."""
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """The link check sees a missing file and a missing heading."""
    page = tmp_path / "page.md"
    page.write_text("# A title\n[ok](#a-title) [no](#b) [gone](gone.md) [web](https://example.org)\n")
    assert broken_links(page) == ["#b", "gone.md"]


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_the_ci_jobs_of_the_page_are_those_that_are_checked(name: str) -> None:
    """`make lint` validates the files; a reader copies from the page."""
    job = (ROOT / "docs" / "examples" / "ci" / f"{name}.yml").read_text("utf-8")
    assert f"\n```yaml\n{job}```\n" in (ROOT / "docs" / "ci.md").read_text("utf-8")


def test_every_page_is_listed() -> None:
    """The page list names every page, or the folder it is in."""
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(prose(index))}
    pages = {page for page in PAGES if index.parent in page.parents and page != index}
    assert [page for page in pages if not listed & {page, page.with_name("index.md")}] == []


@pytest.mark.parametrize(
    ("module", "pages"),
    [
        ("anyserial", ["library", "exceptions"]),
        ("anyserial.sync", ["blocking"]),
        ("anyserial.testing", ["testing"]),
        ("pytest_anyserial.strategies", ["plugin"]),
    ],
)
def test_every_public_name_is_in_the_reference(module: str, pages: list[str]) -> None:
    """A name that can be imported can be looked up."""
    text = "".join((ROOT / "docs" / "reference" / f"{page}.md").read_text("utf-8") for page in pages)
    documented = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", text, re.MULTILINE))
    assert set(importlib.import_module(module).__all__) - {"__version__"} - documented == set()


@by_page
def test_snippets_are_up_to_date(page: Path) -> None:
    """L-218, E46, A28, B13: snippets select no loop policy and use no outdated name."""
    for block in blocks(page):
        for outdated in ("set_event_loop_policy", "anyio.Cancelled", "cancellable="):
            assert outdated not in block.code


@pytest.mark.parametrize(
    ("page", "statement"),
    [
        pytest.param("README.md", "usermod -aG dialout", id="L-217"),
        pytest.param("docs/first-steps.md", "usermod -aG dialout", id="C46"),
        pytest.param("docs/first-steps.md", "Concurrent `receive_until` calls .* are not supported", id="C47"),
        pytest.param("docs/first-steps.md", "discarded only when the close is forced", id="L-219-close"),
        pytest.param("docs/first-steps.md", "not privileged ones", id="L-219-exclusive"),
        pytest.param("docs/first-steps.md", "takes effect at once, .*: drain first", id="L-219-rate"),
        pytest.param("docs/virtual-bench.md", "The virtual bench proves nothing for a physical adapter", id="H-43"),
        pytest.param("docs/loops.md", "One loop per port", id="L-219-loop"),
        pytest.param("docs/loops.md", "no bridge between runtimes", id="A21"),
        pytest.param("docs/loops.md", r"scope\.cancelled_caught", id="L-218-timeout"),
        pytest.param("docs/loops.md", r"anyio\.get_cancelled_exc_class\(\)", id="L-218-class"),
        pytest.param("docs/loops.md", "policies are deprecated", id="A28"),
        pytest.param("docs/platforms.md", "winloop . refused at open", id="A19"),
    ],
)
def test_pages_state_the_facts_that_users_need(page: str, statement: str) -> None:
    """L-217, L-218, L-219, A19, A21, A28, C46, C47, H-43: the pages meet their duties where a user looks."""
    assert re.search(statement, " ".join((ROOT / page).read_text("utf-8").split()))
