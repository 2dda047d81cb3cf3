"""The file of a job's results: rows, the position to resume from; damaged, or another file."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import DestinationError, UsageError
from stacpull_raster.results import Result, Results

QUESTION = {"source": "http://api.test/", "selection": {"labels": ["a", "b"]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.stacpull"


@pytest.fixture
def results(path: Path) -> Iterator[Results]:
    with Results(path, QUESTION) as opened:
        yield opened


def row(key: str, *, ok: bool = True, place: int | None = None) -> Result:
    return Result(key, b"{}", ok, place)


def test_a_new_file_without_results_is_removed_after_an_error(path: Path) -> None:
    """Or the right command would be refused after a wrong one, as another query."""
    with pytest.raises(UsageError), Results(path, {"job": "wrong"}):
        raise UsageError("wrong")
    assert list(path.parent.iterdir()) == []
    Results(path, QUESTION).close()
    with pytest.raises(UsageError), Results(path, QUESTION):
        raise UsageError("wrong")
    assert path.exists()


def test_a_position_is_saved_with_its_rows_or_not_at_all(results: Results, path: Path) -> None:
    results.put([row("a")], position={"page": 1})

    def breaking() -> Iterator[Result]:
        yield row("b")
        raise RuntimeError("the job broke")

    with pytest.raises(RuntimeError):
        results.put(breaking(), position={"page": 2})
    results.put([row("c")])
    results.close()
    with Results(path, QUESTION) as again:
        assert again.position == {"page": 1}
        assert [found.key for found in again.rows()] == ["a", "c"]


def test_rows_of_another_command_are_refused(path: Path) -> None:
    Results(path, {"a": 1}).close()
    with Results(path, QUESTION) as results:  # the other command had no row
        results.put([row("a")])
    with pytest.raises(UsageError, match="has results of another command: "):
        Results(path, {"a": 1})


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\1" * 4096])
def test_a_file_without_results_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DestinationError, match="not a results file"):
        Results(path, QUESTION)
    assert path.read_bytes() == content


@pytest.mark.parametrize("end", ["", "-wal", "-journal"])
def test_a_pipe_instead_of_the_file_is_refused(path: Path, end: str) -> None:
    os.mkfifo(path.with_name(path.name + end))
    with pytest.raises(DestinationError, match="is not a regular file"):
        Results(path, QUESTION)


def test_a_file_of_a_newer_stacpull_is_refused(results: Results, path: Path) -> None:
    results.put([row("a")])
    results.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DestinationError, match=r"has version 99 .* remove it"):
        Results(path, QUESTION)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.booleans()), max_size=30))
def test_results_behave_as_a_dictionary_sorted_by_place(puts: list[tuple[str, int, bool]]) -> None:
    expected: dict[str, tuple[int, bool]] = {}
    with TemporaryDirectory() as top, Results(Path(top, "results"), QUESTION) as results:
        for key, place, ok in puts:
            results.put([row(key, ok=ok, place=place)])
            expected[key] = (place, ok)
        found = {one.key: (one.place, one.ok) for one in results.rows()}
        assert found == expected
        places = [one.place or 0 for one in results.rows()]
        assert places == sorted(places)
        assert results.count(ok=True) == sum(ok for _, ok in expected.values())
