"""Tables as TOML text in ASCII, written by tomlkit: the same bytes in every locale, and nothing for a terminal to obey.

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
    """`text` as a comment, of a line for each of its lines."""
    return "".join(f"# {plain(line)}".rstrip() + "\n" for line in text.split("\n"))


def _inline(match: Mapping[str, Any]) -> object:
    table = tomlkit.inline_table()
    for key, value in match.items():
        # USB ids are spoken of in hexadecimal.
        table[key] = tomlkit.value(f"0x{value:04x}") if key in ("vid", "pid") else value
    return table


def _written(table: Mapping[str, Any]) -> str:
    # Keys are ASCII here, so what is not stands in a string, where TOML has these escapes for it.
    return re.sub(r"[^\n -~]", _escape, tomlkit.dumps(table))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
