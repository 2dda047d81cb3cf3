"""The hub judged by its own client, radiant-mlhub 0.5.5: lists, pages, archives, a whole download."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.clients.venv_tools import run_script

from stacpull_replicas import MlhubReplica

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
VENV = "radiant-mlhub"


@pytest.fixture(params=["2022", "2021"])
def either_hub(request: pytest.FixtureRequest) -> MlhubReplica:
    replica: MlhubReplica = request.getfixturevalue("hub" if request.param == "2022" else "hub_2021")
    return replica


def ids(replica: MlhubReplica, collection: str) -> list[str]:
    return [f"{collection}_{patch.name}" for patch in replica.dataset.patches()]


def test_it_lists_and_pages(either_hub: MlhubReplica) -> None:
    seen = json.loads(run_script(VENV, "radiant_mlhub_reads", env=either_hub.exports()))
    assert seen.pop("archive_size") > 1000
    assert seen.pop("one_item") == ids(either_hub, SOURCE)[0]
    assert seen == {
        "collections": [SOURCE, LABELS],
        "datasets": ["bigearthnet_v1"],
        "models": [],
        "by_doi": "bigearthnet_v1",
        "kinds": {"labels": [LABELS], "source_imagery": [SOURCE]},
        "label_items": ids(either_hub, LABELS),
        "source_items": ids(either_hub, SOURCE),
        "license": "CDLA-Permissive-1.0",
    }


@pytest.mark.parametrize("collection", [LABELS, SOURCE])
def test_it_downloads_archives(either_hub, tmp_path, collection):
    path = run_script(VENV, "radiant_mlhub_archive", collection, tmp_path, env=either_hub.exports())
    assert Path(path) == tmp_path / f"{collection}.tar.gz"
    with tarfile.open(path) as archive:
        found = {Path(member.name).name: member for member in archive.getmembers()}
        files = [member for member in archive.getmembers() if not member.name.endswith("json")]
        item = json.load(archive.extractfile(found["stac.json"]))
    assert item["id"].startswith(collection)
    assert len(files) == (either_hub.dataset.items * 12 if collection == SOURCE else 0)


def test_the_client_recognises_a_missing_archive(either_hub: MlhubReplica, tmp_path: Path) -> None:
    without_retries = {"MLHUB_CI": "1", "PYTEST_CURRENT_TEST": "1"}
    env = either_hub.exports() | without_retries
    message = run_script(VENV, "radiant_mlhub_archive", "no_archive", tmp_path, env=env)
    assert message.startswith('none: Archive "no_archive" does not exist')


def mirrored(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.suffix in {".tif", ".json"}
    }


def expected(replica: MlhubReplica) -> dict[str, str]:
    """The values of the manifest, by the names that the client gives."""
    files: dict[str, str] = {}
    for index in range(replica.dataset.items):
        for file in replica.manifest(index):
            suffix = file.name.rpartition(".")[2]
            files[f"{file.collection}/{file.item_id}/{file.asset}.{suffix}"] = file.sha256
    return files


def test_it_downloads_the_whole_dataset_and_resumes(hub: MlhubReplica, tmp_path: Path) -> None:
    catalog, assets = tmp_path / "catalog", tmp_path / "assets"
    sizes: dict[str, Any] = json.loads(
        run_script(VENV, "radiant_mlhub_download", catalog, assets, env=hub.exports())
    )
    assert mirrored(assets / "bigearthnet_v1") == expected(hub)
    assert (assets / "bigearthnet_v1/err_report.csv").read_bytes() == b""
    assert sizes["catalog"] == (catalog / "bigearthnet_v1.tar.gz").stat().st_size
    total = sum(path.stat().st_size for path in assets.rglob("*.*") if path.suffix in {".tif", ".json"})
    assert sizes["dataset"] == pytest.approx(total, rel=0.01)

    cut = sorted((assets / "bigearthnet_v1").rglob("*.tif"))[7]
    cut.write_bytes(cut.read_bytes()[:500])
    before = hub.bytes_sent
    run_script(VENV, "radiant_mlhub_download", catalog, assets, env=hub.exports())
    assert mirrored(assets / "bigearthnet_v1") == expected(hub)
    assert hub.bytes_sent - before < 60_000


def test_archives_are_the_same_bytes_every_time_also_when_resumed(hub: MlhubReplica, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_script(VENV, "radiant_mlhub_archive", LABELS, tmp_path / name, env=hub.exports())
    one, two = (tmp_path / name / f"{LABELS}.tar.gz" for name in ("one", "two"))
    whole = one.read_bytes()
    assert two.read_bytes() == whole
    with tarfile.open(one) as archive:
        assert {member.mtime for member in archive.getmembers()} == {1591660800}
    two.write_bytes(whole[:1000])
    run_script(VENV, "radiant_mlhub_archive", LABELS, two.parent, env=hub.exports())
    assert two.read_bytes() == whole
