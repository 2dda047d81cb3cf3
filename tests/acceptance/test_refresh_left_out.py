"""A refresh never takes an old version for the new: whatever a run leaves out, or a server answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.one_item import BUCKET, Kept, OneItem

from stacpull import MirrorReport, Options, Selection, mirror
from stacpull.config.options import S3Options

pytestmark = pytest.mark.usefixtures("threaded_store")

Again = Callable[..., Awaitable[MirrorReport]]
T = 1_600_000_000.0


def upstream(dest: Path, scenario: Callable[[OneItem, Again], Awaitable[None]]) -> None:
    """Run a scenario; `again` mirrors into `dest`, with fields of `Selection` and `Options` by name."""

    async def live() -> None:
        async with OneItem() as api:

            async def again(
                revalidate: bool = False, metadata: Any = "item", **selected: Any
            ) -> MirrorReport:
                options = Options(
                    retries=0,
                    revalidate=revalidate,
                    metadata=metadata,
                    s3=S3Options(endpoint_url=api.url(""), no_sign_request=True),
                )
                return await mirror(api.source, dest, selection=Selection(**selected), options=options)

            await scenario(api, again)

    asyncio.run(live())


def version(number: int, **more: Any) -> Kept:
    return Kept(f"v{number}".encode() * 50, **more)


def touched(api: OneItem, updated: str = "2022-01-01T00:00:00Z") -> None:
    api.item.updated = updated


def lies_there(dest: Path, path: str) -> str:
    return (dest / "c/i" / path).read_bytes()[:2].decode()


def item_json(dest: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((dest / "c/i/i.json").read_bytes())
    return found


# --- what a run leaves out ----------------------------------------------------------------------------------


def without_href(api: OneItem) -> None:
    api.item.assets["b"].pop("href", None)
    api.item.assets["b"]["href"] = "ftp://h.example/b"


@pytest.mark.parametrize(
    ("narrower", "between"),
    [
        ({"assets": ("a",)}, None),
        ({"exclude_assets": ("b",)}, None),
        ({"roles": ("data",)}, None),
        ({"media_types": ("image/tiff",)}, None),
        ({}, without_href),
    ],
    ids=["--asset", "--exclude-asset", "--role", "--media-type", "an asset that cannot be planned"],
)
def test_assets_that_a_run_leaves_out_are_requested_by_the_next(
    tmp_path: Path, narrower: dict[str, Any], between: Callable[[OneItem], None] | None
) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        def publish(number: int) -> None:
            api.add("a", version(number, etag=f'"a{number}"'), type="image/tiff", roles=["data"])
            api.add("b", version(number, etag=f'"b{number}"'), type="text/plain", roles=["metadata"])

        publish(1)
        await again()
        publish(2)
        touched(api)
        if between is not None:
            between(api)
        await again(**narrower)
        assert (lies_there(tmp_path, "a.bin"), lies_there(tmp_path, "b.bin")) == ("v2", "v1")
        publish(2)
        reported = await again()
        assert (lies_there(tmp_path, "b.bin"), reported.assets_changed, reported.items_changed) == (
            "v2",
            1,
            0,
        )
        requested = len(api.conditional("/b.bin"))
        assert (await again()).assets_skipped == 2
        assert len(api.conditional("/b.bin")) == requested

    upstream(tmp_path, scenario)


def test_an_unchanged_asset_that_was_left_out_gets_one_conditional_request(tmp_path: Path) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", version(1, etag='"a"'))
        api.add("b", version(1, etag='"b"'))
        await again()
        touched(api)
        await again(assets=("a",))
        assert (await again()).assets_revalidated == 1
        assert (await again()).assets_revalidated == 0
        assert api.conditional("/b.bin") == [False, True]

    upstream(tmp_path, scenario)


def test_an_asset_that_failed_and_was_left_out_is_tried_again(tmp_path: Path) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", version(1, etag='"a"'))
        api.item.assets["b"] = {"href": "/b.bin"}
        assert (await again()).assets_failed == 1
        touched(api)
        await again(assets=("a",))
        api.files["/b.bin"] = version(2)
        assert (await again()).assets_failed == 0
        assert lies_there(tmp_path, "b.bin") == "v2"

    upstream(tmp_path, scenario)


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("listed", [False, True], ids=["not listed just then", "not expanded"])
def test_a_prefix_not_listed_by_a_run_is_listed_by_the_next(
    tmp_path: Path, listed: bool, changed: bool
) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.item.assets["data"] = {"href": f"s3://{BUCKET}/p/"}
        api.files[f"/{BUCKET}/p/x"] = version(1, etag='"x1"')
        await again(expand_prefix=True)
        whole = item_json(tmp_path)["assets"]
        assert whole.keys() == {"data/x"}
        touched(api)
        if changed:
            api.files[f"/{BUCKET}/p/x"] = version(2, etag='"x2"')
        api.listed = listed
        assert (await again(expand_prefix=not listed)).assets_failed == 1
        assert "data" in item_json(tmp_path)["assets"]  # until it is looked into
        api.listed = True
        assert (await again(expand_prefix=True)).exit_code == 0
        assert lies_there(tmp_path, "data/x") == ("v2" if changed else "v1")
        now = item_json(tmp_path)["assets"]
        assert {key: one["href"] for key, one in now.items()} == {
            key: one["href"] for key, one in whole.items()
        }
        assert (now == whole) is not changed

    upstream(tmp_path, scenario)


# --- whose validator it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (version(1, etag='"1"'), version(2, etag='"1"')),
        (version(1, modified=T), version(2, modified=T - 5000)),
    ],
    ids=["ETag", "date"],
)
@pytest.mark.parametrize("metadata", ["item", "ndjson", "none"])
def test_another_href_is_fetched_completely(tmp_path: Path, before: Kept, now: Kept, metadata: str) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", before, path="/v1.bin")
        await again(metadata=metadata)
        touched(api)
        api.add("a", now, path="/v2.bin")
        assert (await again(metadata=metadata)).assets_changed == 1
        assert lies_there(tmp_path, "a.bin") == "v2"
        assert api.conditional("/v2.bin") == [False]
        assert (await again(metadata=metadata, revalidate=True)).assets_revalidated == 1
        assert api.conditional("/v2.bin") == [False, True]

    upstream(tmp_path, scenario)


def test_another_href_stored_by_a_narrower_run_is_fetched_completely(tmp_path: Path) -> None:
    """The item's JSON then has the asset's new href, and no longer the one that the file came from."""

    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", version(1, etag='"a"'))
        api.add("b", version(1, etag='"1"'), path="/v1.bin")
        await again()
        touched(api)
        api.add("b", version(2, etag='"1"'), path="/v2.bin")
        await again(assets=("a",))
        await again()
        assert lies_there(tmp_path, "b.bin") == "v2"

    upstream(tmp_path, scenario)


def test_a_renewed_signature_does_not_make_another_href(tmp_path: Path) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", version(1, etag='"1"'))
        for number in (1, 2):
            touched(api, f"202{number}-01-01T00:00:00Z")
            api.item.assets["a"]["href"] = f"/a.bin?sig={number}&se=2030"
            reported = await again()
        assert reported.assets_revalidated == 1
        assert api.conditional("/a.bin") == [False, True]

    upstream(tmp_path, scenario)


@pytest.mark.parametrize("first", [(), ("s3",)], ids=["s3 comes second", "s3 comes first"])
def test_an_asset_with_another_prefer_is_fetched_completely(tmp_path: Path, first: tuple[str, ...]) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", version(1, etag='"1"'), alternate={"s3": {"href": f"s3://{BUCKET}/a.bin"}})
        api.files[f"/{BUCKET}/a.bin"] = version(1, etag='"1"')
        await again(prefer=first)
        await again(prefer=first, revalidate=True)
        for path in ("/a.bin", f"/{BUCKET}/a.bin"):
            assert api.conditional(path) in ([], [False, True])
            api.files[path] = version(2, etag='"1"')
        touched(api)
        await again(prefer=() if first else ("s3",))
        assert lies_there(tmp_path, "a.bin") == "v2"

    upstream(tmp_path, scenario)


def test_an_asset_from_another_href_is_fetched_completely_from_the_first_one(tmp_path: Path) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", version(1, etag='"1"'), alternate={"s3": {"href": f"s3://{BUCKET}/a.bin"}})
        api.files[f"/{BUCKET}/a.bin"] = version(1, etag='"1"')
        first = api.files.pop("/a.bin")
        await again(prefer=("https", "http", "s3"))
        assert lies_there(tmp_path, "a.bin") == "v1"
        api.files["/a.bin"] = version(2, etag=first.etag)
        touched(api)
        await again(prefer=("https", "http", "s3"))
        assert lies_there(tmp_path, "a.bin") == "v2"

    upstream(tmp_path, scenario)


@pytest.mark.parametrize(
    ("before", "names"),
    [
        (version(1, etag='"1"'), {"ETag": '"2"'}),
        (version(1, modified=T), {"Last-Modified": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    ],
    ids=["ETag", "date"],
)
def test_a_304_with_another_version_fetches_the_asset_again(
    tmp_path: Path, before: Kept, names: dict[str, str]
) -> None:
    async def scenario(api: OneItem, again: Again) -> None:
        api.add("a", before)
        await again()
        touched(api)
        api.files["/a.bin"] = version(2, names=names)
        assert (await again()).assets_changed == 1
        assert lies_there(tmp_path, "a.bin") == "v2"

    upstream(tmp_path, scenario)


# --- checksums ----------------------------------------------------------------------------------------------


def md5_of(kept: Kept) -> str:
    return "d50110" + hashlib.md5(kept.body, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("claims_unchanged", [True, False], ids=["304", "200"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_new_checksum_is_verified_before_it_proves_a_file_unchanged(
    tmp_path: Path, number: int, claims_unchanged: bool
) -> None:
    """It is stated for the first time; the server may even answer that nothing has changed."""

    async def scenario(api: OneItem, again: Again) -> None:
        api.item.updated = None
        api.add("a", version(1, etag='"1"'))
        await again()
        now = version(number, etag=f'"{number}"', names={"ETag": '"1"'} if claims_unchanged else None)
        api.add("a", now, **{"file:checksum": md5_of(now)})
        await again()
        assert lies_there(tmp_path, "a.bin") == f"v{number}"
        touched(api)
        before = len(api.conditional("/a.bin"))
        assert (await again()).assets_skipped == 1  # proven now
        assert len(api.conditional("/a.bin")) == before

    upstream(tmp_path, scenario)
