"""A large file from each kind of server, the mirror killed midway: it resumes where that is proven correct.

The way back from the server is shut after a few megabytes, so that the kill is sure to land midway; then it
is opened for the second run. The bytes it had to fetch show whether it resumed or started again, and the
server's own log shows the requests. Other servers: the suite of objects (`test_conformance.py`).
"""

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.acceptance.command import Running, environment, run
from tests.engine.bench import tree
from tests.servers.buckets import Bucket, Keys
from tests.servers.mirroring import LAYOUT, part_bytes
from tests.servers.nginx import Nginx
from tests.servers.process import wait_for
from tests.servers.radosgw import OWNER, Radosgw
from tests.servers.stac_api import StacApi
from tests.servers.valve import Valve

SIZE = 12_000_000
FIRST, SECOND = (random.Random(seed).randbytes(SIZE) for seed in (21, 22))
ON_DISK = 3_000_000
"""The least size of the part at the kill. The rest may be between the valve and the disk."""


@dataclass
class Origin:
    """A server that has one large file: how it gets there, and how it is requested through a valve."""

    port: int
    put: Callable[[bytes], object]
    href: Callable[[Valve], str]
    answers: Callable[[], list[int]]
    """The statuses of the file's responses in the server's log."""
    keys: Keys | None = None

    def command(self, source: str, dest: Path, gate: Valve) -> list[str]:
        arguments = ["mirror", source, str(dest), "--layout", LAYOUT, "--no-progress", "--retries", "1"]
        return [*arguments, "--endpoint-url", gate.url("")] if self.keys else arguments

    def environment(self) -> dict[str, str]:
        return environment(**(self.keys.environment() if self.keys else {}))


@pytest.fixture
def radosgw_origin(gateway: Radosgw, bucket: Bucket) -> Origin:
    return Origin(
        gateway.port,
        lambda body: bucket.put("large.bin", body),
        lambda _: bucket.href("large.bin"),
        lambda: gateway.answers(f"{bucket.name}/large.bin"),
        OWNER,
    )


@pytest.fixture
def versioned_origin(radosgw_origin: Origin, bucket: Bucket) -> Origin:
    versioning = {"Status": "Enabled"}
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration=versioning)
    return radosgw_origin


@pytest.fixture
def nginx_origin(web: Nginx, tmp_path: Path) -> Origin:
    name = f"{tmp_path.name}/large.bin"
    return Origin(
        web.port,
        lambda body: web.put(name, body),
        lambda gate: gate.url(f"/files/{name}"),
        lambda: web.answers(f"/files/{name}"),
    )


def killed_midway(origin: Origin, stac: StacApi, dest: Path, gate: Valve) -> None:
    origin.put(FIRST)
    stac.put("item", {"data": lambda: origin.href(gate)})
    with Running(origin.command(stac.api, dest, gate), origin.environment()) as process:
        wait_for(lambda: gate.shut.is_set() and part_bytes(dest) > ON_DISK, "half the file is there")
        assert process.signal(signal.SIGKILL)
        process.ended()


CASES = {"radosgw": ([206], [412, 200]), "versioned": ([206], [412, 200]), "nginx": ([206], [200])}
"""What each answers to the request for the rest, by its log: of the same object, of another."""


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_only_the_rest_of_an_unchanged_object_is_fetched(request, stac, tmp_path, name, changed):
    origin: Origin = request.getfixturevalue(f"{name}_origin")
    dest, answers = tmp_path / "mirror", CASES[name][changed]
    with Valve(origin.port, 5_000_000) as gate:
        killed_midway(origin, stac, dest, gate)
        if changed:
            origin.put(SECOND)
        gate.limit, before = None, gate.passed
        ran = run(origin.command(stac.api, dest, gate), origin.environment())
        passed = gate.passed - before
    assert ran.code == 0, ran.err
    assert tree(dest) == {"item/data": SECOND if changed else FIRST}
    if changed:
        assert passed >= SIZE
    else:
        assert passed < SIZE - ON_DISK // 2
    wait_for(lambda: origin.answers()[-len(answers) :] == answers, f"its log ends with {answers}")
