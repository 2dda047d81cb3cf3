"""Files that the user deleted are noticed by the next `mirror`, fetched again, counted and reported."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run
from tests.acceptance.small_api import SmallApi
from tests.acceptance.trees import files_in
from tests.net.memory import Answer

from stacpull import Notice, Options, sync
from stacpull_replicas import EvolvingReplica, Status, run_in_thread

ITEMS = ["1", "2", "3"]
CHANGES: dict[str, tuple[Callable[[Path], None], int, int]] = {
    "nothing": (lambda _: None, 0, 0),
    "one file": (lambda dest: (dest / "c/2/data").unlink(), 1, 0),
    "item JSON": (lambda dest: (dest / "c/2/2.json").unlink(), 0, 1),
    "a directory": (lambda dest: shutil.rmtree(dest / "c/2"), 1, 1),
    "a collection": (lambda dest: shutil.rmtree(dest / "c"), 3, 3),
    "catalogs": (
        lambda dest: [(dest / name).unlink() for name in ("catalog.json", "c/collection.json")],
        0,
        0,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("revalidate", [False, True])
def test_files_deleted_by_the_user_are_fetched_again(tmp_path: Path, change: str, revalidate: bool) -> None:
    delete, files, documents = CHANGES[change]
    events: list[object] = []
    with SmallApi({"c": ITEMS}) as api:
        source = api.url("/collections/c")
        assert sync.mirror(source, tmp_path).assets_done == len(ITEMS)
        before = content(tmp_path)
        delete(tmp_path)
        api.requests.clear()
        options = Options(revalidate=revalidate)
        report = sync.mirror(source, tmp_path, options=options, on_event=events.append)
        requested = sum("/assets/" in one.target for one in api.requests)
    assert content(tmp_path) == before
    assert (report.exit_code, report.assets_done, report.files_lost) == (0, len(ITEMS), files + documents)
    if not revalidate:
        assert (requested, report.assets_skipped) == (files, len(ITEMS) - files)
    assert (report.assets_changed, report.items_changed) == (0, 0)
    notices = [one.text for one in events if isinstance(one, Notice) and "written again" in one.text]
    assert len(notices) == (files + documents > 0)
    assert sync.verify(tmp_path).exit_code == 0


def test_a_file_that_takes_the_place_of_a_deleted_one_stays(tmp_path: Path) -> None:
    answers = [Answer(body=b"data")]
    own = tmp_path / "c/2/data"
    with SmallApi({"c": ITEMS}, asset=lambda _: answers[-1]) as api:
        source = api.url("/collections/c")
        sync.mirror(source, tmp_path)
        own.unlink()
        answers.append(Answer(404))
        before = sync.mirror(source, tmp_path)
        answers.append(Answer(body=b"data"))
        own.write_bytes(b"mine")
        after = sync.retry(tmp_path)
    assert (before.exit_code, before.assets_failed) == (1, 1)
    assert (after.exit_code, after.assets_failed) == (1, 1)
    assert own.read_bytes() == b"mine"
    assert [one.kind for one in sync.failures(tmp_path)] == ["exists"]


def content(dest: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_in(dest).items()}


def test_the_command_prints_it_also_if_the_file_cannot_be_fetched_again(tmp_path: Path) -> None:
    with run_in_thread(EvolvingReplica(items=3)) as replica:
        arguments = ["mirror", replica.base_url, str(tmp_path), "--no-progress", "--retries", "0"]
        assert run(arguments, environment()).code == 0
        for path in tmp_path.glob("evolving/*/data.bin"):
            path.unlink()
        ran = run(arguments, environment())
        assert f"3 files missing in {tmp_path}: requested or written again." in ran.err
        assert ran.code == 0
        (tmp_path / "evolving/item-0001/data.bin").unlink()
        replica.inject(lambda request: request.path.endswith("item-0001/data.bin"), Status(404), times=9)
        ran = run([*arguments, "--json"], environment())
        assert (ran.code, ran.report["assets_failed"], ran.report["files_lost"]) == (1, 1, 1)
        assert f"1 file missing in {tmp_path}: requested or written again." in ran.err
        assert "restored" not in ran.err
        replica.clear_faults()
        assert run(["retry", str(tmp_path)], environment()).code == 0
        assert (tmp_path / "evolving/item-0001/data.bin").exists()
