"""The `--filter` filter: an expression of CQL2, text or JSON (`filters.language`)."""

from __future__ import annotations

from typing import Any

from stacpull.filters.language import compile_expression, parse_filter
from stacpull.filters.properties import Reference
from stacpull.filters.verdict import Verdict
from stacpull.models import Json

__all__ = ["ExpressionCheck", "compile_filter"]


class ExpressionCheck:
    """Predicate: the expression is true of the item. What is unknown is no match, and has its own verdict.

    Attributes:
        references: The names that the expression uses.
        places: What was odd about where items lie.
    """

    __slots__ = ("_evaluate", "places", "references")

    def __init__(self, text: str) -> None:
        expression = compile_expression(parse_filter(text), text)
        self._evaluate = expression.evaluate
        self.places = expression.places
        self.references: tuple[Reference, ...] = expression.references

    def __call__(self, item: Json, properties: dict[str, Any]) -> Verdict | None:
        """Return FILTER where the expression is false, UNKNOWN_FILTER where the item lacks what it needs."""
        truth = self._evaluate(item, properties)
        if truth is True:
            return None
        return Verdict.FILTER if truth is False else Verdict.UNKNOWN_FILTER


def compile_filter(text: str | None) -> ExpressionCheck | None:
    """Compile `Selection.filter`; None if it has none.

    Raises:
        UsageError: It is no boolean expression of CQL2; the message points at the place.
    """
    return None if text is None else ExpressionCheck(text)
