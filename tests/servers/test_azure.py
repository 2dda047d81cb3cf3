"""Azure's blobs as recorded: ETags without quotes, and Content-MD5 held against what comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from attrs import evolve
from tests.net.test_conformance_objects import Blobs
from tests.servers.mirroring import OPTIONS, mirrored
from tests.servers.stac_api import StacApi

from stacpull_replicas.blob import NEW_VERSION, OLD_VERSION
from stacpull_replicas.faults import Truncate
from stacpull_replicas.replica_server import run_in_thread

pytestmark = pytest.mark.behaviour

SMALL, LARGE = (random.Random(size).randbytes(size) for size in (40_000, 3_000_000))


class Account(NamedTuple):
    """A storage account with two blobs."""

    host: Blobs
    stac: StacApi


@pytest.fixture(params=[OLD_VERSION, NEW_VERSION])
def account(request: pytest.FixtureRequest, stac: StacApi) -> Iterator[Account]:
    with run_in_thread(Blobs({"small.tif": SMALL, "large.tif": LARGE}, request.param)) as blobs:

        def href(key: str) -> str:
            return blobs.url("blob") + blobs.host.signed_path(key)

        stac.put("item", {"small": lambda: href("small.tif"), "large": lambda: href("large.tif")})
        yield Account(blobs, stac)


def test_blobs_arrive_complete_and_nothing_is_requested_twice(account: Account, tmp_path: Path):
    result = mirrored(account.stac.source, tmp_path / "mirror")
    assert result.files == {"item/small": SMALL, "item/large": LARGE}
    assert len(account.host.requests) == 2


def test_a_body_that_disagrees_with_its_content_md5_is_fetched_again(account: Account, tmp_path: Path):
    """Truncated, with a matching Content-Length: only the MD5 shows it."""
    account.host.inject(lambda request: True, Truncate(30_000), times=2)
    result = mirrored(account.stac.source, tmp_path / "mirror")
    assert result.files == {"item/small": SMALL, "item/large": LARGE}
    assert result.report.retries == 2


def test_a_body_that_never_matches_its_content_md5_fails(account: Account, tmp_path: Path):
    account.host.inject(lambda request: "small" in request.path, Truncate(30_000), times=100)
    result = mirrored(account.stac.source, tmp_path / "mirror", evolve(OPTIONS, retries=1))
    assert result.files == {"item/large": LARGE}
    failed = result.failed["item/small"]
    assert (failed.kind, failed.attempts) == ("checksum", 2)
    assert "Content-MD5" in failed.message
