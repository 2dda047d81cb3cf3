"""What stacpull keeps beside the data, after the same mirror was made again on many nights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.items import feature
from tests.serving import serving_files

from stacpull import MirrorReport, Options, Selection, sync

NIGHTS = 32
PER_NIGHT = 6_000  # bytes of all files in `.stacpull`: a run, its events in the log, and a new item
IDS = [f"patch_{number:04}" for number in range(3000)]


def size(dest: Path) -> int:
    return sum(path.stat().st_size for path in (dest / ".stacpull").rglob("*") if path.is_file())


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with serving_files(tmp_path) as served:
        yield served


def items(url: str, night: int) -> list[dict[str, Any]]:
    """Return the items of one night: one is new, one changes, one loses an asset, and one lacks a file."""
    old = [feature(f"i{number}", {"a": f"{url}/a"}) for number in range(night)]
    new = feature(f"i{night}", {"a": f"{url}/a", "b": f"{url}/b"})
    changed = feature("changed", {"a": f"{url}/a"}, note=f"{night:03}" * 20_000)
    return [feature("broken", {"a": f"{url}/gone"}), changed, *old, new]


def test_what_a_mirror_keeps_does_not_grow_with_the_number_of_its_runs(tmp_path: Path, url: str) -> None:
    dest, sizes = tmp_path / "m", list[int]()
    options = Options(metadata="ndjson", allow_private_hosts=True)
    for night in range(NIGHTS):
        source: Any = items(url, night)
        selection = Selection()
        if night % 2:
            source = tmp_path / "items.ndjson"
            source.write_text("".join(json.dumps(item) + "\n" for item in items(url, night)))
            selection = Selection(
                ids=[*IDS, "broken", "changed", *(f"i{number}" for number in range(night + 1))]
            )
        report = sync.mirror(source, dest, selection=selection, options=options)
        assert (report.state, report.items_matched, report.assets_failed) == ("complete", night + 3, 1)
        sizes.append(size(dest))
    assert sync.status(dest).runs == NIGHTS
    grown = sizes[-1] - sizes[NIGHTS // 2 - 1]
    assert grown < PER_NIGHT * NIGHTS / 2, sizes


def test_a_file_of_items_that_is_up_to_date_is_not_written_again(tmp_path: Path, url: str) -> None:
    dest, options = tmp_path / "m", Options(metadata="ndjson", allow_private_hosts=True)
    lines = dest / "c/items.ndjson"

    def written(night: int) -> tuple[int, int]:
        sync.mirror(items(url, night), dest, options=options)
        return lines.stat().st_ino, len(lines.read_bytes().splitlines())

    first = written(1)
    assert (written(1), written(2)[1]) == (first, first[1] + 1)
    content = lines.read_bytes()
    for change in (lines.unlink, lambda: lines.write_bytes(b"{}\n")):
        change()
        written(2)
        assert lines.read_bytes() == content


def test_a_long_selection_of_an_earlier_run_is_not_needed_any_more(tmp_path: Path) -> None:
    source, dest = tmp_path / "items.ndjson", tmp_path / "m"
    area = json.dumps({"type": "MultiPoint", "coordinates": [[0, n / 1000] for n in range(1000)]})

    def mirrored(names: str, selection: Selection) -> MirrorReport:
        entries = [feature(name, {name: f"./{name}"}, geometry=json.loads(area)) for name in names]
        source.write_text("".join(json.dumps(item) + "\n" for item in entries))
        return sync.mirror(source, dest, selection=selection)

    long = Selection(ids=[*"abc", *IDS], intersects=area)
    (tmp_path / "b").write_text("b")
    assert mirrored("ab", long).assets_failed == 1
    assert sync.status(dest).selection == {"ids": ["a", "b", "c", *IDS], "intersects": long.intersects}
    assert mirrored("bc", long).items_not_listed == 1  # the selection is the same
    other = Selection(ids=[*IDS, "b"], assets="b")
    assert (mirrored("b", other).items_not_listed, sync.status(dest).assets_failed) == (0, 2)
    assert sync.status(dest).selection == {"ids": [*IDS, "b"], "assets": ["b"]}
    for name in "ac":
        (tmp_path / name).write_text(name)
    assert (sync.retry(dest).assets_failed, sync.status(dest).assets_done) == (0, 3)
    assert sync.verify(dest).exit_code == 0


@pytest.mark.parametrize("has_url", [True, False])
def test_a_mirror_without_metadata_keeps_no_documents_that_it_can_read_again(tmp_path, url, has_url):
    dest, bare = tmp_path / "m", Options(metadata="none", allow_private_hosts=True)
    links = [{"rel": "self", "href": f"{url}/i.json"}] * has_url
    item = feature("i", {"a": f"{url}/a"}, links=links, note="x" * 500_000)
    for name in ("i.json", "items.ndjson"):
        (tmp_path / name).write_text(json.dumps(item))
    for _ in range(2):
        sync.mirror(tmp_path / "items.ndjson", dest, options=bare)
        assert {path.name for path in dest.rglob("*.json")} == {"catalog.json", "collection.json"}
        assert (size(dest) < 500_000) is has_url
    (dest / "c/i/a").write_bytes(b"damaged")
    assert sync.verify(dest, repair=True, options=Options(allow_private_hosts=True)).exit_code == 0
    sync.mirror(tmp_path / "items.ndjson", dest, options=Options(allow_private_hosts=True))
    assert len(json.loads((dest / "c/i/i.json").read_text())["note"]) == 500_000
    assert sync.verify(dest).exit_code == 0
