"""What a stored run keeps when it is continued, and what may be given again."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run
from tests.items import feature

from stacpull import Options, Selection, UsageError, sync


def items(top: Path, count: int) -> Path:
    (top / "data").write_bytes(b"data")
    path = top / "items.ndjson"
    lines = (json.dumps(feature(str(one), {"data": "./data"})) for one in range(count))
    path.write_text("\n".join(lines))
    return path


def interrupt(dest: Path, selection: str) -> None:
    """Have the run in DEST be one that was interrupted, with this selection (an expression of SQL)."""
    with closing(sqlite3.connect(dest / ".stacpull/ledger.sqlite")) as db, db:
        db.execute(f"UPDATE runs SET state = 'interrupted', walk_ended = 0, selection = {selection}")  # noqa: S608


@pytest.mark.parametrize("again", ["resume", "retry", "mirror"])
def test_an_unknown_member_of_a_stored_selection_is_an_error(tmp_path: Path, again: str) -> None:
    source, dest = items(tmp_path, 3), tmp_path / "m"
    (tmp_path / "data").rename(tmp_path / "away")
    assert sync.mirror(source, dest, selection=Selection(max_items=1)).assets_failed == 1
    (tmp_path / "away").rename(tmp_path / "data")
    interrupt(dest, "json_set(selection, '$.max_snow', 20)")
    if again == "mirror":
        assert sync.mirror(source, dest, selection=Selection(max_items=1)).state == "complete"
        return
    with pytest.raises(UsageError, match="max_snow, which this version does not know"):
        getattr(sync, again)(dest, options=Options())
    assert sync.status(dest).assets_done == 0


def test_a_run_draws_its_sample_once_also_if_the_source_grows(tmp_path: Path) -> None:
    source, dest = items(tmp_path, 5), tmp_path / "m"
    assert sync.mirror(source, dest, selection=Selection(sample=3)).items_matched == 3
    drawn = sorted(dest.rglob("data.bin"))
    interrupt(dest, "selection")
    items(tmp_path, 60)
    report = sync.resume(dest)
    assert (report.state, report.items_matched, report.assets_done) == ("complete", 3, 3)
    assert sorted(dest.rglob("data.bin")) == drawn


def test_resume_takes_transfer_options_again(tmp_path: Path) -> None:
    source, dest = items(tmp_path, 2), tmp_path / "m"
    sync.mirror(source, dest, selection=Selection(max_items=1))
    (dest / "c/1").mkdir()
    (dest / "c/1/data").write_bytes(b"data")  # for --adopt
    interrupt(dest, "json_remove(selection, '$.max_items')")
    options = ["--adopt", "--checksum", "crc64nvme", "--revalidate", "--prune", "--json"]
    ran = run(["resume", str(dest), *options], environment())
    assert (ran.code, ran.report["assets_done"], ran.report["bytes_done"]) == (0, 2, 8), ran.err
