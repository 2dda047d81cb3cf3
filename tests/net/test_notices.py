"""What the network layer reports, and to whom."""

from __future__ import annotations

from functools import partial

from stacpull.net.notices import NetworkEvents


def test_a_closing_is_told_to_every_process_but_the_one_that_reported_it() -> None:
    told: list[tuple[int, str, float]] = []

    def tell(number: int, host: str, seconds: float) -> None:
        told.append((number, host, seconds))

    peers = [partial(tell, number) for number in range(3)]
    events = NetworkEvents(peers=peers)
    events.closed("h:443", 2.0, peers[1])
    assert sorted(told) == [(0, "h:443", 2.0), (2, "h:443", 2.0)]
    events.peers.discard(peers[0])
    events.closed("h:443", 1.0)
    assert sorted(told[2:]) == [(1, "h:443", 1.0), (2, "h:443", 1.0)]
