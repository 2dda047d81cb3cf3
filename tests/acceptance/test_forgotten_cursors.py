"""Services that forget a cursor during a walk: it is repeated, known items are skipped, and it is bounded."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import (
    MirrorReport,
    Notice,
    Options,
    Selection,
    SourceError,
    mirror,
    plan,
    resume,
    status,
)
from stacpull.net.transport import Request

pytestmark = pytest.mark.usefixtures("threaded_store")

IDS = [str(number) for number in range(1, 11)]
HASTY = Options(retries=0)


class Forgetful(SmallApi):
    """Ten items on five pages; the n-th walk is given `lives[n]` pages, then its cursor has expired."""

    def __init__(self, lives: list[int], code: int = 404) -> None:
        super().__init__({"a": IDS})
        self._routes = {
            **self._routes,
            "/found": partial(self._page, "a"),
        }
        self._lives, self._code = lives, code
        self._left = 0
        self.walks = 0
        self.expired = 0
        """How many cursors are refused before any is good again."""

    def stop_at(self, number: int, stop: asyncio.Event) -> None:
        """Set `stop` when the asset of that number is requested."""

        def asset(_request: Request) -> Answer:
            if asset_requests(self) >= number:
                stop.set()
            return Answer(body=b"data")

        self._routes = {**self._routes, **{f"/assets/a/{one}": asset for one in IDS}}

    def _page(self, name: str, request: Request) -> Answer:
        if "page=" not in request.url:
            self._left = self._lives[min(self.walks, len(self._lives) - 1)]
            self.walks += 1
        elif self.expired:
            self.expired -= 1
            return Answer(self._code, b"{}")
        self._left -= 1
        return super()._page(name, request) if self._left >= 0 else Answer(self._code, b"{}")


def asset_requests(api: SmallApi) -> int:
    return sum(one.target.startswith("/assets/") for one in api.requests)


@pytest.mark.parametrize("code", [400, 404, 410, 422])
@pytest.mark.parametrize("lives", [[2, 99], [1, 2, 3, 4, 99]])
def test_a_walk_recovers_from_a_cursor_that_expires(tmp_path: Path, code: int, lives: list[int]) -> None:
    events: list[object] = []

    async def work() -> MirrorReport:
        async with Forgetful(lives, code) as api:
            report = await mirror(
                api.url("/collections/a"), tmp_path / "m", options=HASTY, on_event=events.append
            )
            assert (api.walks, asset_requests(api)) == (len(lives), 10)
            return report

    report = asyncio.run(work())
    assert (report.state, report.exit_code) == ("complete", 0)
    assert (report.items_seen, report.items_matched, report.items_done, report.assets_done) == (
        10,
        10,
        10,
        10,
    )
    reported = [
        one for one in events if isinstance(one, Notice) and "walking again from the start" in one.text
    ]
    assert [one.level for one in reported] == ["warning", *["info"] * (len(lives) - 2)]


@pytest.mark.parametrize("lives", [[3, 3], [3, 2], [1, 2, 2]])
def test_walks_without_progress_end_with_a_message(tmp_path: Path, lives: list[int]) -> None:
    async def work() -> int:
        async with Forgetful(lives) as api:
            with pytest.raises(
                SourceError, match=r"again and again, the last time after . items .*--datetime"
            ):
                await mirror(api.url("/collections/a"), tmp_path / "m", options=HASTY)
            return api.walks

    assert asyncio.run(work()) == len(lives)
    assert status(tmp_path / "m").assets_done == 2 * max(lives)


def test_resume_continues_an_abandoned_walk_once_cursors_last(tmp_path: Path) -> None:
    async def work() -> MirrorReport:
        async with Forgetful([3, 3, 99]) as api:
            with pytest.raises(SourceError):
                await mirror(api.url("/collections/a"), tmp_path / "m", options=HASTY)
            report = await resume(tmp_path / "m", options=HASTY)
            assert asset_requests(api) == 10
            return report

    report = asyncio.run(work())
    assert (report.state, report.items_done) == ("complete", 10)


@pytest.mark.parametrize("most", [7, 3])
def test_max_items_selects_the_same_items_if_the_walk_restarts(tmp_path: Path, most: int) -> None:
    async def work() -> MirrorReport:
        async with Forgetful([2, 99]) as api:
            chosen = Selection(max_items=most)
            return await mirror(api.url("/collections/a"), tmp_path / "m", selection=chosen, options=HASTY)

    report = asyncio.run(work())
    assert report.items_matched == most
    assert {path.name for path in (tmp_path / "m" / "a").iterdir() if path.is_dir()} == set(IDS[:most])


def test_a_sample_is_the_same_if_the_walk_restarts(tmp_path: Path) -> None:
    def drawn(lives: list[int], dest: Path) -> set[str]:
        async def work() -> None:
            async with Forgetful(lives) as api:
                chosen = Selection(sample=4, seed=3)
                await mirror(api.url("/collections/a"), dest, selection=chosen, options=HASTY)

        asyncio.run(work())
        return {path.name for path in (dest / "a").iterdir() if path.is_dir()}

    assert drawn([3, 99], tmp_path / "again") == drawn([99], tmp_path / "once")


FOUND = "/found?limit=2"
"""An ItemCollection of ten items that names a next page."""


@pytest.mark.parametrize("lives", [[2, 99], [1, 2, 3, 4, 99]])
def test_a_document_whose_pages_expire_is_requested_again(tmp_path: Path, lives: list[int]) -> None:
    events: list[object] = []

    async def work() -> MirrorReport:
        async with Forgetful(lives) as api:
            report = await mirror(api.url(FOUND), tmp_path / "m", options=HASTY, on_event=events.append)
            assert (api.walks, asset_requests(api)) == (len(lives), 10)
            return report

    report = asyncio.run(work())
    assert (report.state, report.exit_code, report.items_seen) == ("complete", 0, 10)
    reported = [
        one for one in events if isinstance(one, Notice) and "no longer knows the saved position" in one.text
    ]
    assert [one.level for one in reported] == ["warning", *["info"] * (len(lives) - 2)]


def test_a_stopped_mirror_resumes_although_its_cursor_has_expired(tmp_path: Path) -> None:
    async def work() -> MirrorReport:
        async with Forgetful([99]) as api:
            options = Options(retries=0, concurrency=1, page_size=2)
            stop = asyncio.Event()
            api.stop_at(3, stop)
            first = await mirror(api.url(FOUND), tmp_path / "m", options=options, stop=stop)
            assert first.state == "interrupted"
            api.expired = 1
            return await resume(tmp_path / "m", options=options)

    report = asyncio.run(work())
    assert (report.state, report.exit_code, status(tmp_path / "m").items_done) == ("complete", 0, 10)


@pytest.mark.parametrize("lives", [[2, 2], [1, 2, 2]])
def test_an_item_list_without_progress_ends_with_usable_advice(tmp_path: Path, lives: list[int]) -> None:
    async def work() -> None:
        async with Forgetful(lives) as api:
            with pytest.raises(SourceError, match="use a SOURCE with fewer items") as raised:
                await mirror(api.url("/found?limit=2"), tmp_path / "found", options=HASTY)
            assert "--datetime" not in str(raised.value)

    asyncio.run(work())


@pytest.mark.parametrize("place", ["/collections/a", FOUND])
def test_plan_restarts_a_walk_as_mirror_does(place: str) -> None:
    async def work() -> None:
        async with Forgetful([1, 2, 99]) as api:
            report = await plan(api.url(place), options=HASTY)
            assert (report.items_seen, report.items_matched, report.assets) == (10, 10, 10)
            chosen = Selection(sample=4, seed=3)
        async with Forgetful([1, 2, 99]) as api:
            assert (await plan(api.url(place), selection=chosen, options=HASTY)).items_matched == 4

    asyncio.run(work())


def test_a_plan_without_progress_ends() -> None:
    async def work() -> None:
        async with Forgetful([2, 2]) as api:
            with pytest.raises(SourceError, match="could not be read"):
                await plan(api.url("/collections/a"), options=HASTY)
            assert api.walks == 2

    asyncio.run(work())
