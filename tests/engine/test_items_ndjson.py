"""`--metadata ndjson`: the items of a collection in one file, which is whole or as it was before."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace
from tests.engine.bench import SPEC, Bench, RecordingStore, parts, planned

from stacpull.engine.publisher import Publisher
from stacpull.errors import DestinationError, InterruptedRunError
from stacpull.ledger import meta, queries

PATH = "c/items.ndjson"
LINES = replace(SPEC, fixed={**SPEC.fixed, "metadata": "ndjson"})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, spec=LINES)
    bench.plan(planned("i1", ["a"]))
    yield bench
    bench.close()


def write(bench: Bench, *, stopped: bool = False) -> None:
    for row in queries.collection_rows(bench.db):
        bench.operations._write_ndjson(row, meta.file_digests(bench.db), lambda: stopped)


def ids(dest: Path) -> list[str]:
    return [orjson.loads(line)["id"] for line in (dest / PATH).read_bytes().splitlines()]


def broken(*_: object) -> bytes:
    raise RuntimeError("ledger gone")


def test_a_stop_or_an_error_leaves_the_old_file_and_a_later_run_replaces_it(bench, tmp_path, monkeypatch):
    write(bench)
    bench.plan(planned("i2", ["a"]))
    with pytest.raises(InterruptedRunError):
        write(bench, stopped=True)
    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "item_json", broken)
        with pytest.raises(RuntimeError):
            write(bench)
    assert ids(tmp_path) == ["i1"]
    write(bench)
    assert ids(tmp_path) == ["i1", "i2"]
    assert parts(tmp_path) == []


@pytest.mark.parametrize("fails", [False, True])
def test_the_file_is_synced_before_it_has_its_name(tmp_path: Path, fails: bool) -> None:
    class Watching(RecordingStore):
        def sync(self, parts):
            there.append((list(parts), (tmp_path / PATH).exists()))
            super().sync(parts)

    there: list[tuple[list[str], bool]] = []
    bench = Bench(tmp_path, Watching(tmp_path, fails=fails), LINES)
    bench.plan(planned("i1", ["a"]))
    if fails:
        with pytest.raises(DestinationError, match="failed to store data"):
            write(bench)
    else:
        write(bench)
    assert there[0] == (["items.ndjson"], False)
    assert (tmp_path / PATH).exists() is not fails
    bench.close()


def test_memory_does_not_grow_with_the_number_of_items(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.plan(*(planned(f"n{number}", ["a"]) for number in range(3000)))
    monkeypatch.setattr(Publisher, "item_json", lambda *_: b"x" * 10_000)
    tracemalloc.start()
    write(bench)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20
