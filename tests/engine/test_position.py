"""Where a walk is: stored and read back whole, and never with a secret."""

import pytest

from stacpull.models import PageRequest
from stacpull.redact import Secret, Secrets
from stacpull.sources.source import Position

SEARCH = "https://api.example/v1/search"


@pytest.mark.parametrize(
    ("following", "is_kept"),
    [
        (PageRequest(f"{SEARCH}?page=3&my_own=KEY-of-mine"), False),
        (PageRequest(SEARCH, "POST", {"page": 3, "filter": {"api": "KEY-of-mine"}}), False),
        (PageRequest(SEARCH, headers={"X-Foo": "t=KEY-of-mine"}), False),
        (PageRequest("https://user:KEY-of-mine@a.example/items?key=KEY-of-mine&token=next:7"), True),
    ],
    ids=["in the URL", "in the body", "in a field", "where it is removed"],
)
def test_a_page_that_echoes_a_secret_is_not_stored(following: PageRequest, is_kept: bool) -> None:
    stored = Position("b", following).to_json(Secrets([Secret("KEY-of-mine"), Secret("KEY%2Dof-mine")]))
    assert (stored is not None and "token=next:7" in stored) is is_kept
    assert Position("b", following).to_json(Secrets([Secret("another-key")])) is not None


def test_fields_of_a_stored_page_that_walks_do_not_set_are_dropped() -> None:
    """Someone else may have written the ledger."""
    stored = Position("b", PageRequest(SEARCH, headers={"Cookie": "a", "Search-After": "b"}))
    request = Position.from_json(stored.to_json(Secrets())).request
    assert request == PageRequest(SEARCH, headers={"search-after": "b"})
