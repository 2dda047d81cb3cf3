"""From text to tokens (ECMA-262, 12): names, numbers, strings, marks; comments and white space go."""

from __future__ import annotations

import re
from typing import NamedTuple

from stacpull_replicas.sentinelhub.evalscript.errors import ScriptError

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<name>[A-Za-z_$][\w$]*)
    |(?P<mark>===|!==|\*\*=?|<<=?|>>=?|=>|==|!=|<=|>=|&&|\|\||\+\+|--|[-+*/%&|^]=|[-+*/%<>=!?:;,.(){}\[\]&|^~])""",
    re.DOTALL | re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """A token: `kind` is number, string, name, mark or end; `fresh` if a new line began before it."""

    kind: str
    text: str
    line: int
    fresh: bool


def tokens_of(text: str) -> list[Token]:
    """All tokens of a text, with one of kind `end` behind them. Raises ScriptError."""
    found: list[Token] = []
    place, line, fresh = 0, 1, True
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ScriptError(f"line {line}: unexpected character {text[place]!r}")
        kind, lexeme = str(match.lastgroup), match[0]
        if kind == "space":
            fresh = fresh or "\n" in lexeme
        else:
            found.append(Token(kind, lexeme, line, fresh))
            fresh = False
        line += lexeme.count("\n")
        place = match.end()
    return [*found, Token("end", "the end", line, fresh=True)]
