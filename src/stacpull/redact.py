"""Keeping credentials out of everything that is written down: ledger, log, catalog, errors.

Two nets: parameters that are known to carry credentials or signatures are cut from URLs by name, and secrets
that this process knows (`Secret`) are cut from any text by value.
"""

from __future__ import annotations

__all__ = ["Secret"]


class Secret:
    """A string that never shows itself: `repr`, `str` and `format` give `***`; the value is `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value
