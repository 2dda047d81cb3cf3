"""Numbers with their nouns, for messages."""

from __future__ import annotations


def count(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: 1 item, 7,674,238 files."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
