"""A config that a link cannot have: from the project's own `serial_config`, or from a driver that opens the path."""

from __future__ import annotations

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

PTY = ["--serial-links=pty", "--serial-loops=asyncio"]
EVEN = """
    import pytest
    from anyserial import Parity, SerialConfig, open_serial_port, sync

    @pytest.fixture
    def serial_config():
        return SerialConfig(parity=Parity.EVEN)
"""
USES = {
    "an async port": "async def test_it(serial_port): pass",
    "a script": "async def test_it(serial_script): pass",
    "a blocking port": "def test_it(sync_serial_port): pass",
    "a path": "def test_it(serial_path, serial_config): sync.open_serial_port(serial_path, serial_config)",
    "a fixture with a path": """
        @pytest.fixture
        async def meter(serial_path, serial_config):
            return serial_path, serial_config

        async def test_it(meter):
            await open_serial_port(*meter)
    """,
    "the factory": """
        async def test_it(serial_factory):
            async with serial_factory(): pass
    """,
}


@pytest.mark.parametrize("use", USES)
def test_an_overridden_config_is_a_need(project: Project, use: str) -> None:
    """P-112, P-41: the test is skipped as with the mark, and the reason names the fixture."""
    project.file("test_it.py", EVEN, USES[use])
    run = project.run(*PTY, "-rs")
    assert list(run.outcomes().values()) == ["skipped"]
    assert (
        'needs parity even: link "pty" UNSUPPORTED: a pseudo-terminal has none; '
        "asked for by serial_config at test_it.py:5"
    ) in run.text


def test_a_driver_that_asks_a_pty_for_parity_gets_a_section(project: Project) -> None:
    """P-112: the error is the pty's limit; the section says how the test is skipped there."""
    project.file(
        "test_it.py",
        EVEN.partition("@pytest.fixture")[0],
        """
        async def connect(path):
            try:
                return await open_serial_port(path, SerialConfig(parity=Parity.EVEN))
            except OSError as exc:
                raise RuntimeError("no meter") from exc

        async def test_it(serial_path):
            await connect(serial_path)
        """,
    )
    run = project.run(*PTY)
    ((title, text),) = (
        section for report in run.reports for section in report.sections if section[0].startswith("setting of ")
    )
    assert title.endswith("/a")
    assert "the driver did not take the parity [EINVAL]. A pseudo-terminal has no parity" in text
    assert "@pytest.mark.anyserial(config=SerialConfig(...))" in text


@pytest.mark.parametrize("name", ["serial_port", "serial_peer", "serial_pair"])
def test_a_synchronous_test_with_an_async_port_is_refused(project: Project, name: str) -> None:
    """P-113: it used to pass with a warning, and its ports did nothing."""
    run = project.run("--serial-loops=trio", test=f"def test_it({name}): pass")
    assert run.outcomes() == {"test_it[mock-trio]": "error in setup"}
    assert run.problem("test_it[mock-trio]").startswith(f"a `def` test cannot use {name}: an async port works in")


def test_a_synchronous_test_may_use_a_port_from_a_fixture(project: Project) -> None:
    """P-113: an async fixture of the project is set up on the loop, whatever the test is."""
    run = project.run(
        "--serial-loops=trio",
        test="""
        import pytest

        @pytest.fixture
        async def first(serial_port, serial_peer):
            await serial_peer.send(b"x")
            return await serial_port.receive()

        def test_it(first):
            assert first == b"x"
        """,
    )
    assert run.outcomes() == {"test_it[mock-trio]": "passed"}
