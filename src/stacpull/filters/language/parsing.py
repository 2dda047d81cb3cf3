"""From what the user wrote to the tree of CQL2 JSON, with errors that point at the place."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from stacpull.errors import UsageError

__all__ = ["filter_text", "parse_filter", "pointed"]

_PLACE: Final = re.compile(r"--> (\d+):(\d+)")
_EXPECTED: Final = re.compile(r"= expected (.+)")
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_BARE_DATE: Final = re.compile(r"(?<![\w.])\d{4}-\d\d-\d\d(?![\d.])")
_KINDS: Final = (
    (frozenset({"Identifier", "DECIMAL", "SingleQuotedString", "Expr"}), "a value or a property is missing"),
    (frozenset({"And", "Or", "Eq"}), "AND, OR, a comparison or the end is expected"),
)


def parse_filter(text: str) -> Any:
    """Return the tree of CQL2 JSON that `text` means; text that begins with `{` is that JSON itself.

    Raises:
        UsageError: It cannot be parsed; the message shows the line with a mark under the place.
    """
    if text.lstrip().startswith("{"):
        return _json(text)
    bare = _BARE_DATE.search(_QUOTED.sub(lambda quoted: " " * len(quoted.group()), text))
    if bare is not None:
        raise _error(text, bare.start(), f"a date is written DATE('{bare.group()}')")
    return _text(text)


def filter_text(tree: Any) -> str:
    """Return a tree of CQL2 JSON as CQL2 text."""
    import cql2  # noqa: PLC0415 -- a run without a filter need not pay for it

    return str(cql2.Expr(tree).to_text())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _error(text, error.pos, f"this is no JSON: {error.msg}") from error
    except RecursionError:
        raise UsageError("--filter is nested too deeply to be read.") from None


def _text(text: str) -> Any:
    import cql2  # noqa: PLC0415 -- a run without a filter need not pay for it

    try:
        return cql2.Expr(text).to_json()
    except Exception as error:  # the library raises bare Exception, and no other class for text
        place = _PLACE.search(str(error))
        if place is None:
            raise UsageError(f"--filter cannot be read as CQL2: {error}") from error
        line, column = int(place[1]), int(place[2])
        offset = sum(len(one) for one in text.splitlines(keepends=True)[: line - 1]) + column - 1
        raise _error(text, offset, _expectation(str(error))) from error


def _expectation(message: str) -> str:
    """Return what the parser expected, in words for people: it names the rules of its grammar."""
    expected = _EXPECTED.search(message)
    rules = frozenset(re.findall(r"\w+", expected[1])) if expected else frozenset()
    return next((words for kinds, words in _KINDS if kinds & rules), "this is no CQL2")


def _error(text: str, offset: int, problem: str) -> UsageError:
    return UsageError(f"--filter: {problem}, here:\n{pointed(text, offset)}")


def pointed(text: str, offset: int) -> str:
    """Return the line of `text` that holds `offset`, and below it a mark under that place."""
    offset = min(offset, len(text))
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].partition("\n")[0]
    return f"  {line.expandtabs(1)}\n  {' ' * (offset - start)}^"
