"""Options of a mirror whose DEST is a bucket: TLS, areas of rasters, and objects that are there already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest
from tests.acceptance.raster_host import raster_host
from tests.acceptance.static_tree import write_tree
from tests.acceptance.test_clip import BOX, listed
from tests.security.authority import Authority
from tests.servers.bucket_trees import body, objects, tree
from tests.servers.unreliable import Unreliable
from tests.tiff.clipping import raster

import stacpull
from stacpull.models import BucketLocation
from stacpull_replicas import EvolvingReplica, run_in_thread

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.parametrize("server", ["radosgw"], indirect=True),
]


@pytest.fixture
def options(location: BucketLocation, tmp_path: Path) -> stacpull.Options:
    """DEST's, with a work directory."""
    return stacpull.Options(
        work=tmp_path / "work", dest_profile="dest", dest_endpoint_url=location.endpoint_url
    )


def mirror(
    source: str, dest: str | Path, options: stacpull.Options, **selection: Any
) -> stacpull.MirrorReport:
    run = stacpull.mirror(source, dest, selection=stacpull.Selection(**selection), options=options)
    return asyncio.run(run)


@pytest.fixture
def encrypted(location: BucketLocation, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The service over https, and the certificate of its authority."""
    authority = Authority(tmp_path / "authority")
    proxy = Unreliable(str(location.endpoint_url), "SlowDown", 0)
    proxy.socket = authority.server().wrap_socket(proxy.socket, server_side=True)
    thread = Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{proxy.server_port}", authority.bundle
    proxy.shutdown()
    thread.join()
    proxy.server_close()


def test_a_service_over_https_with_an_authority_of_its_own(
    location: BucketLocation, s3: Any, options: stacpull.Options, encrypted: tuple[str, Path], tmp_path: Path
) -> None:
    source = str(write_tree(tmp_path / "tree", 1, 2))
    url, bundle = encrypted
    untrusted = attrs.evolve(options, dest_endpoint_url=url)
    with pytest.raises(stacpull.DestinationError, match="name its authority with --ca-bundle"):
        mirror(source, location.url, untrusted)
    report = mirror(source, location.url, attrs.evolve(untrusted, ca_bundle=bundle))
    assert report.exit_code == 0
    mirror(source, tmp_path / "disk", stacpull.Options())
    assert objects(s3, location) == tree(tmp_path / "disk")
    assert asyncio.run(stacpull.verify(tmp_path / "work")).exit_code == 0


def test_rasters_are_clipped_into_a_bucket(
    location: BucketLocation, s3: Any, options: stacpull.Options, tmp_path: Path
) -> None:
    with raster_host() as host:
        host.files["/scene.tif"] = raster(tmp_path)
        source = listed(host)
        clipped = mirror(source, location.url, options, clip=BOX)
        mirror(source, tmp_path / "disk", stacpull.Options(), clip=BOX)
    assert (clipped.exit_code, clipped.assets_clipped) == (0, 1)
    assert objects(s3, location) == tree(tmp_path / "disk")
    assert asyncio.run(stacpull.verify(tmp_path / "work")).exit_code == 0


def test_existing_objects_are_adopted_if_identical(
    location: BucketLocation, s3: Any, options: stacpull.Options, tmp_path: Path
) -> None:
    with run_in_thread(EvolvingReplica(items=3)) as replica:
        mirror(replica.base_url, tmp_path / "disk", stacpull.Options())
        there = tree(tmp_path / "disk")
        same, other = [path for path in there if "/files" not in path and not path.endswith(".json")][:2]
        for path, content in ((same, there[same]), (other, b"of another program")):
            s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/{path}", Body=content)
        report = mirror(replica.base_url, location.url, attrs.evolve(options, adopt=True))
        assert (report.exit_code, report.assets_failed) == (1, 1)
        assert next(iter(stacpull.failures(tmp_path / "work"))).kind == "exists"
        assert body(s3, location, other) == b"of another program"
        assert body(s3, location, same) == there[same]
        s3.delete_object(Bucket=location.bucket, Key=f"{location.prefix}/{other}")
        assert asyncio.run(stacpull.retry(tmp_path / "work")).exit_code == 0
        assert objects(s3, location) == there
    assert asyncio.run(stacpull.verify(tmp_path / "work")).exit_code == 0
