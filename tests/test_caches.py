"""What is remembered is bounded by number and by length."""

from __future__ import annotations

from stacpull.caches import MAX_KEY_LENGTH, BoundedCache, cached_if_short


def test_only_short_texts_are_cached() -> None:
    calls = []

    @cached_if_short(2)
    def length(text: str) -> int:
        calls.append(text)
        return len(text)

    short, long = "x" * MAX_KEY_LENGTH, "x" * (MAX_KEY_LENGTH + 1)
    assert [length(text) for text in (short, short, long, long)] == [512, 512, 513, 513]
    assert calls == [short, long, long]


def test_the_oldest_entry_is_evicted() -> None:
    recent = BoundedCache[str, int](2)
    for number, name in enumerate("abac"):
        recent[name] = number
    assert recent == {"b": 1, "c": 3}
