"""Suggestions for misspelled words."""

from __future__ import annotations

from collections.abc import Iterable


def similar(word: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    import difflib  # noqa: PLC0415 - needed for mistakes only

    return difflib.get_close_matches(word, list(known), n=most, cutoff=cutoff)
