"""How Sphinx builds these pages: Markdown as it is, reference from docstrings, nothing from the network."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).parent))
import generated

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "anyserial"
copyright = "the anyserial contributors"  # noqa: A001
release = metadata.version("pytest-anyserial")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples/*/src", "examples/*/tests", "**/.*"]

html_theme = "furo"
html_title = f"anyserial {release}"
html_copy_source = False
# The transcript on the landing page fits into the column without scrolling.
html_theme_options = {"light_css_variables": {"code-font-size": "78%"}}

# Options and bytes stay as they are written: `--serial-hw` has two hyphens, and quotes are those of Python.
smartquotes = False

# Headings have the anchors that code hosts give them.
myst_heading_anchors = 4

# Docstrings write code between single backticks; where it names something that is documented, it links there.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# `SerialPort` is two classes; a bare annotation may mean either, and links to the first.
suppress_warnings = ["ref.python"]

#: Of the private use area: no docstring has it.
_COLON = "\ue000"

_LINK = re.compile(r"^\* \[[^]]+\]\(([^):]+)\.md\)", re.MULTILINE)

_FETCHED = re.compile(
    r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"""
    r"""|url\(["']?(?:https?:)?//[^)]*"""
)


def _complete(_: Sphinx, page: str, source: list[str]) -> None:
    """Fill in the generated parts of pages, and turn the list in index.md into the navigation, one part per heading.

    The list itself is for readers on a code host, who have no sidebar.
    """
    if page == "decisions/index":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*-*\n```\n"
    source[0] = generated.filled(source[0])
    if page != "index":
        return
    landing, *parts = re.split(r"^## (.+)\n", source[0], flags=re.MULTILINE)
    source[0] = landing
    for caption, part in zip(parts[::2], parts[1::2], strict=True):
        source[0] += "\n".join(
            ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *_LINK.findall(part), "```", ""]
        )


def _before_napoleon(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Hide the colons of a value: napoleon would take what stands before the first one for its type."""
    if what in ("property", "attribute", "data"):
        lines[:] = [line.replace(":", _COLON) for line in lines]


def _after_napoleon(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Let code stand next to a letter or a dot, as in 1..`n`; reStructuredText wants a separator there."""
    lines[:] = [re.sub(r"(`[^`]+`)", r"\\ \1\\ ", line.replace(_COLON, ":")) for line in lines]


def _refuse_the_network(app: Sphinx, failed: Exception | None) -> None:
    """A page that fetches a script, a style, a font or an image from elsewhere is an error."""
    if failed:
        return
    for file in (path for path in app.outdir.rglob("*") if path.suffix in (".html", ".css", ".svg")):
        if fetched := _FETCHED.search(file.read_text("utf-8")):
            raise ExtensionError(f"{file} fetches from the network: {fetched[0]}")


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.connect("source-read", _complete)
    app.connect("build-finished", _refuse_the_network)
