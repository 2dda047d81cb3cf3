"""What is remembered is bounded by number; by length: tests/security/test_memory.py."""

from stacpull.caches import BoundedCache


def test_the_oldest_entry_is_evicted() -> None:
    recent = BoundedCache[str, int](2)
    for number, name in enumerate("abac"):
        recent[name] = number
    assert recent == {"b": 1, "c": 3}
