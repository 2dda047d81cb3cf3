"""`--adopt`: a tree that another tool downloaded becomes a mirror, without fetching what is the same."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import evolve
from tests.acceptance.command import export_here
from tests.acceptance.mirrored import Mirrored, flipped, is_same, rewritten
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer
from tests.store_in_thread import store_on_thread

from stacpull import Options
from stacpull.engine.fetchers import AdoptingFetcher
from stacpull.errors import DestinationError
from stacpull.models import AssetFile, Job
from stacpull.store.inspection import StoredFiles
from stacpull.store.local_store import LocalStore
from stacpull.store.staging import StagedParts
from stacpull.sync import failures, mirror, resume, retry
from stacpull_replicas import Status


@pytest.fixture
def downloaded(
    mirrored_once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirrored]:
    """What a notebook with a download tool leaves: the files, their own times, and nothing else."""
    export_here(mirrored_once.replica, monkeypatch.setenv)
    dest = tmp_path / "m"
    shutil.copytree(mirrored_once.dest / "bigearthnet", dest / "bigearthnet", copy_function=shutil.copyfile)
    yield Mirrored(mirrored_once.replica, dest, evolve(mirrored_once.options, adopt=True))
    mirrored_once.replica.clear_faults()


def inodes(mirrored: Mirrored) -> dict[str, int]:
    return {name: (mirrored.dest / name).stat().st_ino for name in mirrored.assets}


def test_identical_files_of_another_tool_are_adopted(mirrored_once: Mirrored, downloaded: Mirrored) -> None:
    before = inodes(downloaded)
    report = downloaded.mirror()
    assert (report.exit_code, report.assets_done, report.assets_skipped) == (0, len(before), len(before))
    assert report.bytes_fetched < 200_000  # pages only: the files are 1 MB
    assert inodes(downloaded) == before
    assert all((downloaded.dest / name).stat().st_nlink == 1 for name in before)
    assert is_same(mirrored_once.files, downloaded.files) == []
    assert list((downloaded.dest / ".stacpull/parts").iterdir()) == []
    assert downloaded.verify().exit_code == 0


def test_without_adopt_existing_files_are_failures(downloaded: Mirrored) -> None:
    before = {name: (downloaded.dest / name).read_bytes() for name in downloaded.assets}
    downloaded.options = evolve(downloaded.options, adopt=False)
    report = downloaded.mirror()
    assert (report.exit_code, report.assets_failed) == (1, len(before))
    assert {failure.kind for failure in failures(downloaded.dest)} == {"exists"}
    assert {name: (downloaded.dest / name).read_bytes() for name in before} == before
    downloaded.options = evolve(downloaded.options, adopt=True)
    assert downloaded.mirror().exit_code == 0
    assert downloaded.verify().exit_code == 0


def test_a_file_that_vanishes_while_it_is_adopted_is_fetched(downloaded, monkeypatch):
    path = next(iter(downloaded.assets))
    link = StagedParts.link_part

    def vanishing(parts: StagedParts, asset: AssetFile, files: StoredFiles, file: str) -> AssetFile | None:
        if file == path:
            (downloaded.dest / path).unlink(missing_ok=True)
        return link(parts, asset, files, file)

    monkeypatch.setattr(StagedParts, "link_part", vanishing)
    report = downloaded.mirror()
    assert (report.exit_code, report.assets_done) == (0, len(downloaded.assets))
    assert downloaded.verify().exit_code == 0


def as_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (rewritten(lambda data: data[:-1]), "bytes, but should have"),
        (rewritten(lambda _: b""), "it has 0 bytes"),
        (rewritten(flipped), "is not what"),
        (as_link, "a link"),
    ],
    ids=["short", "empty", "altered", "link"],
)
def test_a_file_that_differs_from_its_asset_is_kept_and_reported(mirrored_once, downloaded, change, why):
    name = next(name for name in downloaded.assets if name.endswith("_B02.tif"))
    change(downloaded.dest / name)
    strange = (downloaded.dest / name).read_bytes()
    report = downloaded.mirror()
    assert (report.exit_code, report.assets_failed) == (1, 1)
    (failed,) = failures(downloaded.dest)
    assert (failed.kind, failed.key, why in failed.message) == ("exists", "B02", True), failed.message
    assert (downloaded.dest / name).read_bytes() == strange
    (downloaded.dest / name).unlink()
    assert retry(downloaded.dest, options=downloaded.options).exit_code == 0
    assert is_same(mirrored_once.files, downloaded.files) == []


def test_files_are_adopted_if_head_requests_are_refused(mirrored_once, downloaded):
    altered = next(name for name in downloaded.assets if name.endswith("_B03.tif"))
    rewritten(flipped)(downloaded.dest / altered)
    downloaded.replica.inject(lambda request: request.method == "HEAD", Status(405), times=10_000)
    report = downloaded.mirror()
    assert (report.exit_code, report.assets_failed) == (1, 1)
    assert [failure.kind for failure in failures(downloaded.dest)] == ["exists"]
    assert is_same(mirrored_once.files, downloaded.files)[:1] == [altered]


@pytest.mark.parametrize("adopt", [True, False])
@pytest.mark.parametrize("name", ["data", "1.json"])
@pytest.mark.parametrize(
    ("make", "why"),
    [(Path.mkdir, "it is a directory"), (lambda path: path.symlink_to("/etc/hostname"), "it is a link"),
     (lambda path: path.write_bytes(b"mine"), "its content differs")],
    ids=["directory", "link", "file"],
)  # fmt: skip
def test_adopt_is_advised_only_if_it_may_help(tmp_path, make, why, name, adopt):
    path = tmp_path / "a/1" / name
    path.parent.mkdir(parents=True)
    make(path)
    with SmallApi({"a": ["1"]}) as api:
        mirror(api.url("/collections/a"), tmp_path, options=Options(adopt=adopt))
        retry(tmp_path, options=Options(adopt=adopt))
    (failed,) = failures(tmp_path)
    may_help = why == "its content differs" and not adopt
    said = f"({why})" in failed.message, "--adopt" in failed.message
    assert (failed.kind, *said) == ("exists", not may_help, may_help), failed.message


@pytest.mark.skipif(os.name != "posix", reason="hard links")
def test_files_are_copied_where_hard_links_are_unsupported(mirrored_once, downloaded, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    report = downloaded.mirror()
    assert report.exit_code == 0
    assert report.bytes_fetched < 200_000  # pages only
    assert is_same(mirrored_once.files, downloaded.files) == []


@pytest.mark.parametrize("checksum", ["sha256", "crc64nvme", "none"])
def test_two_names_of_one_file_are_two_assets(tmp_path: Path, checksum: str) -> None:
    """What a tool that finds duplicates leaves: hard links."""
    etag = '"' + hashlib.md5(b"same").hexdigest() + '"'  # noqa: S324 - what servers state
    for name in "12":
        (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "a/1/data").write_bytes(b"same")
    (tmp_path / "a/2/data").hardlink_to(tmp_path / "a/1/data")

    with SmallApi({"a": ["1", "2"]}, asset=Answer(body=b"same", headers={"ETag": etag})) as api:
        report = mirror(api.url("/collections/a"), tmp_path, options=Options(adopt=True, checksum=checksum))
    assert (report.exit_code, report.assets_done, report.assets_failed) == (0, 2, 0)
    assert (tmp_path / "a/1/data").stat().st_nlink == 2
    assert list((tmp_path / ".stacpull/parts").iterdir()) == []


def test_a_failed_sync_removes_no_existing_file(downloaded, monkeypatch):
    before, sync = downloaded.files, LocalStore.sync

    def failing(self: LocalStore, parts: Sequence[str]) -> None:
        if any(name.endswith(".whole") for name in parts):
            raise DestinationError("The disk failed.")
        sync(self, parts)

    with monkeypatch.context() as patch, store_on_thread():
        patch.setattr(LocalStore, "sync", failing)
        with pytest.raises(DestinationError, match="The disk failed"):
            downloaded.mirror()
    downloaded.options = evolve(downloaded.options, retries=0)
    downloaded.replica.inject(lambda request: request.server != "api", Status(404), times=10_000)
    downloaded.mirror()
    downloaded.replica.clear_faults()
    assert {name: data for name, data in downloaded.files.items() if name in before} == before
    assert retry(downloaded.dest, options=downloaded.options).exit_code == 0
    assert downloaded.verify().exit_code == 0


def test_resume_uses_the_options_of_the_run(mirrored_once, downloaded, monkeypatch):
    stop = asyncio.Event()
    fetch, requested = AdoptingFetcher.fetch, []

    async def stopping(self: AdoptingFetcher, job: Job) -> AssetFile | None:
        requested.append(job.rowid)
        if len(requested) == 5:
            stop.set()
        return await fetch(self, job)

    plain, downloaded.options = downloaded.options, evolve(downloaded.options, concurrency=1)
    with monkeypatch.context() as patch:
        patch.setattr(AdoptingFetcher, "fetch", stopping)
        assert downloaded.mirror(stop=stop).state == "interrupted"
    report = resume(downloaded.dest, options=evolve(plain, adopt=False))
    assert (report.exit_code, report.assets_failed) == (0, 0)
    assert is_same(mirrored_once.files, downloaded.files) == []
