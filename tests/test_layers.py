"""Import rules: arrows point down only, the outside sees public names, one module knows the platform.

The sources are read, not run, so an import inside a function or under `TYPE_CHECKING` counts like any other.
"""

import ast
import graphlib
import importlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import anyserial

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

PACKAGE = Path(anyserial.__file__).parent
PLUGIN_PACKAGE = PACKAGE.with_name("pytest_anyserial")
ROOT = Path(__file__).resolve().parent.parent

# From the bottom up; a file or folder imports from the rows below its own. Inside a folder there is no circle.
LIBRARY = (
    "exceptions _buffers _dataclass _fork",
    "_types",
    "config",
    "capabilities",
    "_discovery",
    "_backends",
    "_platform",
    "_port discovery",
    "stream",
    "_sync _conformance",
    "sync",
    "testing",
    "__init__",
)

PLUGIN = (
    "_keys _names _run_async _text",
    "_facts _files _library _new _options",
    "_loops strategies _wire",
    "_bench _time",
    "_test _transcript _doctor",
    "_recordings",
    "_links _views",
    "_hooks _matrix _device",
    "_fixtures _report framing",
    "_body",
    "_guard _runners",
    "_mutation",
    "__init__",
    "__main__",
)

OUTSIDE = ("src/pytest_anyserial", "hil", "docs/examples")
# How a module that lives on one side of the divide narrows itself for type checkers; true at run time.
HINTS = tuple(f"assert sys.platform {home} or not TYPE_CHECKING" for home in ("== 'win32'", "!= 'win32'", "== 'linux'"))
PLATFORM_QUESTIONS = {("sys", "platform"), ("os", "name"), ("platform", "system")}


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str, str]]:
    """`(line, module, name)` of every import in `tree`, which lies in `package`; for `import module` without a name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name, ""
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split(".")
                base = ".".join(filter(None, (*(above[: len(above) - level + 1] if level else ()), module)))
                for alias in names:
                    yield node.lineno, base, alias.name
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, f"{package}{module}" if module.startswith(".") else module, ""


def modules_in(package: Path) -> dict[str, str]:
    """The sources of a package by dotted name below it; the module of a folder itself ends in `__init__`."""
    return {
        ".".join(file.relative_to(package).with_suffix("").parts): file.read_text(encoding="utf-8")
        for file in package.rglob("*.py")
    }


def arrows(package: str, sources: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """`(module, line, target)` for every import of a package from itself; a target is a module or does not exist."""
    for module, source in sources.items():
        folder = ".".join([package, *module.split(".")[:-1]])
        for line, base, name in imports(ast.parse(source), folder):
            top, _, rest = base.partition(".")
            if top != package:
                continue
            path = rest.split(".") if rest else []
            candidates = [[*path, name], [*path, name, "__init__"], path, [*path, "__init__"]]
            found = (".".join(candidate) for candidate in candidates)
            yield module, line, next((each for each in found if each in sources), ".".join(path))


def wrong_arrows(sources: Mapping[str, str], table: Collection[str], package: str = "anyserial") -> list[str]:
    """What the modules of a package, as `{name: source}`, import that they may not, by a table of levels."""
    level = {room: number for number, row in enumerate(table) for room in row.split()}
    complaints = [f"{module}: has no level" for module in sources if room_of(module) not in level]
    for module, source in sources.items():
        complaints += [
            f"{module}:{line}: imports the plugin"
            for line, base, _ in imports(ast.parse(source), package)
            if base.partition(".")[0] == "pytest_anyserial" != package
        ]
    for module, line, target in arrows(package, sources):
        room = room_of(target)
        if target not in sources:
            complaints.append(f"{module}:{line}: imports {target}, which does not exist")
        elif room_of(module) != room and level.get(room_of(module), 0) <= level.get(room, 0):
            complaints.append(f"{module}:{line}: imports {target}, which is not below it")
    return complaints


def room_of(module: str) -> str:
    """The file or folder at the top of a package that a module is or lies in."""
    return module.partition(".")[0]


def circles(edges: Iterable[tuple[str, str]]) -> list[str]:
    """What cannot be put in an order; empty if nothing imports itself by any way."""
    sorter = graphlib.TopologicalSorter[str]()
    for importer, imported in edges:
        if importer != imported:
            sorter.add(importer, imported)
    try:
        sorter.prepare()
    except graphlib.CycleError as exc:
        return list(exc.args[1])
    return []


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


def outsiders() -> list[Path]:
    return sorted(file for folder in OUTSIDE for file in (ROOT / folder).rglob("*.py"))


@pytest.fixture(scope="module")
def public() -> dict[str, Collection[str]]:
    """Public modules and their names; `__version__` is a name like the others."""
    modules = ["anyserial", *(f"anyserial.{name}" for name in modules_in(PACKAGE) if not name.startswith("_"))]
    return {module: importlib.import_module(module).__all__ for module in modules}


def test_imports_point_down():
    """No file or folder of the library imports from its own level or from above."""
    assert wrong_arrows(modules_in(PACKAGE), LIBRARY) == []


def test_no_circle_in_the_library():
    """Neither between modules, inside folders too, nor between the folders in a folder."""
    found = list(arrows("anyserial", modules_in(PACKAGE)))
    assert circles((module, target) for module, _, target in found) == []
    folders = ((module.rpartition(".")[0], target.rpartition(".")[0]) for module, _, target in found)
    assert circles((folder, other) for folder, other in folders if folder and other) == []


def test_imports_of_the_plugin_point_down():
    """P-03, P-04: no file or folder of the plugin imports from its own level or from above."""
    assert wrong_arrows(modules_in(PLUGIN_PACKAGE), PLUGIN, "pytest_anyserial") == []


def test_no_circle_in_the_plugin():
    """Neither between modules, inside folders too, nor between its files and folders."""
    found = list(arrows("pytest_anyserial", modules_in(PLUGIN_PACKAGE)))
    assert circles((module, target) for module, _, target in found) == []
    assert circles((room_of(module), room_of(target)) for module, _, target in found) == []


@pytest.mark.parametrize("package", [PACKAGE, PLUGIN_PACKAGE], ids=lambda package: package.name)
def test_a_package_is_folders_of_short_files(package):
    """At most 22 files at its top, and none above 480 lines."""
    sources = modules_in(package)
    assert sum("." not in module for module in sources) <= 22
    assert {module: lines for module, source in sources.items() if (lines := source.count("\n")) > 480} == {}


@pytest.mark.parametrize("file", outsiders(), ids=lambda file: str(file.relative_to(ROOT)))
def test_outside_code_imports_public_names_only(file, public):
    """H-31: the plugin, the hardware suites and the examples could have been written by anybody."""
    assert private_reaches(file.read_text(encoding="utf-8"), public) == []


def test_one_module_reads_the_platform():
    """The platform is read in `_platform.py` alone; everything else is told."""
    reads = {module: platform_reads(source) for module, source in modules_in(PACKAGE).items()}
    assert reads.pop("_platform")
    assert {module: lines for module, lines in reads.items() if lines} == {}


TABLE = ("low", "_folder", "high", "__init__")
SOURCES = dict.fromkeys(("low", "_folder.__init__", "_folder.one", "_folder.two", "high", "__init__"), "")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("from ..high import Port", "high"),
        ("from .. import high", "high"),
        ("import anyserial.high", "high"),
        ("import anyserial.high as port", "high"),
        ("from anyserial.high import Port", "high"),
        ("from anyserial import high", "high"),
        ("from anyserial import Port", "__init__"),
        ("from .. import Port", "__init__"),
        ("import anyserial", "__init__"),
        ("def f():\n    from ..high import Port", "high"),
        ("if TYPE_CHECKING:\n    from ..high import Port", "high"),
        ("try:\n    from ..high import Port\nexcept ImportError: ...", "high"),
        ("import importlib\nimportlib.import_module('anyserial.high')", "high"),
        ("__import__('anyserial.high')", "high"),
    ],
)
def test_an_upward_import_is_found(source, target):
    """However it is spelt and wherever it hides."""
    (complaint,) = wrong_arrows(SOURCES | {"_folder.one": source}, TABLE)
    assert complaint.startswith("_folder.one:")
    assert complaint.endswith(f"imports {target}, which is not below it")


def test_a_downward_import_passes():
    """Lower levels, sisters in the same folder, the standard library and other packages may be imported."""
    source = (
        "import os, anyio\nfrom ..low import x\nfrom .two import y\nfrom .. import low\nfrom anyio.abc import Stream"
    )
    assert wrong_arrows(SOURCES | {"_folder.one": source}, TABLE) == []


def test_a_circle_is_found():
    """Of modules, over any number of steps; sisters that import one another in one direction make none."""
    found = arrows("anyserial", SOURCES | {"_folder.one": "from .two import a", "_folder.two": "from . import one"})
    assert {"_folder.one", "_folder.two"} <= set(circles((module, target) for module, _, target in found))
    assert circles([("a", "b"), ("b", "c"), ("c", "a")])
    assert circles([("a", "b"), ("b", "c"), ("a", "c")]) == []


def test_unknown_and_forbidden_modules_are_found():
    """A module without a level, an import of one that is not there, an import of the plugin."""
    assert wrong_arrows({"_new.part": ""}, TABLE) == ["_new.part: has no level"]
    assert wrong_arrows(SOURCES | {"high": "from ._new import x"}, TABLE) == [
        "high:1: imports _new, which does not exist"
    ]
    assert wrong_arrows(SOURCES | {"high": "import pytest_anyserial"}, TABLE) == ["high:1: imports the plugin"]


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
def test_an_import_of_a_private_name_is_found(source, public):
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
def test_a_read_of_the_platform_is_found(source):
    """By any of its names."""
    assert len(platform_reads(source)) == 1


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_to_type_checkers_does_not_count(hint):
    """L-204: a win32-only module narrows itself for the checkers and stays importable."""
    assert platform_reads(f"import sys, platform\n{hint}\nplatform.machine()") == []
