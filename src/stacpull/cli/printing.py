"""Prints lines, JSON and help; formats sizes, rates and durations."""

import os
import sys
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TextIO

import click

_C1 = range(0x7F, 0xA0)  # DEL, and characters that some terminals treat like escape sequences
_BIDI_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # change the direction of text (UAX 9, 2)
_CONTROLS = dict.fromkeys((*range(0x20), *_C1, 0x2028, 0x2029, *_BIDI_CONTROLS), "\N{REPLACEMENT CHARACTER}")
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
"""Surrogates, which stand for bytes of a path that are not UTF-8: many parsers of JSON refuse them."""
_ESCAPED = _SURROGATES | {code: f"\\u{code:04x}" for code in (*_C1, 0x2028, 0x2029, *_BIDI_CONTROLS)}


def plain(text: str) -> str:
    """Return `text` without control characters: it may come from servers, and terminals would obey them."""
    return text.translate(_CONTROLS)


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return `text` in a colour if `stream` is a terminal that shows it and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return click.style(text, fg=colour)


def is_terminal(stream: TextIO) -> bool:
    """Return whether the cursor of `stream` can be moved."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "ascii").lower() in {"utf-8", "utf8"}


def lines(texts: Iterable[str]) -> None:
    for text in texts:
        click.echo(plain(text))


def json_line(value: Any) -> None:
    """Print a JSON document on one line; characters that a terminal obeys or cannot show are escaped."""
    import json

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)
    if not is_utf8(sys.stdout):
        text = json.dumps(json.loads(text), separators=(",", ":"))
    click.echo(text)


class Verbosity:
    quiet = False
    verbose = 0


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_TIMES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(amount: float) -> str:
    unit = digits = 0
    while round(amount, digits) >= 1000 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - decimal units
        amount /= 1000
        unit += 1
        digits = 1
    return f"{amount:.{digits}f} {_UNITS[unit]}"


def rate(amount: float, seconds: float) -> str:
    return f"{size(amount / seconds)}/s" if seconds > 0 else "- B/s"


def of_total(number: int, total: int | None) -> str:
    return f"{number:,} of {total:,}" if total else f"{number:,}"


def duration(seconds: float) -> str:
    if round(seconds, 1) < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (unit, name), (smaller, smaller_name) in pairwise(_TIMES):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole} s"
