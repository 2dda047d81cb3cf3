"""What commands print on standard output: lines for people, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

__all__ = ["json_line", "lines", "plain"]

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}")


def plain(text: str) -> str:
    """Return `text` without control characters: much of it comes from servers, and terminals obey."""
    return text.translate(_CONTROLS)


def lines(texts: Iterable[str]) -> None:
    """Print each text as a line."""
    for text in texts:
        click.echo(plain(text))


def json_line(value: Any) -> None:
    """Print a JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
