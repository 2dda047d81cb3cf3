"""The tree of a script: expressions and statements as values."""

from __future__ import annotations

from dataclasses import dataclass


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

    of: Expression
    name: str


@dataclass(frozen=True)
class Element:
    """`of[place]`."""

    of: Expression
    place: Expression


@dataclass(frozen=True)
class Call:
    """`function(arguments)`; the function is a name, or dotted names as `Math.abs`."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Unary:
    """`operator of`."""

    operator: str
    of: Expression


@dataclass(frozen=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Conditional:
    """`condition ? yes : no`."""

    condition: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True)
class Array:
    """`[...]`."""

    elements: tuple[Expression, ...]


@dataclass(frozen=True)
class Record:
    """`{name: value, ...}`."""

    members: tuple[tuple[str, Expression], ...]


Expression = Number | Text | Name | Member | Element | Call | Unary | Binary | Conditional | Array | Record


@dataclass(frozen=True)
class Declare:
    """`let name = value`; no value is undefined."""

    name: str
    value: Expression | None
    constant: bool


@dataclass(frozen=True)
class Assign:
    """`name = value`; of `name += value` the value is the sum."""

    name: str
    value: Expression


@dataclass(frozen=True)
class If:
    """`if (condition) yes else no`."""

    condition: Expression
    yes: Statement
    no: Statement | None


@dataclass(frozen=True)
class Block:
    """`{ ... }`."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Several:
    """Declarations of one `var a, b`: a block without a scope of its own."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Return:
    """`return value`."""

    value: Expression | None


@dataclass(frozen=True)
class Perform:
    """An expression that stands alone."""

    value: Expression


Statement = Declare | Assign | If | Block | Several | Return | Perform


@dataclass(frozen=True)
class Function:
    """`function name(parameters) { ... }`."""

    name: str
    parameters: tuple[str, ...]
    body: Block


@dataclass(frozen=True)
class Program:
    """A script: its functions, and what stands beside them."""

    functions: dict[str, Function]
    statements: tuple[Statement, ...]
