"""Which connection receives which bytes: in any order, while connections start and end, the file is whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from stacpull.spans import Span, Spans, joined, missing
from stacpull.transfer.multirange import Claims

TOTAL = 200
HAVE = st.lists(st.builds(Span, st.integers(0, TOTAL), st.integers(0, TOTAL)), max_size=4).map(joined)


class Crew:
    """Lanes that bring bytes of a file into a copy, and check that no byte comes twice."""

    def __init__(self, have: Spans, *, opened: bool) -> None:
        self.source = random.Random(0).randbytes(TOTAL)
        self.copy = bytearray(TOTAL)
        for start, end in have:
            self.copy[start:end] = self.source[start:end]
        self.brought = set[int]()
        self.had = {place for start, end in have for place in range(start, end)}
        self.claims = Claims(TOTAL, have)
        self.connections = [0] if opened else []
        self.at = {0: self.claims.begin(0)} if opened else {}
        self.next = 1

    def bring(self, connection: int, size: int) -> None:
        """Let the next bytes of a response arrive, up to its claim; some of them may not be wanted."""
        if not self.claims.left(connection):
            return
        came = Span(self.at[connection], min(TOTAL, self.at[connection] + size))
        start, end = self.claims.take(connection, came)
        self.at[connection] = came.end if self.claims.left(connection) else end
        places = set(range(start, end))
        assert not places & (self.brought | self.had)
        self.brought |= places
        self.copy[start:end] = self.source[start:end]

    def join(self, size: int) -> None:
        if self.request_claim(self.next, size):
            self.connections.append(self.next)
        self.next += 1

    def request_claim(self, connection: int, size: int) -> bool:
        """Let a connection take the next range, if there is one."""
        span = self.claims.claim(connection, size)
        if span is not None:
            self.at[connection] = span.start
        return span is not None

    def act(self, what: str, which: int, size: int) -> None:
        if what == "join" or not self.connections:
            self.join(size)
            return
        connection = self.connections[which % len(self.connections)]
        if what == "bring":
            self.bring(connection, size)
        elif what == "leave":
            self.claims.release(connection)
            self.connections.remove(connection)
        elif what == "close":
            self.claims.close(connection)
        elif not self.claims.left(connection) and not self.claims.extend(connection, size, skip=10 * which):
            self.claims.close(connection)
            self.request_claim(connection, size)

    def finish(self) -> None:
        """Let one connection after the other bring what it has, then a last one the rest."""
        for connection in self.connections:
            while self.claims.left(connection):
                self.bring(connection, 7)
            self.claims.release(connection)
        while self.request_claim(self.next, 11):
            self.bring(self.next, self.claims.left(self.next))


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "bring", "bring", "go on", "leave", "close"]),
        st.integers(0, 5),
        st.integers(1, 60),
    ),
    max_size=40,
)


@settings(max_examples=examples(200))
@given(HAVE, ACTS, st.booleans())
def test_every_byte_is_received_once_over_any_connections(
    have: Spans, acts: list[tuple[str, int, int]], opened: bool
) -> None:
    crew = Crew(have, opened=opened)
    for act in acts:
        crew.act(*act)
    crew.finish()
    assert bytes(crew.copy) == crew.source
    assert crew.claims.rest == 0
    assert crew.brought | crew.had == set(range(TOTAL))


def test_an_open_connection_claims_up_to_the_next_known_span() -> None:
    claims = Claims(100, (Span(0, 10), Span(60, 80)))
    claims.begin(1)
    assert claims.left(1) == 50
    assert claims.take(1, Span(10, 90)) == Span(10, 60)
    assert not claims.extend(1, None)
    assert not claims.extend(1, None, skip=19)
    assert claims.extend(1, None, skip=20)
    assert claims.take(1, Span(60, 70)) == Span(80, 80)
    assert claims.take(1, Span(70, 100)) == Span(80, 100)
    assert not claims.extend(1, None, skip=100)


def test_a_span_claimed_by_another_connection_is_not_skipped() -> None:
    claims = Claims(100, ())
    claims.begin(1)
    claims.claim(2, 20)
    claims.take(1, Span(0, 20))
    assert not claims.extend(1, None, skip=100)
    claims.take(2, Span(20, 40))
    assert claims.extend(1, None, skip=100)


def test_a_claim_shortens_the_open_one_until_it_is_released() -> None:
    claims = Claims(100, ())
    claims.begin(1)
    assert claims.claim(2, 20) == Span(20, 40)
    assert claims.left(1) == 20
    claims.take(2, Span(20, 25))
    claims.release(2)
    claims.take(1, Span(0, 20))
    assert not claims.extend(1, None)  # five bytes are there
    claims.close(1)
    assert claims.claim(1, 10) == Span(25, 35)


def test_the_open_connection_takes_over_a_released_claim() -> None:
    claims = Claims(100, ())
    claims.begin(1)
    claims.claim(2, 20)
    claims.release(2)
    claims.take(1, Span(0, 20))
    assert claims.extend(1, 30)
    assert claims.left(1) == 30
    claims.take(1, Span(20, 50))
    assert claims.extend(1, None)
    assert claims.left(1) == 50
    assert claims.is_at_end(1)


def test_short_spans_are_not_shared() -> None:
    claims = Claims(39, ())
    claims.begin(1)
    assert claims.claim(2, 20) is None
    assert claims.left(1) == 39


def test_a_closed_claim_is_not_shortened() -> None:
    claims = Claims(100, ())
    claims.begin(1)
    claims.close(1)
    assert claims.claim(2, 20) is None
    assert claims.left(1) == 100


def test_a_claim_takes_a_short_remainder_along() -> None:
    claims = Claims(99, ())
    assert [claims.claim(connection, 40) for connection in (1, 2)] == [Span(0, 40), Span(40, 99)]


def test_a_file_of_unknown_size_has_one_open_connection() -> None:
    claims = Claims(None, ())
    claims.begin(1)
    assert claims.take(1, Span(0, 1 << 50)) == Span(0, 1 << 50)
    assert not claims.is_at_end(2)
    assert claims.left(1) > 1 << 60


def test_bytes_beyond_a_claim_are_not_accepted() -> None:
    claims = Claims(100, ())
    claims.claim(1, 10)
    assert claims.take(1, Span(0, 11)) == Span(0, 10)
    assert missing(claims.have, 100) == (Span(10, 100),)


def test_bytes_with_a_wrong_offset_are_rejected() -> None:
    claims = Claims(100, ())
    claims.claim(1, 10)
    with pytest.raises(ValueError, match="from offset 1, but offset 0 is next"):
        claims.take(1, Span(1, 11))
    assert claims.have == ()
