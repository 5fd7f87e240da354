"""Who may import whom: arrows point down only, the outside sees public names, one module knows the platform.

The sources are read, not run, so an import inside a function or under `TYPE_CHECKING` counts like any other.
"""

import ast
import importlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import anyserial

PACKAGE = Path(anyserial.__file__).parent
ROOT = Path(__file__).resolve().parent.parent

# From the bottom up; a module imports from the rows below its own.
LEVELS = (
    "exceptions _buffers _fork",
    "_values",
    "config",
    "capabilities",
    "_backend _policy _pty _readiness _termios _nodes _port_info",
    "_fault_events _clock _signal _wire _closing",
    "_fault_schedule",
    "_fault_plan",
    "_cable _fd _tty_posix _linux_low_latency _linux_rs485 _settings _iocp _win32",
    "_tty_linux _tty_darwin _tty_bsd",
    "_tty _windows _mock _discovery_linux _discovery_darwin _discovery_bsd _discovery_udev _discovery_windows",
    "_platform",
    "_calls discovery",
    "_opening",
    "stream _mock_pair",
    "_blocking _portal _conformance",
    "sync",
    "testing",
    "__init__",
)
LEVEL = {module: number for number, row in enumerate(LEVELS) for module in row.split()}

OUTSIDE = ("src/pytest_anyserial", "hil", "docs/examples")
# How a module that lives on one side of the divide narrows itself for type checkers; true at run time.
HINTS = tuple(f"assert sys.platform {home} or not TYPE_CHECKING" for home in ("== 'win32'", "!= 'win32'", "== 'linux'"))
PLATFORM_QUESTIONS = {("sys", "platform"), ("os", "name"), ("platform", "system")}


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str, str]]:
    """`(line, module, name)` of every import in `tree`; `name` is empty for `import module`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name, ""
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(filter(None, (package if level else "", module)))
                for alias in names:
                    yield node.lineno, base, alias.name
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, f"{package}{module}" if module.startswith(".") else module, ""


def wrong_arrows(sources: Mapping[str, str]) -> list[str]:
    """What the modules of `anyserial`, as `{name: source}`, import that they may not."""
    complaints = [f"{module}: has no level" for module in sources if module not in LEVEL]
    for module, source in sources.items():
        for line, base, name in imports(ast.parse(source), "anyserial"):
            top, _, rest = base.partition(".")
            if top == "pytest_anyserial":
                complaints.append(f"{module}:{line}: imports the plugin")
            if top != "anyserial":
                continue
            target = rest.partition(".")[0] or (name if name in sources else "__init__")
            if target not in sources:
                complaints.append(f"{module}:{line}: imports {target}, which does not exist")
            elif LEVEL.get(module, 0) <= LEVEL.get(target, 0):
                complaints.append(f"{module}:{line}: imports {target}, which is not below it")
    return complaints


def private_reaches(source: str, public: Mapping[str, Collection[str]]) -> list[str]:
    """What a source outside the library takes that is not in `public`, `{module: its names}`."""
    tree = ast.parse(source)
    complaints = []
    ours = set()
    for line, base, name in imports(tree, "."):
        if base.partition(".")[0] != "anyserial":
            continue
        if f"{base}.{name}" not in public and (base not in public or (name and name not in public[base])):
            complaints.append(f"{line}: {'.'.join(filter(None, (base, name)))} is not public")
        ours.add(name or "anyserial")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in ours:
                complaints.append(f"{node.lineno}: {ast.unparse(node)} is not public")
    return complaints


def platform_reads(source: str) -> list[str]:
    """Where a source asks for the operating system; a hint to type checkers does not count."""
    tree = ast.parse(source)
    hints = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and ast.unparse(node) in HINTS
        for part in ast.walk(node)
    }
    reads = [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in PLATFORM_QUESTIONS
        and id(node) not in hints
    ]
    reads += [(line, f"{base}.{name}") for line, base, name in imports(tree, "") if (base, name) in PLATFORM_QUESTIONS]
    return [f"{line}: {what}" for line, what in reads]


def library() -> dict[str, str]:
    return {file.stem: file.read_text(encoding="utf-8") for file in PACKAGE.glob("*.py")}


def outsiders() -> list[Path]:
    return sorted(file for folder in OUTSIDE for file in (ROOT / folder).rglob("*.py"))


@pytest.fixture(scope="module")
def public() -> dict[str, Collection[str]]:
    """Public modules and their names; `__version__` is a name like the others."""
    modules = ["anyserial", *(f"anyserial.{name}" for name in library() if not name.startswith("_"))]
    return {module: importlib.import_module(module).__all__ for module in modules}


def test_imports_point_down():
    """No module of the library imports from its own level or from above."""
    assert wrong_arrows(library()) == []


def test_the_library_is_one_flat_package():
    """Every module lies in one folder, so that the table of levels sees all of them."""
    assert [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE] == []


@pytest.mark.parametrize("file", outsiders(), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_outside_sees_public_names_only(file, public):
    """H-31: the plugin, the hardware suites and the examples could have been written by anybody."""
    assert private_reaches(file.read_text(encoding="utf-8"), public) == []


def test_one_module_knows_the_platform():
    """The platform is read in `_platform.py` alone; everything else is told."""
    reads = {module: platform_reads(source) for module, source in library().items()}
    assert reads.pop("_platform")
    assert {module: lines for module, lines in reads.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("from .stream import SerialPort", "stream"),
        ("from . import stream", "stream"),
        ("import anyserial.stream", "stream"),
        ("import anyserial.stream as port", "stream"),
        ("from anyserial.stream import SerialPort", "stream"),
        ("from anyserial import stream", "stream"),
        ("from anyserial import SerialPort", "__init__"),
        ("from . import SerialPort", "__init__"),
        ("import anyserial", "__init__"),
        ("def f():\n    from .stream import SerialPort", "stream"),
        ("if TYPE_CHECKING:\n    from .stream import SerialPort", "stream"),
        ("try:\n    from .stream import SerialPort\nexcept ImportError: ...", "stream"),
        ("import importlib\nimportlib.import_module('anyserial.stream')", "stream"),
        ("from importlib import import_module\nimport_module('.stream', __package__)", "stream"),
        ("__import__('anyserial.stream')", "stream"),
        ("from ._fd import FdBackend", "_fd"),
        ("from ._mock import MockBackend", "_mock"),
    ],
)
def test_an_arrow_that_does_not_point_down_is_found(source, target):
    """However it is spelt and wherever it hides; to a higher level, to a sister or to itself."""
    sources = dict.fromkeys(("__init__", "stream", "_fd", "_mock", "_closing", "config"), "")
    (complaint,) = wrong_arrows(sources | {"_fd": source})
    assert complaint.startswith("_fd:")
    assert complaint.endswith(f"imports {target}, which is not below it")


def test_an_arrow_that_points_down_is_fine():
    """Lower levels, the standard library and other packages may be imported."""
    source = "import os, anyio\nfrom ._fd import FdBackend\nfrom . import config\nfrom anyio.abc import ByteStream"
    assert wrong_arrows({"config": "", "_fd": "", "_mock": source}) == []


def test_a_cycle_is_found():
    """Of the arrows of a cycle at least one does not point down."""
    assert wrong_arrows({"_fd": "from ._mock import a", "_mock": "from ._fd import b"})
    assert wrong_arrows({"stream": "from .discovery import a", "discovery": "from .stream import b"})


def test_strangers_are_found():
    """A module without a level, an import of one that is not there, an import of the plugin."""
    assert wrong_arrows({"_new": ""}) == ["_new: has no level"]
    assert wrong_arrows({"_fd": "from ._new import x"}) == ["_fd:1: imports _new, which does not exist"]
    assert wrong_arrows({"testing": "import pytest_anyserial"}) == ["testing:1: imports the plugin"]


@pytest.mark.parametrize(
    "source",
    [
        "import anyserial._fd",
        "from anyserial._fd import FdBackend",
        "from anyserial import _fd",
        "from anyserial import anyio",
        "from anyserial.stream import anyio",
        "from anyserial.config import _parity",
        "from anyserial.nowhere import x",
        "def late():\n    from anyserial._fd import FdBackend",
        "import importlib\nimportlib.import_module('anyserial._fd')",
        "import anyserial\nanyserial._fd",
        "import anyserial.stream\nanyserial.stream._State",
        "from anyserial import SerialPort\nSerialPort._translating",
        "from anyserial import stream\nstream._State",
    ],
)
def test_a_private_reach_is_found(source, public):
    """H-31: private modules, private names and names that merely happen to be in a public module."""
    assert len(private_reaches(source, public)) == 1


def test_public_names_may_be_reached(public):
    """H-31: public names in every spelling, and other people's private ones, are nothing to find."""
    source = """
import anyserial, anyserial.testing, pytest
from anyserial import SerialPort, __version__, sync
from anyserial.testing import serial_port_pair
from ._links import Link
anyserial.SerialPort.open
pytest._version
self._port
"""
    assert private_reaches(source, public) == []


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.platform",
        "import sys\nif sys.platform == 'win32': ...",
        "from sys import platform",
        "import os\nos.name == 'nt'",
        "import platform\nplatform.system()",
        "import sys\nassert sys.platform == 'win32'",
    ],
)
def test_a_look_at_the_platform_is_found(source):
    """By any of its names."""
    assert len(platform_reads(source)) == 1


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_to_type_checkers_is_no_look_at_the_platform(hint):
    """L-204: a win32-only module narrows itself for the checkers and stays importable."""
    assert platform_reads(f"import sys, platform\n{hint}\nplatform.machine()") == []
