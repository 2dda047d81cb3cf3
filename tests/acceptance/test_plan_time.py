"""The time that `plan` estimates for the mirror."""

from __future__ import annotations

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import sync
from stacpull.clock import SystemClock
from stacpull.net.transport import Request


def test_the_time_of_a_request_is_that_of_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests for sizes take time, too, but are not among those of the walk."""
    now = [1000.0]

    class Clocked(SmallApi):
        """A page takes 4 seconds."""

        def _page(self, name: str, request: Request) -> Answer:
            now[0] += 4
            return super()._page(name, request)

    def asset(_: Request) -> Answer:
        now[0] += 100
        return Answer(body=b"data")

    monkeypatch.setattr(SystemClock, "monotonic", lambda _: now[0])
    with Clocked({"c": ["1", "2"]}, asset=asset) as api:
        report = sync.plan(api.url("/collections/c"))
    assert (report.bytes_sampled, report.seconds) == (2, 204)
    assert report.seconds_estimated == round(4 * report.requests / 16, 1)
