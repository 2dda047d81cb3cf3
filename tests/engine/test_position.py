"""Where a walk is: stored and read back whole."""

from __future__ import annotations

import pytest

from stacpull.engine.walk import Position
from stacpull.models import PageRequest
from stacpull.redact import Secret, Secrets

NEXT = PageRequest("https://api.example/v1/collections/b/items?token=next:7&limit=10")
SEARCH = PageRequest(
    "https://api.example/v1/search",
    "POST",
    {"collections": ["b"], "token": "next:7", "bbox": [-9.5, 37.0, -9.0, 38.0]},
    {"Prefer": "return=minimal"},
)


@pytest.mark.parametrize(
    "position",
    [Position(None, None), Position("b", None), Position("b/é ☃", NEXT), Position("b", SEARCH)],
    ids=[
        "the beginning",
        "a first page",
        "a page by GET",
        "a page by POST",
    ],
)
def test_a_position_round_trips_through_json(position: Position) -> None:
    assert Position.from_json(position.to_json()) == position


def test_no_stored_position_is_the_start_of_the_walk() -> None:
    assert Position.from_json(None) == Position(None, None)


def test_no_credentials_are_stored_but_the_paging_token_is() -> None:
    url = "https://user:secret@api.example/v1/collections/b/items?key=secret&token=next:7"
    text = Position("b", PageRequest(url)).to_json()
    assert "secret" not in text
    assert "token=next:7" in text


@pytest.mark.parametrize(
    "request_of_next",
    [
        PageRequest("https://a.example/search?page=3&my_own=KEY-of-mine"),
        PageRequest("https://a.example/search", "POST", {"page": 3, "filter": {"api": "KEY-of-mine"}}),
        PageRequest("https://a.example/search", headers={"X-Foo": "t=KEY-of-mine"}),
    ],
    ids=["in the URL", "in the body", "in a field"],
)
def test_a_page_that_echoes_a_secret_is_not_stored(request_of_next: PageRequest) -> None:
    position = Position("b", request_of_next)
    assert not position.may_be_kept(Secrets([Secret("KEY-of-mine"), Secret("KEY%2Dof-mine")]))
    assert position.may_be_kept(Secrets([Secret("another-key")]))


def test_a_page_with_a_removable_key_may_be_stored() -> None:
    position = Position("b", PageRequest("https://a.example/items?key=KEY-of-mine&token=next:7"))
    assert position.may_be_kept(Secrets([Secret("KEY-of-mine")]))
