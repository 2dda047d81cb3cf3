"""Services that forget a cursor during a walk: it is repeated, known items are skipped, and it is bounded."""

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import MirrorReport, Notice, Options, Selection, SourceError, mirror, resume, sync
from stacpull.net.transport import Request

IDS = [str(number) for number in range(1, 11)]
HASTY = Options(retries=0)
COLLECTION = "/collections/a"
FOUND = "/found?limit=2"
"""An ItemCollection of ten items that names a next page."""


class Forgetful(SmallApi):
    """Ten items on five pages; the n-th walk is given `lives[n]` pages, then its cursor has expired."""

    def __init__(self, lives: list[int], code: int = 404) -> None:
        super().__init__({"a": IDS}, asset=self._asset)
        self._routes = {**self._routes, "/found": partial(self._page, "a")}
        self.lives, self._code = lives, code
        self._left = 0
        self.walks = 0
        self.expired = 0
        """How many cursors are refused before any is good again."""
        self.sent: Counter[str] = Counter()
        """How often each asset was sent."""
        self.stop_at: tuple[int, asyncio.Event] | None = None
        """An event that is set when so many were."""

    def _asset(self, request: Request) -> Answer:
        self.sent[request.url] += 1
        if self.stop_at is not None and self.sent.total() >= self.stop_at[0]:
            self.stop_at[1].set()
        return Answer(body=b"data")

    def _page(self, name: str, request: Request) -> Answer:
        if "page=" not in request.url:
            self._left = self.lives[min(self.walks, len(self.lives) - 1)]
            self.walks += 1
        elif self.expired:
            self.expired -= 1
            return Answer(self._code, b"{}")
        self._left -= 1
        return super()._page(name, request) if self._left >= 0 else Answer(self._code, b"{}")


def ids_in(dest: Path) -> set[str]:
    return {path.name for path in (dest / "a").iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    ("place", "code", "text", "lives"),
    [
        *((COLLECTION, code, "reading again from the start", [2, 99]) for code in (400, 410, 422)),
        (COLLECTION, 404, "reading again from the start", [1, 2, 3, 4, 99]),
        (FOUND, 404, "no longer knows the next page", [1, 2, 3, 4, 99]),
    ],
)
def test_a_walk_recovers_from_a_cursor_that_expires(tmp_path, place, code, text, lives):
    events: list[object] = []
    with Forgetful(lives, code) as api:
        report = sync.mirror(api.url(place), tmp_path / "m", options=HASTY, on_event=events.append)
        assert (api.walks, sorted(api.sent.values())) == (len(lives), [1] * 10)
    assert (report.state, report.exit_code, report.items_seen) == ("complete", 0, 10)
    assert (report.items_matched, report.items_done, report.assets_done) == (10, 10, 10)
    reported = [one.level for one in events if isinstance(one, Notice) and text in one.text]
    assert reported == ["warning"] * (len(lives) - 1)


@pytest.mark.parametrize("place", [COLLECTION, FOUND])
@pytest.mark.parametrize("lives", [[3, 3], [3, 2], [1, 2, 2]])
def test_walks_without_progress_end_with_usable_advice_and_resume_once_cursors_last(tmp_path, place, lives):
    advice = r"keeps rejecting its next-page links, the last after . items .* Select fewer items"
    with Forgetful(lives) as api:
        with pytest.raises(SourceError, match=advice) as caught:
            sync.mirror(api.url(place), tmp_path / "m", options=HASTY)
        assert api.walks == len(lives)
        assert caught.value.report.items_seen == sync.status(tmp_path / "m").assets_done == 2 * max(lives)
        api.lives = [99]
        report = sync.resume(tmp_path / "m", options=HASTY)
        assert (report.state, report.items_done, sorted(api.sent.values())) == ("complete", 10, [1] * 10)


@pytest.mark.parametrize("chosen", [{"max_items": 7}, {"max_items": 3}, {"sample": 4, "seed": 3}], ids=str)
def test_the_same_items_are_selected_if_the_walk_restarts(tmp_path: Path, chosen: dict[str, Any]) -> None:
    for name, lives in {"once": [99], "again": [2, 99], "later": [3, 99]}.items():
        with Forgetful(lives) as api:
            sync.mirror(api.url(COLLECTION), tmp_path / name, selection=Selection(**chosen), options=HASTY)
    assert ids_in(tmp_path / "again") == ids_in(tmp_path / "later") == ids_in(tmp_path / "once")
    assert len(ids_in(tmp_path / "once")) == next(iter(chosen.values()))


def test_a_stopped_mirror_resumes_although_its_cursor_has_expired(tmp_path: Path) -> None:
    async def work() -> MirrorReport:
        async with Forgetful([99]) as api:
            options = Options(retries=0, concurrency=1, page_size=2)
            api.stop_at = 3, asyncio.Event()
            first = await mirror(api.url(FOUND), tmp_path / "m", options=options, stop=api.stop_at[1])
            assert first.state == "interrupted"
            api.expired = 1
            return await resume(tmp_path / "m", options=options)

    report = asyncio.run(work())
    assert (report.state, report.exit_code) == ("complete", 0)
    assert sync.status(tmp_path / "m").items_done == 10


@pytest.mark.parametrize("place", [COLLECTION, FOUND])
@pytest.mark.parametrize("chosen", [None, Selection(sample=4, seed=3)])
def test_plan_restarts_a_walk_as_mirror_does(place, chosen):
    with Forgetful([1, 2, 99]) as api:
        report = sync.plan(api.url(place), selection=chosen, options=HASTY)
    matched = 4 if chosen else 10
    assert (report.items_seen, report.items_matched, report.assets) == (10, matched, matched)


def test_a_source_that_no_longer_contains_items_was_not_read_completely(tmp_path: Path) -> None:
    with Forgetful([1]) as api:
        first = api._routes["/found"]
        closed = Answer(body=b'{"message": "under maintenance"}')
        begins = lambda request: "page=" not in request.url  # noqa: E731
        api._routes["/found"] = lambda it: closed if api.walks and begins(it) else first(it)
        with pytest.raises(SourceError, match="no longer contains items"):
            sync.mirror(api.url(FOUND), tmp_path, options=HASTY)
    assert sync.status(tmp_path).state == "failed"
