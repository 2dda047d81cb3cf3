"""What commands print on standard output: lines for people, or JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import click

__all__ = ["json_line", "lines", "paint", "plain"]

_C1 = range(0x7F, 0xA0)  # DEL and what some terminals obey as they do escape sequences
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # turn the direction of what follows (UAX 9, 2)
_CONTROLS = dict.fromkeys((*range(0x20), *_C1, 0x2028, 0x2029, *_TURNS), "\N{REPLACEMENT CHARACTER}")
_ESCAPED = {code: f"\\u{code:04x}" for code in (*_C1, 0x2028, 0x2029, *_TURNS)}


def plain(text: str) -> str:
    """Return `text` without control characters: much of it comes from servers, and terminals obey."""
    return text.translate(_CONTROLS)


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return `text` in a colour if `stream` is a terminal that shows it and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return click.style(text, fg=colour)


def lines(texts: Iterable[str]) -> None:
    """Print each text as a line."""
    for text in texts:
        click.echo(plain(text))


def json_line(value: Any) -> None:
    """Print a JSON document on one line; what a terminal would obey, or cannot show, is escaped."""
    import json

    ascii_only = (sys.stdout.encoding or "ascii").lower() not in {"utf-8", "utf8"}
    click.echo(json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).translate(_ESCAPED))
