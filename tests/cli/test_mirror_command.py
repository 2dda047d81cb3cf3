"""`stacpull mirror` starts the process that writes to DEST as the run will need it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest

from stacpull import child_process
from stacpull.cli.main import execute
from stacpull.errors import WorkerError


@pytest.mark.parametrize("dest", ["directory", "s3://bucket/a"])
def test_the_process_that_is_started_early_is_the_one_of_the_run(tmp_path, monkeypatch, dest):
    early, later = list[Sequence[str]](), list[Sequence[str]]()

    def started_early(_module: str, arguments: Sequence[str], *, shared: str) -> AbstractContextManager[None]:
        assert shared
        early.append(arguments)
        return nullcontext()

    def spawn(_module: str, arguments: Sequence[str]) -> child_process.Started:
        later.append(arguments)
        raise WorkerError("No process.")

    monkeypatch.setattr(child_process, "started_early", started_early)
    monkeypatch.setattr(child_process, "spawn", spawn)
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    work = tmp_path / "work"
    place = [dest, "--work", str(work)] if dest.startswith("s3:") else [str(work)]
    assert execute(["mirror", str(tmp_path / "items.json"), *place]) == WorkerError.exit_code
    assert (
        early
        == later
        == [() if dest == "directory" else ("stacpull_cloud.bucket_store", "stacpull_cloud.lease")]
    )
