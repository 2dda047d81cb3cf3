"""A sloppy server: it claims to support search, and answers 500 where a GET response has a second page."""

from collections.abc import Iterator

import orjson
import pytest
from tests.servers.process import is_listening, program_path, running
from tests.servers.searched import COLLECTIONS, collections, items, walked
from tests.serving import free_ports

from stacpull.selection import Selection

COUNT = 60
IDS = tuple(item["id"] for item in items(4))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command, work = program_path("rustac", venv="rustac"), tmp_path_factory.mktemp("rustac")
    documents = [{"type": "FeatureCollection", "features": list(items(COUNT))}, *collections()]
    files = [work / f"{number}.json" for number in range(len(documents))]
    for file, document in zip(files, documents, strict=True):
        file.write_bytes(orjson.dumps(document))
    port = free_ports(1)
    arguments = [command, "serve", "--addr", f"127.0.0.1:{port}", *files]
    with running(arguments, work / "rustac.out", ready=lambda: is_listening(port)):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("selection", "warned"),
    [
        (Selection(collections=COLLECTIONS, bbox=(-10, -80, 40, 40)), True),
        (Selection(collections=COLLECTIONS, datetime="2018-01-01/.."), True),
        (Selection(collections=COLLECTIONS, max_cloud_cover=30.0), False),  # it does not offer filters
        (Selection(collections=COLLECTIONS, bbox=(179, 89, 180, 90)), False),  # nothing is there, believed
        (Selection(collections=COLLECTIONS, ids=IDS), False),
    ],
)
def test_search_errors_fall_back_to_walking_everything(url: str, selection: Selection, warned: bool) -> None:
    pushed = walked(url, selection, page_size=3)
    plain = walked(url, selection, push_down=False, page_size=20)
    assert plain.seen == COUNT
    assert sorted(pushed.kept) == sorted(plain.kept)
    assert any("all items are read and filtered here" in text for text in pushed.warnings) == warned


def test_a_search_with_one_page_of_results_is_pushed_down(url: str) -> None:
    found = walked(url, Selection(collections=COLLECTIONS, bbox=(-10, -80, 40, 40)))
    assert found.warnings == []
    assert 0 < found.seen < COUNT
