"""Paging with a model server: a table of all known forms (see docs/sources.md), and random services."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.sources.memory import MemoryReader
from tests.sources.model_server import COUNTED, HOST, LASTS, SEARCH, STYLES, Model

from stacpull.engine.walk import Position
from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.models import Page, PageRequest
from stacpull.redact import Secrets
from stacpull.sources.paging import read_pages
from stacpull.sources.source import PageSize

INNER = "http://inner:8080"


def pages_of(
    model: Model, start: PageRequest | None = None, size: int = 10, *, most: int = 2000
) -> tuple[list[Page], list[Notice]]:
    """Walk to the end; fail after more than `most` pages."""
    notices: list[Notice] = []

    async def run() -> list[Page]:
        found: list[Page] = []
        async for one in read_pages(
            MemoryReader(model.answer), start or model.start, PageSize(size), notices.append, home=SEARCH
        ):
            found.append(one)
            assert len(found) <= most, "the walk does not end"
        return found

    return asyncio.run(run()), notices


def names_of(pages: list[Page]) -> list[str]:
    return [item["id"] for one in pages for item in one.items]


def stored(request: PageRequest) -> PageRequest:
    """Return a cursor like a later run reads it from the ledger."""
    found = Position.from_json(Position("x", request).to_json(Secrets())).request
    assert found is not None
    return found


FORMS = {
    "GET: a token, nothing else": Model(style="token"),
    "GET: the whole query": Model(style="whole"),
    "GET: a relative link": Model(style="relative"),
    "GET: page numbers": Model(style="page"),
    "GET: page numbers, fewer items than asked for": Model(style="page", cap=7, total=40),
    "GET: offset": Model(style="offset"),
    "GET: offset, fewer items than asked for": Model(style="offset", cap=7, total=40),
    "GET: startIndex (from 1)": Model(style="startIndex", cap=7, total=40),
    "POST: the whole body, no merge member": Model(style="post whole"),
    "POST: merge true": Model(style="post merge"),
    "POST: merge false, the filter gone": Model(style="post no merge"),
    "POST: a bare token, no merge member": Model(style="post bare"),
    "POST: headers": Model(style="headers"),
    "context.next, without a link": Model(style="context"),
    "_links._next": Model(style="hal"),
    "null at the end": Model(last="null"),
    "an empty href at the end": Model(last="empty href"),
    "an empty page at the end": Model(last="empty page"),
    "a next link to itself": Model(last="self"),
    "a next link back to the first page": Model(last="first"),
    "an empty page with a next": Model(gaps=frozenset({0, 10})),
    "the same page twice": Model(repeats=frozenset({0, 10})),
    "no total": Model(announces_total=False),
    "no items at all": Model(total=0),
    "an inner host": Model(style="whole", host=INNER),
    "an inner host, by POST": Model(style="post no merge", host=INNER),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_yields_every_item_once_in_order_and_ends(form: str) -> None:
    model = FORMS[form]
    pages, _ = pages_of(model)
    assert names_of(pages) == model.names
    assert pages[-1].next is None


@pytest.mark.parametrize("form", FORMS)
def test_every_form_resumes_at_each_of_its_cursors(form: str) -> None:
    model = FORMS[form]
    pages, _ = pages_of(model)
    for number, one in enumerate(pages):
        if one.next is not None:
            rest, _ = pages_of(model, stored(one.next))
            before = names_of(pages[: number + 1])
            assert list(dict.fromkeys(before + names_of(rest))) == model.names
            assert "SECRET" not in repr(one.next)


def test_an_expired_cursor_is_an_error_at_the_first_page() -> None:
    """The restart of the walk is tested by `tests/acceptance/test_unsettled.py`."""
    model = Model(style="token")
    pages, _ = pages_of(model)
    cursor = pages[0].next
    assert cursor is not None
    with pytest.raises(SourceError) as caught:
        pages_of(replace(model, expired=True), stored(cursor))
    assert getattr(caught.value.__cause__, "failure").status == 400  # noqa: B009 - of a cause of any type


def test_an_internal_host_is_reported_once_and_requested_once() -> None:
    model = replace(FORMS["an inner host"], total=60, requests=[])
    pages, notices = pages_of(model)
    assert names_of(pages) == model.names
    assert [n.text for n in notices if "does not have the page" in n.text] == [
        "The next link points to http://inner:8080, which does not have the page: using https://api.test."
    ]
    assert sum(request.url.startswith(INNER) for request in model.requests) == 1
    assert all(request.url.startswith(SEARCH) for one in pages[1:] if (request := one.next))


models = st.builds(
    Model,
    total=st.integers(0, 60),
    style=st.sampled_from(STYLES),
    last=st.sampled_from(LASTS),
    cap=st.sampled_from([3, 7, 10, 64, 1000]),
    host=st.sampled_from([HOST, HOST, HOST, INNER]),
    announces_total=st.booleans(),
    gaps=st.frozensets(st.integers(0, 6).map(lambda n: n * 10), max_size=3),
    repeats=st.frozensets(st.integers(0, 6).map(lambda n: n * 10), max_size=3),
    fragile=st.frozensets(st.integers(0, 60), max_size=3),
)


@given(model=models, size=st.sampled_from([3, 10, 33, 100, 1000]), cut=st.integers(0, 200))
@example(model=Model(total=2, style="startIndex", last="empty page"), size=3, cut=0)
def test_walks_of_random_services_are_complete_and_end(model: Model, size: int, cut: int) -> None:
    """For all forms, faults and stops, a walk yields every item in order and ends.

    Where positions are counted, or pages shrink (`fragile`), a part of a page may be repeated. The engine
    plans repeated items once. Nothing else is repeated.
    """
    pages, _ = pages_of(model, size=size)
    found = names_of(pages)
    assert list(dict.fromkeys(found)) == model.names
    if not model.fragile and model.style not in COUNTED:
        assert found == model.names
    kept = pages[: cut % len(pages) + 1]
    if kept[-1].next is not None:
        rest, _ = pages_of(model, stored(kept[-1].next), size)
        assert list(dict.fromkeys(names_of(kept) + names_of(rest))) == model.names
