"""Who brings which bytes: any order of arrival, lanes that come and give up, and the file is whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from stacpull.spans import Span, Spans, joined, missing
from stacpull.transfer.shares import Shares

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
        self.shares = Shares(TOTAL, have)
        self.lanes = [0] if opened else []
        self.at = {0: self.shares.begin(0)} if opened else {}
        self.next = 1

    def bring(self, lane: int, size: int) -> None:
        """Let the next bytes of a lane's response come, those included that nobody wants, up to its claim."""
        if not self.shares.left(lane):
            return
        came = Span(self.at[lane], min(TOTAL, self.at[lane] + size))
        start, end = self.shares.took(lane, came)
        self.at[lane] = came.end if self.shares.left(lane) else end
        places = set(range(start, end))
        assert not places & (self.brought | self.had)
        self.brought |= places
        self.copy[start:end] = self.source[start:end]

    def join(self, size: int) -> None:
        if self.ask(self.next, size):
            self.lanes.append(self.next)
        self.next += 1

    def ask(self, lane: int, size: int) -> bool:
        """Let a lane ask for the next range, if there is one."""
        span = self.shares.claim(lane, size)
        if span is not None:
            self.at[lane] = span.start
        return span is not None

    def act(self, what: str, which: int, size: int) -> None:
        if what == "join" or not self.lanes:
            self.join(size)
            return
        lane = self.lanes[which % len(self.lanes)]
        if what == "bring":
            self.bring(lane, size)
        elif what == "leave":
            self.shares.release(lane)
            self.lanes.remove(lane)
        elif what == "close":
            self.shares.close(lane)
        elif not self.shares.left(lane) and not self.shares.extend(lane, size, skip=10 * which):
            self.shares.close(lane)
            self.ask(lane, size)

    def finish(self) -> None:
        """Let one lane after the other bring what it has, then a last one the rest."""
        for lane in self.lanes:
            while self.shares.left(lane):
                self.bring(lane, 7)
            self.shares.release(lane)
        while self.ask(self.next, 11):
            self.bring(self.next, self.shares.left(self.next))


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
def test_whoever_comes_and_goes_every_byte_comes_once(
    have: Spans, acts: list[tuple[str, int, int]], opened: bool
) -> None:
    crew = Crew(have, opened=opened)
    for act in acts:
        crew.act(*act)
    crew.finish()
    assert bytes(crew.copy) == crew.source
    assert crew.shares.rest == 0
    assert crew.brought | crew.had == set(range(TOTAL))


def test_an_open_lane_alone_has_all_up_to_what_is_there() -> None:
    shares = Shares(100, (Span(0, 10), Span(60, 80)))
    shares.begin(1)
    assert shares.left(1) == 50
    assert shares.took(1, Span(10, 90)) == Span(10, 60)
    assert not shares.extend(1, None)
    assert not shares.extend(1, None, skip=19)
    assert shares.extend(1, None, skip=20)
    assert shares.took(1, Span(60, 70)) == Span(80, 80)
    assert shares.took(1, Span(70, 100)) == Span(80, 100)
    assert not shares.extend(1, None, skip=100)


def test_what_another_brings_is_not_skipped() -> None:
    shares = Shares(100, ())
    shares.begin(1)
    shares.claim(2, 20)
    shares.took(1, Span(0, 20))
    assert not shares.extend(1, None, skip=100)
    shares.took(2, Span(20, 40))
    assert shares.extend(1, None, skip=100)


def test_another_lane_cuts_the_open_one_which_reads_on_if_that_one_leaves() -> None:
    shares = Shares(100, ())
    shares.begin(1)
    assert shares.claim(2, 20) == Span(20, 40)
    assert shares.left(1) == 20
    shares.took(2, Span(20, 25))
    shares.release(2)
    shares.took(1, Span(0, 20))
    assert not shares.extend(1, None)  # five bytes are there
    shares.close(1)
    assert shares.claim(1, 10) == Span(25, 35)


def test_the_open_lane_reads_past_a_claim_that_was_given_up_untouched() -> None:
    shares = Shares(100, ())
    shares.begin(1)
    shares.claim(2, 20)
    shares.release(2)
    shares.took(1, Span(0, 20))
    assert shares.extend(1, 30)
    assert shares.left(1) == 30
    shares.took(1, Span(20, 50))
    assert shares.extend(1, None)
    assert shares.left(1) == 50
    assert shares.is_at_end(1)


def test_what_is_too_little_to_share_is_not_shared() -> None:
    shares = Shares(39, ())
    shares.begin(1)
    assert shares.claim(2, 20) is None
    assert shares.left(1) == 39


def test_a_claim_with_an_end_is_not_cut() -> None:
    shares = Shares(100, ())
    shares.begin(1)
    shares.close(1)
    assert shares.claim(2, 20) is None
    assert shares.left(1) == 100


def test_no_crumbs_are_left() -> None:
    shares = Shares(99, ())
    assert [shares.claim(lane, 40) for lane in (1, 2)] == [Span(0, 40), Span(40, 99)]


def test_a_file_of_unknown_size_has_one_lane_without_end() -> None:
    shares = Shares(None, ())
    shares.begin(1)
    assert shares.took(1, Span(0, 1 << 50)) == Span(0, 1 << 50)
    assert not shares.is_at_end(2)
    assert shares.left(1) > 1 << 60


def test_more_than_was_claimed_is_not_taken() -> None:
    shares = Shares(100, ())
    shares.claim(1, 10)
    assert shares.took(1, Span(0, 11)) == Span(0, 10)
    assert missing(shares.have, 100) == (Span(10, 100),)


def test_bytes_that_would_land_in_the_wrong_place_are_refused() -> None:
    shares = Shares(100, ())
    shares.claim(1, 10)
    with pytest.raises(ValueError, match="from 1 on came where those from 0 on are next"):
        shares.took(1, Span(1, 11))
    assert shares.have == ()
