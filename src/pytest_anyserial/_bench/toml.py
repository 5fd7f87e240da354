"""Write tables as TOML in ASCII with tomlkit: the same bytes in every locale, and no escape sequences for a terminal.

The only module that needs tomlkit, which is optional.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tomlkit

from .._text import plain


def stanza(match: Mapping[str, Any]) -> str:
    """`match = {vid = 0x0403, pid = 0x6001, serial_number = "FT4XYZ"}`."""
    return _written({"match": _inline(match)}).rstrip()


def port(name: str, match: Mapping[str, Any]) -> str:
    """The table of a port."""
    return _written({"ports": {name: {"match": _inline(match)}}})


def link(name: str, keys: Mapping[str, Any]) -> str:
    """The table of a link."""
    return _written({"links": {name: keys}})


def comment(text: str) -> str:
    """Return `text` as a comment, line by line."""
    return "".join(f"# {plain(line)}".rstrip() + "\n" for line in text.split("\n"))


def _inline(match: Mapping[str, Any]) -> object:
    table = tomlkit.inline_table()
    for key, value in match.items():
        # USB ids are usually written in hexadecimal.
        table[key] = tomlkit.value(f"0x{value:04x}") if key in ("vid", "pid") else value
    return table


def _written(table: Mapping[str, Any]) -> str:
    # Keys are ASCII here, so every other character is inside a string, where TOML has these escapes.
    return re.sub(r"[^\n -~]", _escape, tomlkit.dumps(table))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
