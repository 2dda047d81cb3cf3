"""Options of a mirror whose DEST is a bucket: TLS, areas of rasters, and objects that are there already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from tests.acceptance.command import Ran, environment, run
from tests.acceptance.raster_host import raster_host
from tests.acceptance.static_tree import write_tree
from tests.acceptance.test_clip import BOX, listed
from tests.raster.tiff.clipping import raster
from tests.security.authority import Authority
from tests.security.proxy import Proxy
from tests.servers.bucket_trees import body, objects, tree
from tests.servers.unreliable import Unreliable
from tests.serving import serving

import stacpull
from stacpull.models import BucketLocation
from stacpull_replicas import EvolvingReplica, run_in_thread

PROXY_PASSWORD = "planted-proxy-password"

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
    with serving(proxy):
        yield f"https://localhost:{proxy.server_port}", authority.bundle


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


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_service_that_only_a_proxy_reaches(
    location: BucketLocation, s3: Any, encrypted: tuple[str, Path], tmp_path: Path, variable: str
) -> None:
    source = str(write_tree(tmp_path / "tree", 1, 2))
    url, bundle = encrypted
    nowhere = ["--dest-endpoint-url", "https://localhost:1", "--ca-bundle", str(bundle)]
    arguments = ["mirror", source, location.url, "--work", "work", "--dest-profile", "dest", *nowhere]

    async def course() -> Ran:
        user = f"me:{PROXY_PASSWORD}"
        async with Proxy(urlsplit(url).port or 0, user=user) as proxy:
            credentials = str(tmp_path / "credentials")
            named = {variable: f"http://{user}@127.0.0.1:{proxy.port}"}
            env = environment(**{"AWS_SHARED_CREDENTIALS_FILE": credentials, **named})
            return await asyncio.to_thread(run, arguments, env, tmp_path)

    ran = asyncio.run(course())
    assert ran.code == 0, ran.err
    mirror(source, tmp_path / "disk", stacpull.Options())
    assert objects(s3, location) == tree(tmp_path / "disk")
    written = [path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()]
    written += [*objects(s3, location).values(), ran.out.encode(), ran.err.encode()]
    assert not any(PROXY_PASSWORD.encode() in text for text in written)


def test_a_service_that_no_proxy_names_is_connected_to_directly(
    location: BucketLocation, s3: Any, options: stacpull.Options, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    report = mirror(str(write_tree(tmp_path / "tree", 1, 1)), location.url, options)
    assert report.exit_code == 0
    assert objects(s3, location)


def test_a_proxy_of_another_kind_is_named(
    location: BucketLocation, options: stacpull.Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://me:{PROXY_PASSWORD}@127.0.0.1:1")
    with pytest.raises(stacpull.DestinationError, match="ALL_PROXY names a proxy of the kind socks5"):
        mirror(str(write_tree(tmp_path / "tree", 1, 1)), location.url, options)


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
