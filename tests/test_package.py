"""The package as others meet it: its names, what importing it costs, what it asks to be installed."""

import ast
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import anyserial

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

TOP_LEVEL = [
    "ByteSize",
    "BytesLike",
    "Capability",
    "CommEvent",
    "ConfigurationError",
    "ControlLines",
    "DiscoveryBackend",
    "FlowControl",
    "LineErrors",
    "ModemLines",
    "Parity",
    "PortBusyError",
    "PortInfo",
    "PortNotFoundError",
    "PortPermissionError",
    "RS485Config",
    "SerialCapabilities",
    "SerialClosedError",
    "SerialConfig",
    "SerialConnectable",
    "SerialDisconnectedError",
    "SerialError",
    "SerialPort",
    "SerialStats",
    "SerialStreamAttribute",
    "StopBits",
    "UnsupportedAsyncBackendError",
    "UnsupportedConfigurationError",
    "UnsupportedFeatureError",
    "UnsupportedPlatformError",
    "UnsupportedPolicy",
    "UnsupportedSettingError",
    "__version__",
    "canonical_port_name",
    "find_serial_port",
    "list_serial_ports",
    "open_serial_port",
    "register_scheme",
]

MODULES = {
    "config": ["ByteSize", "FlowControl", "Parity", "RS485Config", "SerialConfig", "StopBits", "UnsupportedPolicy"],
    "exceptions": [name for name in TOP_LEVEL if name.endswith("Error")] + ["errno_to_exception"],
    "capabilities": ["Capability", "SerialCapabilities", "SerialStreamAttribute", "UnsupportedPolicy"],
    "discovery": ["DiscoveryBackend", "PortInfo", "canonical_port_name", "find_serial_port", "list_serial_ports"],
    "stream": ["SerialConnectable", "SerialPort", "open_serial_port", "register_scheme"],
    "sync": ["SerialConnectable", "SerialPort", "configure_portal", "open_serial_port", "portal_provider"],
    "testing": [
        "FaultAction",
        "FaultEvent",
        "FaultPlan",
        "FiredFault",
        "MockBackend",
        "MockBus",
        "MockPair",
        "OpenedPort",
        "PortListener",
        "PtyPair",
        "check_port_pair",
        "faults_of",
        "mock_bus",
        "mock_pair",
        "opened_ports",
        "pty_pair",
        "published_ports",
        "serial_port_pair",
        "watch_ports",
    ],
}

PACKAGE = Path(anyserial.__file__).parent
EVERY_MODULE = sorted(f"anyserial.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)]))
PUBLIC_MODULES = ["anyserial", *(f"anyserial.{name}" for name in MODULES)]

# Python source: `refuse(names)` makes importing any of them fail as if it were not installed.
REFUSE = """
import sys

class Refusal:
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def refuse(*names):
    for name in names:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Refusal(names))
"""


def run(program, *arguments):
    """The standard output of `program` in a fresh interpreter."""
    command = [sys.executable, "-c", REFUSE + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def requirements():
    return [Requirement(text) for text in importlib.metadata.requires("pytest-anyserial") or []]


def installed(extra="", **environment):
    """What `pip install pytest-anyserial[extra]` asks for in `environment`, without the markers."""
    return {
        f"{requirement.name}{requirement.specifier}"
        for requirement in requirements()
        if requirement.marker is None
        or requirement.marker.evaluate({**default_environment(), **environment, "extra": extra})
    }


def test_the_top_level_holds_exactly_these_names():
    """L-07, C3: `__all__` is the promise, and every name in it is there."""
    assert sorted(anyserial.__all__) == sorted(TOP_LEVEL)
    assert len(set(anyserial.__all__)) == len(anyserial.__all__)
    for name in TOP_LEVEL:
        assert getattr(anyserial, name) is not None


def test_a_star_import_gives_these_names():
    """L-07: `from anyserial import *` works and brings nothing else."""
    namespace = {}
    exec("from anyserial import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(TOP_LEVEL)


@pytest.mark.parametrize(("module", "names"), MODULES.items())
def test_each_public_module_holds_exactly_its_names(module, names):
    """L-07, C43: the modules' names; a name shared with the top level is the same object."""
    loaded = importlib.import_module(f"anyserial.{module}")
    assert sorted(loaded.__all__) == sorted(names)
    for name in names:
        value = getattr(loaded, name)
        if module not in ("sync", "testing") and name in TOP_LEVEL:
            assert value is getattr(anyserial, name)


def test_the_public_modules_are_these():
    """L-07: every other module of the package is private by its name."""
    assert [name for name in EVERY_MODULE if not name.startswith("anyserial._")] == sorted(PUBLIC_MODULES[1:])


def test_public_objects_have_a_docstring():
    """Whatever can be imported says what it is."""
    for module in PUBLIC_MODULES:
        loaded = importlib.import_module(module)
        assert loaded.__doc__
        for name in loaded.__all__:
            value = getattr(loaded, name)
            if getattr(value, "__module__", "").startswith("anyserial"):
                assert value.__doc__, f"{module}.{name} has no docstring"


def test_the_version_is_the_installed_one():
    """L-07: `__version__` is a non-empty string, the one in the metadata."""
    assert isinstance(anyserial.__version__, str)
    assert anyserial.__version__ == importlib.metadata.version("pytest-anyserial") != ""


@pytest.mark.parametrize("package", ["anyserial", "pytest_anyserial"])
def test_the_packages_are_typed(package):
    """Type checkers find the annotations of both packages."""
    spec = importlib.util.find_spec(package)
    assert (Path(spec.origin).parent / "py.typed").is_file()


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_importing_needs_no_optional_package(module):
    """L-02, D9, A4, B1: no public module imports or needs a loop, sniffio or an enumerator."""
    optional = ("trio", "uvloop", "winloop", "sniffio", "pyudev", "serial", "pytest", "hypothesis")
    loaded = run(
        f"""
refuse(*{optional!r})
import {module}
print(*sorted(sys.modules))
"""
    ).split()
    assert module in loaded
    assert not set(loaded) & set(optional)


def test_a_session_on_asyncio_needs_no_sniffio():
    """B1, A4: open, exchange, configure and close work with sniffio, trio and uvloop absent."""
    output = run(
        """
refuse("sniffio", "trio", "uvloop")
import anyio
from anyserial import SerialConfig
from anyserial.testing import serial_port_pair

async def main():
    a, b = serial_port_pair()
    async with a, b:
        await a.send(b"hello")
        print((await b.receive(5)).decode())
        await a.configure(SerialConfig(baudrate=9600))
        await a.drain()

anyio.run(main)
"""
    )
    assert output == "hello\n"


def test_the_package_leaves_the_loop_alone():
    """L-03, A5, D5: the loop that runs, and the one made next, are what they were before import and use."""
    output = run(
        """
import asyncio
before = type(asyncio.new_event_loop())

from anyserial.testing import serial_port_pair

async def main():
    a, b = serial_port_pair()
    async with a, b:
        await a.send(b"x")
        await b.receive(1)
    return type(asyncio.get_running_loop())

print(asyncio.run(main()) is before, type(asyncio.new_event_loop()) is before)
"""
    )
    assert output == "True True\n"


@pytest.mark.parametrize("platform", ["darwin", "emscripten", "freebsd14", "linux", "plan9", "win32"])
def test_importing_works_on_every_platform(platform):
    """L-02, L-29: no import fails, also where there is no backend."""
    output = run(
        """
import anyio.abc, anyio.from_thread, anyio.lowlevel, anyio.streams.file, anyio.to_thread
import asyncio, importlib, logging, select, socket, subprocess, tempfile

sys.platform = sys.argv[1]
if sys.platform in ("emscripten", "plan9", "win32"):
    refuse("termios", "fcntl", "grp", "pwd", "pty", "tty")
for name in sys.argv[2:]:
    importlib.import_module(name)
print("fine")
""",
        platform,
        *PUBLIC_MODULES,
    )
    assert output == "fine\n"


def test_the_source_is_python_3_11():
    """L-01: no syntax of a later version, no `type` statement, no type parameters."""
    for source in PACKAGE.parent.glob("*/*.py"):
        ast.parse(source.read_text(encoding="utf-8"), str(source), feature_version=(3, 11))


def test_a_later_syntax_would_be_found():
    """L-01: the check above fails on what 3.12 added."""
    with pytest.raises(SyntaxError):
        ast.parse("type Path = str", feature_version=(3, 11))
    with pytest.raises(SyntaxError):
        ast.parse("def first[T](items: list[T]) -> T: ...", feature_version=(3, 11))


def test_the_metadata_names_python_versions_and_systems():
    """C1, D10: Python 3.11 and later; the classifiers name 3.11 to 3.14, POSIX and Windows."""
    metadata = importlib.metadata.metadata("pytest-anyserial")
    supported = SpecifierSet(metadata["Requires-Python"])
    assert "3.11" in supported
    assert "3.14" in supported
    assert "3.10" not in supported
    classifiers = set(metadata.get_all("Classifier"))
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= classifiers
    assert {"Operating System :: POSIX", "Operating System :: Microsoft :: Windows"} <= classifiers
    assert "Programming Language :: Python :: 3.10" not in classifiers


def test_the_only_dependency_is_anyio():
    """D10, A7: `anyio>=4.13` on every Python; no plugin for AnyIO's tests is needed."""
    for version in ("3.11", "3.12", "3.13", "3.14"):
        assert installed(python_version=version) == {"anyio>=4.13"}
    assert "pytest-anyio" not in {requirement.name for requirement in requirements()}


def test_typing_extensions_may_be_old():
    """L-10: AnyIO 4.13 is content with 4.5, which has no `Buffer` yet: buffers are known by their types."""
    output = run(
        """
import anyio.from_thread, anyio.streams.file, anyio.to_thread
vars(sys.modules.get("typing_extensions", sys)).pop("Buffer", None)
import anyserial
print([isinstance(value, anyserial.BytesLike) for value in (b"x", bytearray(1), memoryview(b"x"), "x", [1])])
"""
    )
    assert output == "[True, True, True, False, False]\n"


def test_the_package_works_without_its_metadata():
    """L-07: a frozen application, or one with a copy of the sources, has none; the version is then unknown."""
    output = run(
        """
import importlib.metadata
importlib.metadata.MetadataPathFinder.find_distributions = lambda *_, **__: iter(())
import anyserial, anyserial.sync, anyserial.testing
print(anyserial.__version__)
"""
    )
    assert output == "0+unknown\n"


POSIX = {"linux", "darwin", "freebsd14"}
PLATFORMS = {*POSIX, "win32"}
# What uvloop has wheels for, beside the system.
UVLOOP = {"platform_machine": "x86_64", "platform_python_implementation": "CPython"}
# What an extra adds, from which version on, and where.
EXTRAS = {
    "uvloop": ("uvloop>=0.22.1", POSIX),
    "trio": ("trio>=0.32", PLATFORMS),
    "winloop": ("winloop>=0.1.1", {"win32"}),
    "discovery-pyudev": ("pyudev>=0.24", {"linux"}),
    "discovery-pyserial": ("pyserial>=3.5", PLATFORMS),
}


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_adds_its_package_where_it_exists(extra, platform):
    """L-04, A18, D4: an extra whose marker is false installs cleanly and adds nothing."""
    wanted, platforms = EXTRAS[extra]
    assert extra in importlib.metadata.metadata("pytest-anyserial").get_all("Provides-Extra")
    added = installed(extra, sys_platform=platform, **UVLOOP) - installed(sys_platform=platform)
    assert added == ({wanted} if platform in platforms else set())


@pytest.mark.parametrize("extra", ["uvloop", "pytest"])
@pytest.mark.parametrize(
    ("machine", "python", "has_wheels"),
    [
        ("x86_64", "CPython", True),
        ("aarch64", "CPython", True),
        ("arm64", "CPython", True),
        ("x86_64", "PyPy", False),
        *((machine, "CPython", False) for machine in ("armv6l", "armv7l", "i686", "ppc64le", "riscv64", "s390x")),
    ],
)
def test_uvloop_is_asked_for_where_it_has_wheels(extra, machine, python, has_wheels):
    """L-04: elsewhere pip would have to compile it; asyncio and trio are there without."""
    names = installed(extra, sys_platform="linux", platform_machine=machine, platform_python_implementation=python)
    assert ("uvloop>=0.22.1" in names) is has_wheels


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
def test_the_pytest_extra_brings_every_loop(platform):
    """L-04, A18: a driver's test run gets pytest, trio, and uvloop where it exists."""
    names = {requirement.partition(">")[0] for requirement in installed("pytest", sys_platform=platform, **UVLOOP)}
    assert {"pytest", "trio"} <= names
    assert ("uvloop" in names) is (platform in POSIX)


def test_the_plugin_is_found_by_pytest():
    """P-04: the entry point is the light package itself."""
    (point,) = [
        point
        for point in importlib.metadata.entry_points(group="pytest11")
        if point.value.startswith("pytest_anyserial")
    ]
    assert (point.name, point.value) == ("pytest_anyserial", "pytest_anyserial")
