"""Services that forget a cursor amid a walk: it is walked again, passing over what is known; bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.acceptance.small_api import SmallApi

from stacpull import (
    MirrorReport,
    Notice,
    Options,
    Selection,
    SourceError,
    mirror,
    resume,
    status,
)
from stacpull.net.memory import Answer
from stacpull.net.transport import Request

IDS = [str(number) for number in range(1, 11)]
HASTY = Options(retries=0)


class Forgetful(SmallApi):
    """Ten items on five pages; the n-th walk is given `lives[n]` pages, then its cursor has expired."""

    def __init__(self, lives: list[int], code: int = 404) -> None:
        super().__init__({"a": IDS})
        self._lives, self._code = lives, code
        self._left = 0
        self.walks = 0

    def _page(self, name: str, asked: Request) -> Answer:
        if "page=" not in asked.url:
            self._left = self._lives[min(self.walks, len(self._lives) - 1)]
            self.walks += 1
        self._left -= 1
        return super()._page(name, asked) if self._left >= 0 else Answer(self._code, b"{}")


def asked_for(api: SmallApi) -> int:
    return sum(one.target.startswith("/assets/") for one in api.heard)


@pytest.mark.parametrize("code", [400, 404, 410, 422])
@pytest.mark.parametrize("lives", [[2, 99], [1, 2, 3, 4, 99]])
def test_a_cursor_that_expires_amid_a_walk_is_walked_around(
    tmp_path: Path, code: int, lives: list[int]
) -> None:
    heard: list[object] = []

    async def work() -> MirrorReport:
        async with Forgetful(lives, code) as api:
            report = await mirror(
                api.url("/collections/a"), tmp_path / "m", options=HASTY, on_event=heard.append
            )
            assert (api.walks, asked_for(api)) == (len(lives), 10)
            return report

    report = asyncio.run(work())
    assert (report.state, report.exit_code) == ("complete", 0)
    assert (report.items_seen, report.items_matched, report.items_done, report.assets_done) == (
        10,
        10,
        10,
        10,
    )
    told = [one for one in heard if isinstance(one, Notice) and "walking again from the start" in one.text]
    assert [one.level for one in told] == ["warning", *["info"] * (len(lives) - 2)]


@pytest.mark.parametrize("lives", [[3, 3], [3, 2], [1, 2, 2]])
def test_walks_that_get_no_further_end_with_a_sentence(tmp_path: Path, lives: list[int]) -> None:
    async def work() -> int:
        async with Forgetful(lives) as api:
            with pytest.raises(
                SourceError, match=r"refuses each time what it names behind . items .*split-walk"
            ):
                await mirror(api.url("/collections/a"), tmp_path / "m", options=HASTY)
            return api.walks

    assert asyncio.run(work()) == len(lives)
    assert status(tmp_path / "m").assets_done == 2 * max(lives)


def test_a_walk_that_was_given_up_is_gone_on_with_when_cursors_last(tmp_path: Path) -> None:
    async def work() -> MirrorReport:
        async with Forgetful([3, 3, 99]) as api:
            with pytest.raises(SourceError):
                await mirror(api.url("/collections/a"), tmp_path / "m", options=HASTY)
            report = await resume(tmp_path / "m", options=HASTY)
            assert asked_for(api) == 10
            return report

    report = asyncio.run(work())
    assert (report.state, report.items_done) == ("complete", 10)


@pytest.mark.parametrize("most", [7, 3])
def test_the_first_items_are_the_same_over_a_walk_that_begins_again(tmp_path: Path, most: int) -> None:
    async def work() -> MirrorReport:
        async with Forgetful([2, 99]) as api:
            chosen = Selection(max_items=most)
            return await mirror(api.url("/collections/a"), tmp_path / "m", selection=chosen, options=HASTY)

    report = asyncio.run(work())
    assert report.items_matched == most
    assert {path.name for path in (tmp_path / "m" / "a").iterdir() if path.is_dir()} == set(IDS[:most])


def test_a_sample_is_the_same_over_a_walk_that_begins_again(tmp_path: Path) -> None:
    def drawn(lives: list[int], dest: Path) -> set[str]:
        async def work() -> None:
            async with Forgetful(lives) as api:
                chosen = Selection(sample=4, seed=3)
                await mirror(api.url("/collections/a"), dest, selection=chosen, options=HASTY)

        asyncio.run(work())
        return {path.name for path in (dest / "a").iterdir() if path.is_dir()}

    assert drawn([3, 99], tmp_path / "again") == drawn([99], tmp_path / "once")
