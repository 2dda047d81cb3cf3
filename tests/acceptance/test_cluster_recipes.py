"""The examples of docs/howto/clusters.md and docs/howto/dask.md, run without their clusters."""

import json
import os
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.acceptance.command import COMMAND, LABELS, ROOT, Running, environment, export_here
from tests.acceptance.dask_processes import DaskProcesses
from tests.acceptance.trees import files_in
from tests.ran import Ran

import stacpull
from stacpull import sync
from stacpull_replicas import MlhubReplica, run_in_thread

pytestmark = pytest.mark.slow
SHARDS = 4
ITEMS = 12


def example(page: str, language: str, below: str) -> str:
    text = (ROOT / "docs" / "howto" / page).read_text()
    text = text[text.index(f"\n{below}\n") :]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def shell(script: str, replica: MlhubReplica, place: Path, programs: Path, **variables: str) -> Ran:
    """Run a script in `place`, as a cluster does; its commands are those in `programs`."""
    source = replica.base_url
    if "$COLLECTION" not in script:
        source += f"/collections/{LABELS}"
    script = script.replace("stacpull mirror", "stacpull mirror --exclude-asset B10")  # it is gone there
    here = {"PATH": f"{place}:{programs}:{COMMAND.parent}:{os.environ['PATH']}", "SOURCE": source}
    env = environment(replica, COLLECTION=LABELS, **here, **variables)
    with Running(["-e", "-c", script], env, cwd=place, program="/bin/bash") as process:
        return process.ended()


@pytest.fixture
def replica() -> Any:
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7)) as running:
        yield running


def slurm(script: str) -> tuple[str, list[dict[str, str]]]:
    """The script; Slurm runs it once for each of --array."""
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    whole = {"SLURM_ARRAY_TASK_COUNT": str(last - first + 1), "SLURM_ARRAY_TASK_MIN": str(first)}
    return script, [{**whole, "SLURM_ARRAY_TASK_ID": str(task)} for task in range(first, last + 1)]


def kubernetes(manifest: str) -> tuple[str, list[dict[str, str]]]:
    """The command of the container, which sees the volume."""
    job = yaml.safe_load(manifest)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    assert [one["name"] for one in pod["volumes"]] == [one["name"] for one in container["volumeMounts"]]
    tasks = range(job["spec"]["completions"])
    return shlex.join(container["command"]), [{"JOB_COMPLETION_INDEX": str(task)} for task in tasks]


def aws_batch(script: str) -> tuple[str, list[dict[str, str]]]:
    """The command that overrides that of the container."""
    arguments = shlex.split(script)
    size = arguments[arguments.index("--array-properties") + 1].removeprefix("size=")
    command = json.loads(arguments[arguments.index("--container-overrides") + 1])["command"]
    tasks = range(int(size))
    return shlex.join(command), [
        {"AWS_BATCH_JOB_ARRAY_INDEX": str(task), "AWS_BATCH_JOB_ARRAY_SIZE": size} for task in tasks
    ]


def test_job_arrays_make_shards_that_join_to_the_whole(tmp_path, replica, monkeypatch, forked_command):
    made = []
    for read, language, name in (
        (aws_batch, "sh", "AWS Batch"),
        (kubernetes, "yaml", "Kubernetes"),
        (slurm, "sh", "Slurm"),
    ):
        place = tmp_path / read.__name__
        place.mkdir()
        script, tasks = read(example("clusters.md", language, f"### {name}").replace("/data/", f"{place}/"))
        assert len(tasks) == SHARDS
        for variables in tasks:
            ran = shell(script, replica, place, forked_command, **variables)
            assert ran.code == 0, ran.err
        shards = sorted(place.glob("shard-*"))
        assert len(shards) == SHARDS
        made.append([files_in(shard).keys() for shard in shards])
    assert made[0] == made[1] == made[2]
    done = sum(stacpull.status(shard).assets_done for shard in shards)
    joined, plain = place / "bigearthnet", place / "plain"
    commands = example("clusters.md", "console", "### Join the shards").splitlines()
    links = "\n".join(line.removeprefix("$ ") for line in commands if line.startswith(("$ mkdir", "$ for")))
    names = " ".join(shard.name for shard in shards)
    linked = shell(links.replace("shard-1 shard-2", names), replica, place, forked_command)
    assert linked.code == 0, linked.err
    export_here(replica, monkeypatch.setenv)
    selection = stacpull.Selection(collections=LABELS, exclude_assets="B10")
    report = sync.mirror(replica.base_url, joined, selection=selection, options=stacpull.Options(adopt=True))
    assert (report.exit_code, report.assets_done) == (0, done)
    sizes = sum(path.stat().st_size for path in joined.rglob("*.tif"))
    assert report.bytes_fetched < sizes / 2  # pages and documents
    assert sync.verify(joined, strict=True).exit_code == 0
    assert all(sync.verify(shard).exit_code == 0 for shard in shards)
    assert sync.mirror(replica.base_url, plain, selection=selection).assets_done == done > ITEMS
    assert files_in(joined).keys() == files_in(plain).keys()


def test_dask_jobqueue(tmp_path: Path, replica: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of docs/howto/dask.md, with workers of this machine in place of jobs of Slurm.

    That for Slurm without dask-jobqueue is in test_dask.py.
    """
    distributed = pytest.importorskip("distributed")
    requested: dict[str, Any] = {}

    class SLURMCluster:
        """As much of it as a Client and the example use."""

        def __init__(self, **how: Any) -> None:
            requested.update(how)

        def scale(self, jobs: int) -> None:
            requested["jobs"] = jobs

    code = example("dask.md", "python", "## A batch system: dask-jobqueue")
    code = code.replace("https://api.example.org/v1", replica.base_url)
    code = code.replace("/scratch/shared/mirror", str(tmp_path / "m"))
    code = code.replace("wait_for_workers(8)", "wait_for_workers(1)")
    code = code.replace('collections="sentinel-2-l2a"', f'collections="{LABELS}", exclude_assets="B10"')
    module = ModuleType("dask_jobqueue")
    module.SLURMCluster = SLURMCluster  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    export_here(replica, monkeypatch.setenv)
    with DaskProcesses(tmp_path / "dask", workers=1, env=environment(replica)) as processes:
        client = distributed.Client

        def connected(cluster: object = None, **how: Any) -> Any:
            if isinstance(cluster, SLURMCluster):
                return client(processes.address, set_as_default=False)
            return client(**how)

        monkeypatch.setattr(distributed, "Client", connected)
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 - of our documentation
        names["main"]()
    assert requested["jobs"] == 8
    assert {"cores", "memory", "walltime", "job_script_prologue"} <= requested.keys()
    status = stacpull.status(tmp_path / "m")
    assert (status.state, status.assets_failed) == ("complete", 0)
    assert status.assets_done > ITEMS
