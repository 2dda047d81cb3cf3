from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import failed

from stacpull.models import FailureKind
from stacpull.sources.page_requests import AUTO_ITEMS, LEAST_ITEMS, PAGE_BYTES, PageSize


def test_values_of_the_option() -> None:
    assert PageSize.requested(None) == PageSize(AUTO_ITEMS)
    assert PageSize.requested(30) == PageSize(30, fixed=True)


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        (PageSize(1000), None, PageSize(1000)),
        (PageSize(1000), 50, PageSize(50)),
        (PageSize(1000), 5000, PageSize(1000)),
        (PageSize(1000), 0, PageSize(1)),
        (PageSize(30, fixed=True), 10, PageSize(30, fixed=True)),
    ],
)
def test_the_limit_of_the_url_is_the_maximum(size: PageSize, limit: int | None, expected: PageSize) -> None:
    assert size.at_most(limit) == expected


@pytest.mark.parametrize(
    ("kind", "status", "helps"),
    [
        (FailureKind.SERVER, 500, True),
        (FailureKind.SERVER, 504, True),
        (FailureKind.STALLED, None, True),
        (FailureKind.TRUNCATED, 200, True),
        (FailureKind.OVERLONG, 200, True),
        (FailureKind.REFUSED, 400, True),
        (FailureKind.HTTP, 413, True),
        (FailureKind.HTTP, 422, True),
        (FailureKind.REFUSED, 403, False),
        (FailureKind.GONE, 404, False),
        (FailureKind.THROTTLED, 503, False),
        (FailureKind.NETWORK, None, False),
        (FailureKind.REDIRECT, 302, False),
    ],
)
def test_failures_that_a_smaller_page_may_avoid(kind: FailureKind, status: int | None, helps: bool) -> None:
    smaller = PageSize(1000).after_failure(failed(kind, status).failure)
    assert smaller == (PageSize(500) if helps else None)


@pytest.mark.parametrize(
    ("size", "steps"),
    [
        (PageSize(1000), [500, 250, 125, 62, 31, 15, 10]),
        (PageSize(40, fixed=True), [20, 10]),
        (PageSize(10), []),
        (PageSize(3, fixed=True), []),
    ],
)
def test_halving_ends_at_ten(size: PageSize, steps: list[int]) -> None:
    seen = []
    while (smaller := size.smaller()) is not None:
        assert smaller.fixed == size.fixed
        seen.append(smaller.items)
        size = smaller
    assert seen == steps


@pytest.mark.parametrize(
    ("size", "items", "read", "expected"),
    [
        (PageSize(1000), 1000, PAGE_BYTES, 1000),
        (PageSize(1000), 1000, 2 * PAGE_BYTES, 500),
        (PageSize(1000), 100, 2 * PAGE_BYTES, 50),  # the service gives fewer than requested
        (PageSize(1000), 2, 2 * PAGE_BYTES, LEAST_ITEMS),
        (PageSize(1000), 0, 2 * PAGE_BYTES, 1000),
        (PageSize(5), 5, 2 * PAGE_BYTES, 5),
        (PageSize(1000, fixed=True), 1000, 9 * PAGE_BYTES, 1000),
    ],
)
def test_pages_shrink_to_eight_megabytes(size: PageSize, items: int, read: int, expected: int) -> None:
    assert size.after_page(items, read) == PageSize(expected, fixed=size.fixed)


@given(
    st.builds(PageSize, st.integers(1, 5000), fixed=st.booleans()),
    st.integers(0, 9999),
    st.integers(0, 10**9),
)
def test_a_size_never_grows(size: PageSize, items: int, read: int) -> None:
    assert 1 <= size.after_page(items, read).items <= size.items
