"""The file of a job's results: questions, answers, the position to resume from; killed, locked, damaged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
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
    """Where the file goes."""
    return tmp_path / "out.csv.stacpull"


@pytest.fixture
def results(path: Path) -> Iterator[Results]:
    """A new file of results."""
    with Results(path, QUESTION) as opened:
        yield opened


def row(key: str, value: bytes = b"{}", *, ok: bool = True, place: int | None = None) -> Result:
    return Result(key, value, ok, place)


def test_a_new_file_is_empty(results: Results) -> None:
    assert results.position is None
    assert results.get("a") is None
    assert list(results.rows()) == []
    assert (results.count(ok=True), results.count(ok=False)) == (0, 0)
    assert results.known(["a"]) == set()


def test_rows_without_a_place_are_read_in_insertion_order(results: Results, path: Path) -> None:
    results.put([row("c"), row("a")])
    results.close()
    with Results(path, QUESTION) as again:
        again.put([row("b")])
        assert [found.key for found in again.rows()] == ["c", "a", "b"]


def test_rows_are_read_in_order_of_place(results: Results) -> None:
    results.put([row("c", place=2), row("z", place=0)])
    results.put([row("b", place=1), row("last")])
    assert [found.key for found in results.rows()] == ["z", "b", "c", "last"]


def test_a_failed_row_is_distinguished_from_an_answered_one(results: Results) -> None:
    results.put([row("good", b'{"width":1}'), row("bad", b'{"error":"gone"}', ok=False)])
    assert results.get("bad") == Result("bad", b'{"error":"gone"}', ok=False, place=1)
    assert results.known(["good", "bad", "new"]) == {"good", "bad"}
    assert (results.count(ok=True), results.count(ok=False)) == (1, 1)


def test_a_row_is_replaced(results: Results) -> None:
    results.put([row("a", b"1", ok=False, place=0), row("b", b"2", place=1)])
    results.put([row("a", b"3", place=0)])
    assert [(found.key, found.value, found.ok) for found in results.rows()] == [
        ("a", b"3", True),
        ("b", b"2", True),
    ]


def test_more_keys_than_one_statement_takes(results: Results) -> None:
    keys = [f"key {n}" for n in range(2100)]
    results.put(map(row, keys))
    assert results.known([*keys, "other"]) == set(keys)


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


def test_the_same_query_continues_in_any_key_order(results: Results, path: Path) -> None:
    results.put([row("a")])
    results.close()
    with Results(path, dict(reversed(QUESTION.items()))) as again:
        assert again.known(["a"]) == {"a"}


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ({**QUESTION, "source": "http://other.test/"}, "source"),
        ({**QUESTION, "selection": {"labels": ["a"]}}, "selection"),
        ({"source": "http://api.test/"}, "selection"),
        ({**QUESTION, "method": "mode"}, "method"),
    ],
)
def test_another_query_is_rejected_with_the_difference(
    results: Results, path: Path, question: dict[str, object], named: str
) -> None:
    results.put([row("a")])
    results.close()
    with pytest.raises(UsageError, match=f"another query .different: {named}.") as reported:
        Results(path, question)
    assert str(path) in str(reported.value)
    with Results(path, QUESTION) as again:
        assert again.known(["a"]) == {"a"}


HOLD = """
import sys, time
from pathlib import Path
from stacpull_raster.results import Result, Results
results = Results(Path(sys.argv[1]), {"source": "http://api.test/", "selection": {"labels": ["a", "b"]}})
n = 0
while True:
    results.put([Result(f"key {n}", b"{}"), Result(f"twin {n}", b"{}")], position={"n": n})
    print(n, flush=True)
    n += 1
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that puts rows for ever; it has put some."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            for _ in range(5):
                assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_two_processes_do_not_work_on_one_file(holder: subprocess.Popen[bytes], path: Path) -> None:
    with pytest.raises(DestinationError, match="Another stacpull"):
        Results(path, QUESTION)
    assert holder.poll() is None


def test_after_a_kill_every_row_that_was_put_is_there(holder: subprocess.Popen[bytes], path: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    message, _ = holder.communicate()
    last = int(message.split()[-1]) if message else 4
    with Results(path, QUESTION) as results:
        position = results.position
        assert position is not None
        assert position["n"] >= last
        assert results.count(ok=True) == 2 * (position["n"] + 1)


def test_a_file_is_locked_within_a_process_too(results: Results, path: Path) -> None:
    with pytest.raises(DestinationError, match="Another stacpull"):
        Results(path, QUESTION)
    assert results.count(ok=True) == 0


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\1" * 4096])
def test_a_file_without_results_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DestinationError, match="not a results file"):
        Results(path, QUESTION)
    assert path.read_bytes() == content


def test_a_link_is_not_written_through(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationError, match="is a link"):
        Results(path, QUESTION)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("end", ["", "-wal", "-journal"])
def test_a_pipe_instead_of_the_file_is_refused(path: Path, end: str) -> None:
    os.mkfifo(path.with_name(path.name + end))
    with pytest.raises(DestinationError, match="is not a regular file"):
        Results(path, QUESTION)


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="cannot be opened"):
        Results(tmp_path / "nowhere" / "x.stacpull", QUESTION)


def test_a_file_of_a_newer_stacpull_is_refused(results: Results, path: Path) -> None:
    results.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DestinationError, match="Install a newer stacpull"):
        Results(path, QUESTION)


def test_starting_over_deletes_rows_position_and_query(results: Results, path: Path) -> None:
    results.put([row("a")], position={"page": 1})
    results.close()
    other = {"source": "another"}
    with Results(path, other, start_over=True) as fresh:
        assert (list(fresh.rows()), fresh.position) == ([], None)
    with Results(path, other) as again:
        assert again.count(ok=True) == 0


def test_failed_rows_are_listed_and_can_be_forgotten(results: Results) -> None:
    results.put(
        [row("c", ok=False, place=2), row("b", place=1), row("a", ok=False, place=0)], position={"p": 9}
    )
    assert [one.key for one in results.failed()] == ["a", "c"]
    results.forget_failed({"p": 0})
    assert [one.key for one in results.rows()] == ["b"]
    assert results.position == {"p": 0}


def test_prefixes_with_rows_before_a_place_are_found(results: Results) -> None:
    results.put(
        [row("c/i/a", place=3), row("c/i/b", place=4), row("c/ii/a", place=9), row("c/\U0010fffe/a", place=1)]
    )
    requested = ["c/i/", "c/ii/", "c/", "d/", "c/\U0010fffe/"]
    assert results.found_before(4, requested) == {"c/i/", "c/", "c/\U0010fffe/"}
    assert results.found_before(3, requested) == {"c/", "c/\U0010fffe/"}
    assert results.found_before(1, requested) == set()
    assert results.found_before(10, requested) == {"c/i/", "c/ii/", "c/", "c/\U0010fffe/"}


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
