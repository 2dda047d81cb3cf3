"""Objects of moto's S3 with signatures on, mirrored: a second opinion on what is signed, and on checksums."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import evolve
from tests.servers.buckets import Bucket, Keys, client, s3_options
from tests.servers.mirroring import OPTIONS, Mirrored, files_in, mirrored
from tests.servers.moto_server import Moto
from tests.servers.stac_api import StacApi

import stacpull
from stacpull.digests import digest_of
from stacpull.models import Checksum, Page
from stacpull.sources.files import LinesSource

DATA = random.Random(12).randbytes(2_000_000)


@pytest.fixture
def moto_bucket(moto_s3: Moto) -> Iterator[Bucket]:
    s3 = client(moto_s3.url, moto_s3.keys)
    yield Bucket(s3)
    s3.close()


def from_moto(moto_s3: Moto, stac: StacApi, dest: Path) -> Mirrored:
    return mirrored(stac.source, dest, evolve(OPTIONS, s3=s3_options(moto_s3.url)))


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"])
def test_checksums_of_the_object_are_verified(
    moto_s3: Moto, moto_bucket: Bucket, stac: StacApi, act_as: Callable[[Keys], None], tmp_path: Path,
    algorithm: str,
):  # fmt: skip
    digest = digest_of(Checksum(algorithm.lower(), b""), DATA)  # botocore would need awscrt for two of them
    value = base64.b64encode(digest).decode()
    moto_bucket.s3.put_object(
        Bucket=moto_bucket.name,
        Key="a",
        Body=DATA,
        ChecksumAlgorithm=algorithm,
        **{f"Checksum{algorithm}": value},
    )
    stated = moto_bucket.s3.head_object(Bucket=moto_bucket.name, Key="a", ChecksumMode="ENABLED")
    assert stated[f"Checksum{algorithm}"] == value
    stac.put("item", {"data": moto_bucket.href("a")})
    act_as(moto_s3.keys)
    assert from_moto(moto_s3, stac, tmp_path / "mirror").files == {"item/data": DATA}


@pytest.mark.parametrize("is_changed", [False, True])
def test_lines_that_change_after_a_stop_are_mirrored_completely(
    moto_s3: Moto, moto_bucket: Bucket, act_as: Callable[[Keys], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, is_changed: bool,
):  # fmt: skip
    """The walk of a file begins again, and skips what is planned."""
    pages = LinesSource.pages

    async def only_first(self: LinesSource, *arguments: Any, **more: Any) -> AsyncGenerator[Page]:
        async for page in pages(self, *arguments, **more):
            yield page
            await asyncio.Event().wait()

    async def stopped() -> None:
        stop = asyncio.Event()

        def on_event(event: object) -> None:
            if isinstance(event, stacpull.Progress) and event.assets_done == 2:
                stop.set()

        source = moto_bucket.href("items.ndjson")
        report = await stacpull.mirror(source, dest, options=options, stop=stop, on_event=on_event)
        assert (report.state, report.items_done) == ("interrupted", 2)

    moto_bucket.put("data", DATA[:100])
    dest, options = tmp_path / "mirror", evolve(OPTIONS, s3=s3_options(moto_s3.url), page_size=2)
    moto_bucket.put("items.ndjson", lines_of(moto_bucket, "old", 4))
    act_as(moto_s3.keys)
    with monkeypatch.context() as patched:
        patched.setattr(LinesSource, "pages", only_first)
        asyncio.run(stopped())
    if is_changed:
        moto_bucket.put("items.ndjson", lines_of(moto_bucket, "new", 6))
    report = asyncio.run(stacpull.resume(dest, options=options))
    assert (report.state, report.items_done) == ("complete", 8 if is_changed else 4)
    new, old = {f"new{n}/data" for n in range(6)}, {f"old{n}/data" for n in range(4)}
    assert files_in(dest).keys() == (new | {"old0/data", "old1/data"} if is_changed else old)


def lines_of(bucket: Bucket, prefix: str, count: int) -> bytes:
    shared = {"type": "Feature", "properties": {}, "assets": {"data": {"href": bucket.href("data")}}}
    return b"".join(orjson.dumps({**shared, "id": f"{prefix}{n}"}) + b"\n" for n in range(count))
