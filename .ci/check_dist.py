#!/usr/bin/env python3
"""Check the distributions in a folder before they are published: .ci/check_dist.py FOLDER [TAG].

The wheel has its metadata, and what the source distribution has in `src`. With a tag, the version is that of the tag,
and the changelog has a section for it and no unreleased changes.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import IO


def problems(folder: Path, tag: str | None) -> Iterator[str]:
    """Say what must not be published like this."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1 or len(list(folder.iterdir())) != 2:
        yield f"{folder}: found {len(sdists)} sdists and {len(wheels)} wheels; wanted one of each, and nothing else"
        return
    with tarfile.open(sdists[0]) as tar:
        files = {member.name.partition("/")[2]: member for member in tar if member.isfile()}
        metadata, changelog = (_text(tar.extractfile(files[name])) for name in ("PKG-INFO", "CHANGELOG.md"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()

    version = Parser().parsestr(metadata)["Version"]
    expected = {f"pytest_anyserial-{version}.tar.gz", f"pytest_anyserial-{version}-py3-none-any.whl"}
    if {sdists[0].name, wheels[0].name} != expected:
        yield f"{folder}: {sdists[0].name} has version {version}, but the wheel is {wheels[0].name}"
    in_src = {name.removeprefix("src/") for name in files if name.startswith("src/")}
    in_wheel = {name for name in names if ".dist-info/" not in name}
    for name in sorted(in_src ^ in_wheel):
        yield f"{name}: only in the {'source distribution' if name in in_src else 'wheel'}"
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        if f"pytest_anyserial-{version}.dist-info/{name}" not in names:
            yield f"{name}: not in the wheel's metadata"
    if tag is None:
        return

    if tag != f"v{version}":
        yield f"tag {tag}: the version in pyproject.toml is {version}"
    sections = dict(re.findall(r"^## (\S+).*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE))
    if not sections.get(version, "").strip():
        yield f"CHANGELOG.md: no section for {version}"
    if sections.get("Unreleased", "").strip():
        yield f"CHANGELOG.md: changes that are not released; move them into the section for {version}"


def _text(file: IO[bytes] | None) -> str:
    return "" if file is None else file.read().decode("utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    found = list(problems(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
    print(*found or ["dist: ready" if len(sys.argv) > 2 else "dist: complete"], sep="\n")  # noqa: T201
    sys.exit(bool(found))
