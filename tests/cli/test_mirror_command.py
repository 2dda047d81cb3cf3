"""`stacpull mirror` starts the process that writes to DEST as the run will need it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from stacpull import child_process
from stacpull.cli.main import execute
from stacpull.errors import WorkerError


def test_the_process_that_is_started_early_is_the_one_of_the_run(tmp_path, monkeypatch):
    early, later = list[str](), list[str]()

    def fork_early(module: str) -> AbstractContextManager[None]:
        early.append(module)
        return nullcontext()

    def spawn(module: str) -> child_process.ConnectedProcess:
        later.append(module)
        raise WorkerError("No process.")

    monkeypatch.setattr(child_process, "fork_early", fork_early)
    monkeypatch.setattr(child_process, "spawn", spawn)
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    assert execute(["mirror", str(tmp_path / "items.json"), str(tmp_path / "m")]) == WorkerError.exit_code
    assert early == later == ["stacpull.engine.store_process"]
