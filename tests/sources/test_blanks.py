"""Hrefs with surrounding blanks in a whole mirror."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
from tests.net.memory import Answer
from tests.net.wire_server import Scripted
from tests.security.sources import Source, feature, json_answer

from stacpull import MirrorReport, mirror
from stacpull.net.transport import Request


def test_blanks_around_the_hrefs_of_assets_and_links_are_stripped(tmp_path: Path) -> None:
    """By the URL standard, browsers follow such hrefs."""

    def others(requested: Request) -> Scripted:
        if requested.url == "/s.json":
            return json_answer(feature("s", {"b": "\n./b.tif"}))
        return Answer(body=b"data")

    async def course() -> MirrorReport:
        async with Source(others=others) as source:
            link = {"rel": "source", "href": f"\n  {source.url('/s.json')}  "}
            source.features = [feature("i", {"a": f" {source.url('/a.tif')}\r\n"}, links=[link])]
            report = await mirror(source.api, tmp_path)
            written = orjson.loads((tmp_path / "c/i/i.json").read_bytes())
            assert written["assets"]["a"]["alternate"]["origin"]["href"] == source.url("/a.tif")
            return report

    report = asyncio.run(course())
    assert (report.state, report.assets_done, report.exit_code) == ("complete", 2, 0)
    assert (tmp_path / "c/s/b.tif").read_bytes() == b"data"
