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
    "position", [Position(), Position("b"), Position("b/é ☃", NEXT), Position("b", SEARCH)]
)
def test_a_position_round_trips_through_json(position: Position) -> None:
    assert Position.from_json(position.to_json()) == position
    assert Position.from_json(None) == Position()


@pytest.mark.parametrize(
    ("request_of_next", "may_be_kept"),
    [
        (PageRequest("https://a.example/search?page=3&my_own=KEY-of-mine"), False),
        (
            PageRequest("https://a.example/search", "POST", {"page": 3, "filter": {"api": "KEY-of-mine"}}),
            False,
        ),
        (PageRequest("https://a.example/search", headers={"X-Foo": "t=KEY-of-mine"}), False),
        (PageRequest("https://user:KEY-of-mine@a.example/items?key=KEY-of-mine&token=next:7"), True),
    ],
    ids=["in the URL", "in the body", "in a field", "where it is removed"],
)
def test_a_page_that_echoes_a_secret_is_not_stored(request_of_next: PageRequest, may_be_kept: bool) -> None:
    position = Position("b", request_of_next)
    assert (
        position.without(Secrets([Secret("KEY-of-mine"), Secret("KEY%2Dof-mine")])) is not None
    ) is may_be_kept
    assert position.without(Secrets([Secret("another-key")])) is not None
    assert "token=next:7" in position.to_json() or not may_be_kept
