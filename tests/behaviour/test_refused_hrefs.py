"""An item is read again once, for all of its assets whose hrefs are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer

from stacpull import Options, sync

pytestmark = pytest.mark.behaviour


def test_an_item_is_read_again_once_for_all_its_assets(tmp_path: Path) -> None:
    with WireServer({f"/{n}?sig=x": [Answer(403)] for n in range(20)}) as files:
        item = feature("one", {f"a{n}": files.url(f"/{n}?sig=x") for n in range(20)})

        def respond(*_: object) -> Answer:
            item["links"] = [{"rel": "self", "href": source.url("/item.json")}]
            return Answer(body=json.dumps(item).encode(), headers={"Content-Type": "application/json"})

        with WireServer({"/item.json": respond}) as source:
            options = Options(per_host=1, retries=0, allow_private_hosts=True)
            report = sync.mirror(source.url("/item.json"), tmp_path / "m", options=options)
        assert (report.assets_failed, len(files.requests)) == (20, 20)
        assert len(source.requests) == 2
