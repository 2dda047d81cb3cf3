"""The syntax of evalscripts: from text to tokens (ECMA-262, 12) to a tree of statements and expressions.

A recursive-descent parser for the part of ECMA-262 that indices need: functions, `var`, `let`, `const`,
assignment, `if`, `return`, arithmetic, comparison, logic, bits, `?:`, members, elements, arrays, records, and
arrow functions bound to a name. Loops, classes, templates and everything else are refused, and the message
names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar


class ScriptError(Exception):
    """The script cannot be parsed, or uses something that is not supported."""


class ScriptFault(Exception):  # noqa: N818 - an error of the script at run time
    """The script failed at run time: an undefined name, or a value of the wrong kind."""


_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<name>[A-Za-z_$][\w$]*)
    |(?P<mark>===|!==|\*\*=?|<<=?|>>=?|=>|==|!=|<=|>=|&&|\|\||\+\+|--|[-+*/%&|^]=|[-+*/%<>=!?:;,.(){}\[\]&|^~])""",
    re.DOTALL | re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """A token. `kind` is number, string, name, mark or end; `fresh` is True for the first on a line."""

    kind: str
    text: str
    line: int
    fresh: bool


def tokens_of(text: str) -> list[Token]:
    """Return all tokens of a text, followed by one of kind `end`.

    Raises:
        ScriptError: The text has an unexpected character.
    """
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


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Member:
    """`of.name`."""

    of: ScriptExpression
    name: str


@dataclass(frozen=True)
class Element:
    """`of[place]`."""

    of: ScriptExpression
    place: ScriptExpression


@dataclass(frozen=True)
class Call:
    """`function(arguments)`; the function is a name, or dotted names such as `Math.abs`."""

    function: str
    arguments: tuple[ScriptExpression, ...]


@dataclass(frozen=True)
class Unary:
    """`operator of`."""

    operator: str
    of: ScriptExpression


@dataclass(frozen=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: ScriptExpression
    right: ScriptExpression


@dataclass(frozen=True)
class Conditional:
    """`condition ? yes : no`."""

    condition: ScriptExpression
    yes: ScriptExpression
    no: ScriptExpression


@dataclass(frozen=True)
class Array:
    """`[...]`."""

    elements: tuple[ScriptExpression, ...]


@dataclass(frozen=True)
class Record:
    """`{name: value, ...}`."""

    members: tuple[tuple[str, ScriptExpression], ...]


ScriptExpression = (
    Number | Text | Name | Member | Element | Call | Unary | Binary | Conditional | Array | Record
)


@dataclass(frozen=True)
class Declare:
    """`let name = value`; without a value, the variable is undefined."""

    name: str
    value: ScriptExpression | None
    constant: bool


@dataclass(frozen=True)
class Assign:
    """`name = value`; for `name += value`, the value is the sum."""

    name: str
    value: ScriptExpression


@dataclass(frozen=True)
class If:
    """`if (condition) yes else no`."""

    condition: ScriptExpression
    yes: Statement
    no: Statement | None


@dataclass(frozen=True)
class Block:
    """`{ ... }`."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Several:
    """The declarations of one `var a, b`: a block without its own scope."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Return:
    """`return value`."""

    value: ScriptExpression | None


@dataclass(frozen=True)
class Perform:
    """An expression as a statement."""

    value: ScriptExpression


Statement = Declare | Assign | If | Block | Several | Return | Perform


@dataclass(frozen=True)
class Function:
    """`function name(parameters) { ... }`."""

    name: str
    parameters: tuple[str, ...]
    body: Block


@dataclass(frozen=True)
class Program:
    """A script: its functions and its top-level statements."""

    functions: dict[str, Function]
    statements: tuple[Statement, ...]


_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!=", "===", "!=="),
    ("<", ">", "<=", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
"""Left-associative binary operators, with the lowest precedence first."""
_ASSIGNMENTS = ("=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "**=")
_UNKNOWN = frozenset(
    {
        "async",
        "await",
        "break",
        "case",
        "class",
        "continue",
        "debugger",
        "delete",
        "do",
        "export",
        "extends",
        "for",
        "import",
        "in",
        "instanceof",
        "new",
        "super",
        "switch",
        "this",
        "throw",
        "try",
        "typeof",
        "void",
        "while",
        "with",
        "yield",
    }
)
_DEEPEST = 30
_ItemT = TypeVar("_ItemT")


def parse(text: str) -> Program:
    """Parse a script.

    Raises:
        ScriptError: It is invalid, or not supported.
    """
    return _Parser(tokens_of(text)).program()


class _Parser:
    """A parser: tokens and the current position."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.place]

    def refuse(self) -> ScriptError:
        """Return the error for the next token."""
        token = self.token
        if token.kind == "name" and token.text in _UNKNOWN:
            return ScriptError(f"line {token.line}: `{token.text}` is not supported")
        return ScriptError(f"line {token.line}: unexpected {token.text}")

    def sees(self, *marks: str) -> bool:
        """Return True if the next token is one of these marks or words."""
        return self.token.kind in {"mark", "name"} and self.token.text in marks

    def taken(self, *marks: str) -> str | None:
        """Take the next token if it is one of these marks or words; return its text, or None."""
        if not self.sees(*marks):
            return None
        self.place += 1
        return self.tokens[self.place - 1].text

    def expect(self, mark: str) -> None:
        """Take the next token, which must be this mark."""
        if self.taken(mark) is None:
            raise self.refuse()

    def name(self) -> str:
        """Take a name."""
        token = self.token
        if token.kind != "name" or token.text in _UNKNOWN:
            raise self.refuse()
        self.place += 1
        return token.text

    def several(self, end: str, item: Callable[[], _ItemT]) -> tuple[_ItemT, ...]:
        """Take items separated by commas, and the closing mark; a trailing comma is allowed."""
        items: list[_ItemT] = []
        while not self.taken(end):
            items.append(item())
            if not self.sees(end):
                self.expect(",")
        return tuple(items)

    def program(self) -> Program:
        functions: dict[str, Function] = {}
        statements: list[Statement] = []
        while self.token.kind != "end":
            function = self.function()
            if function is None:
                statements.append(self.statement())
            else:
                functions[function.name] = function
        return Program(functions, tuple(statements))

    def function(self) -> Function | None:
        """Take a function, or a name bound to one; return None if there is none."""
        if self.taken("function"):
            name = self.name()
            self.expect("(")
            return Function(name, self.several(")", self.name), self.block())
        if self.sees("const", "let", "var") and self._binds_function():
            self.place += 1
            name = self.name()
            self.expect("=")
            return self._bound(name)
        return None

    def _binds_function(self) -> bool:
        """Return True if `const name =` is followed by `function` or by parameters and an arrow."""
        following = [token.text for token in self.tokens[self.place + 2 : self.place + 5]]
        if following[:1] != ["="] or len(following) < 3:  # noqa: PLR2004 - `= f x`, at least
            return False
        if following[1] == "function" or following[2] == "=>":
            return True
        if following[1] != "(":
            return False
        rest = [token.text for token in self.tokens[self.place + 4 :]]
        return ")" in rest and rest[rest.index(")") + 1] == "=>"

    def _bound(self, name: str) -> Function:
        if self.taken("function"):
            if not self.sees("("):
                self.name()
            self.expect("(")
            function = Function(name, self.several(")", self.name), self.block())
        else:
            parameters = self.several(")", self.name) if self.taken("(") else (self.name(),)
            self.expect("=>")
            body = self.block() if self.sees("{") else Block((Return(self.expression()),))
            function = Function(name, parameters, body)
        self.taken(";")
        return function

    def block(self) -> Block:
        self.expect("{")
        statements: list[Statement] = []
        while not self.taken("}"):
            statements.append(self.statement())
        return Block(tuple(statements))

    def statement(self) -> Statement:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ScriptError(f"line {self.token.line}: nested too deeply")
        try:
            return self._statement()
        finally:
            self.depth -= 1

    def _statement(self) -> Statement:
        if self.sees("{"):
            return self.block()
        if self.taken(";"):
            return Several(())
        if self.taken("if"):
            return self._if()
        if self.sees("var", "let", "const"):
            word = self.name()
            declared = [self._declaration(constant=word == "const")]
            while self.taken(","):
                declared.append(self._declaration(constant=word == "const"))
            self.end()
            return Several(tuple(declared)) if len(declared) > 1 else declared[0]
        if self.taken("return"):
            ends = self.token.fresh or self.sees(";", "}") or self.token.kind == "end"
            value = None if ends else self.expression()
            self.end()
            return Return(value)
        return self._plain()

    def end(self) -> None:
        """Take the end of a statement: a semicolon, a new line or the end of the block (ECMA-262, 12.10)."""
        if not self.taken(";") and not (self.token.fresh or self.sees("}") or self.token.kind == "end"):
            raise self.refuse()

    def _if(self) -> If:
        self.expect("(")
        condition = self.expression()
        self.expect(")")
        yes = self.statement()
        return If(condition, yes, self.statement() if self.taken("else") else None)

    def _declaration(self, *, constant: bool) -> Declare:
        name = self.name()
        return Declare(name, self.expression() if self.taken("=") else None, constant)

    def _plain(self) -> Statement:
        """Take an assignment, or an expression as a statement."""
        value = self.expression()
        if self.sees(*_ASSIGNMENTS, "++", "--"):
            if not isinstance(value, Name):
                raise ScriptError(f"line {self.token.line}: only variables can be assigned to")
            operator = self.taken(*_ASSIGNMENTS, "++", "--") or "="
            if operator in {"++", "--"}:
                changed: ScriptExpression = Binary(operator[0], value, Number(1.0))
            else:
                given = self.expression()
                changed = given if operator == "=" else Binary(operator[:-1], value, given)
            self.end()
            return Assign(value.name, changed)
        self.end()
        return Perform(value)

    def expression(self) -> ScriptExpression:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ScriptError(f"line {self.token.line}: nested too deeply")
        try:
            condition = self._level(0)
            if not self.taken("?"):
                return condition
            yes = self.expression()
            self.expect(":")
            return Conditional(condition, yes, self.expression())
        finally:
            self.depth -= 1

    def _level(self, level: int) -> ScriptExpression:
        if level == len(_LEVELS):
            return self._power()
        left = self._level(level + 1)
        while operator := self.taken(*_LEVELS[level]):
            left = Binary(operator, left, self._level(level + 1))
        return left

    def _power(self) -> ScriptExpression:
        base = self._unary()
        return Binary("**", base, self._power()) if self.taken("**") else base

    def _unary(self) -> ScriptExpression:
        operators = []
        while operator := self.taken("-", "+", "!", "~"):
            operators.append(operator)
        value = self._postfix()
        for operator in reversed(operators):
            value = Unary(operator, value)
        return value

    def _postfix(self) -> ScriptExpression:
        value = self._primary()
        while True:
            if self.taken("."):
                value = Member(value, self.name())
            elif self.taken("["):
                value = Element(value, self.expression())
                self.expect("]")
            elif self.sees("(") and not self.token.fresh:
                self.expect("(")
                value = Call(_dotted(value, self.token), self.several(")", self.expression))
            else:
                return value

    def _primary(self) -> ScriptExpression:
        token = self.token
        if token.kind == "number":
            self.place += 1
            return Number(float(int(token.text, 16)) if token.text[:2] in {"0x", "0X"} else float(token.text))
        if token.kind == "string":
            self.place += 1
            return Text(token.text[1:-1])
        if self.taken("("):
            value = self.expression()
            self.expect(")")
            return value
        if self.taken("["):
            return Array(self.several("]", self.expression))
        if self.taken("{"):
            return Record(self.several("}", self._member))
        if token.kind == "name" and token.text != "function":
            return Name(self.name())
        raise self.refuse()

    def _member(self) -> tuple[str, ScriptExpression]:
        token = self.token
        if token.kind == "string":
            self.place += 1
            name = token.text[1:-1]
        else:
            name = self.name()
            if not self.sees(":"):
                return name, Name(name)
        self.expect(":")
        return name, self.expression()


def _dotted(value: ScriptExpression, token: Token) -> str:
    """Return the name of a called function, such as `Math.abs`."""
    if isinstance(value, Name):
        return value.name
    if isinstance(value, Member):
        return f"{_dotted(value.of, token)}.{value.name}"
    raise ScriptError(f"line {token.line}: only functions with a name can be called")
