from __future__ import annotations

import pytest

from stacpull.models import PageRequest
from stacpull.sources.page_requests import FRUITLESS_PAGES, WalkGuard

START = PageRequest("https://h/items?limit=10")


def cursor(token: object, limit: int = 10) -> PageRequest:
    return PageRequest(f"https://h/items?token={token}&limit={limit}")


@pytest.mark.parametrize(
    ("current", "following", "reason"),
    [
        (cursor("a"), cursor("b"), None),
        (cursor("a"), cursor("a"), "itself"),
        (cursor("a", 10), cursor("a", 5), "itself"),
        (cursor("b"), START, "read before"),
        (cursor("b"), PageRequest("https://h/items"), "read before"),
        (PageRequest("https://h/items?page=2&limit=10"), PageRequest("https://h/items?page=2&limit=5"), None),
        (PageRequest("s", "POST", {"next": "a", "limit": 9}), PageRequest("s", "POST", {"next": "b"}), None),
        (
            PageRequest("s", "POST", {"next": "a", "limit": 9}),
            PageRequest("s", "POST", {"next": "a"}),
            "itself",
        ),
        (PageRequest("s", headers={"After": "a"}), PageRequest("s", headers={"After": "b"}), None),
        (PageRequest("s", headers={"After": "a"}), PageRequest("s", headers={"After": "a"}), "itself"),
    ],
)
def test_a_walk_ends_at_a_cursor_that_leads_back(
    current: PageRequest, following: PageRequest, reason: str | None
) -> None:
    guard = WalkGuard()
    guard.brings_new(["first"])
    assert guard.reason_to_end(START, cursor("x")) is None
    guard.brings_new(["second"])
    found = guard.reason_to_end(current, following)
    assert found is None if reason is None else reason in str(found)


def test_three_pages_without_new_items_in_a_row_are_tolerated() -> None:
    guard = WalkGuard()
    steps = [["a", "b"], [], ["a", "b"], [], ["c"], ["c"], [], ["a", "b"], []]
    news, reasons = [], []
    for n, names in enumerate(steps):
        news.append(guard.brings_new(names))
        reasons.append(guard.reason_to_end(cursor(n), cursor(n + 1)))
    assert news == [True, False, False, False, True, False, False, False, False]
    assert reasons[:-1] == [None] * 8
    assert reasons[-1] == f"{FRUITLESS_PAGES + 1} pages in a row had no new items"


def test_the_same_items_in_another_order_count_as_new() -> None:
    guard = WalkGuard()
    assert guard.brings_new(["a", "b"])
    assert guard.brings_new(["b", "a"])
