"""A `/search` URL as SOURCE, and a selection pushed down to it or not, over the replica of MLHub."""

from collections.abc import Mapping
from typing import Any

import attrs
import orjson
import pytest
from tests.acceptance.command import LABELS
from tests.events import stopping_at
from tests.net.memory import Answer
from tests.net.wire_server import WireServer
from tests.sources.model_api import ModelApi

from stacpull import Options, Secret, Selection, status, sync
from stacpull.events import RunStarted
from stacpull.models import PageRequest

WIDE = "-9,35,30,70"
EVERYWHERE = Selection(collections=(LABELS,), bbox=(-9.0, 35.0, 30.0, 70.0), source_links=False)


def options_for(hub, **more):
    return Options(query={"key": Secret(hub.key)}, **more)


def test_a_stopped_search_resumes_and_its_key_is_not_stored(small_hub, tmp_path):
    source = f"{small_hub.base_url}/search?collections={LABELS}&bbox={WIDE}&limit=7&key={small_hub.key}"
    chosen = Selection(source_links=False)
    dest = tmp_path / "m"
    first = sync.mirror(source, dest, selection=chosen, **stopping_at(RunStarted))
    assert first.state == "interrupted"
    report = sync.resume(dest, options=options_for(small_hub))
    whole = sync.plan(small_hub.base_url, selection=EVERYWHERE, options=options_for(small_hub))
    assert report.state == "complete"
    assert status(dest).items_matched == whole.items_matched > 7
    assert status(dest).source == f"{small_hub.base_url}/search?collections={LABELS}&bbox={WIDE}&limit=7"
    written = (path.read_bytes() for path in (dest / ".stacpull").rglob("*") if path.is_file())
    assert not any(small_hub.key.encode() in content for content in written)


class Ending(ModelApi):
    """Collection `a` has no items from 2020-01-05 on; collection `b` has."""

    def _found(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = super()._found(query)
        last = "2020-01-05"
        return [one for one in found if one["collection"] != "a" or one["properties"]["datetime"] <= last]


@pytest.mark.parametrize(
    "collections", [Selection(collections=("a", "b")), Selection(all_collections=True)], ids=["named", "all"]
)
def test_a_collection_without_results_does_not_end_the_walk_of_the_next_one(collections):
    """With labels, the first items of a collection without results are read during the walk."""
    model, notices = Ending(count=20), []
    chosen = attrs.evolve(collections, exclude_labels=("Pastures",), datetime="2020-01-06/2020-01-10")

    def answer(request):
        found = model.answer(PageRequest(request.url))
        return Answer(body=orjson.dumps(found), headers={"Content-Type": "application/json"})

    paths = "", "/collections", "/search", *(f"/collections/{n}{e}" for n in "ab" for e in ("", "/items"))
    with WireServer({f"/v1{path}": answer for path in paths}) as server:
        found = sync.plan(server.url("/v1"), selection=chosen, on_event=notices.append)
    assert found.items_matched == 5
    assert not [one for one in notices if "of other collections" in getattr(one, "text", "")]
