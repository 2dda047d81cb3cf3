"""`plan --urls`: what `mirror` would fetch, and where it would put it."""

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.acceptance.asset_host import AssetHost
from tests.acceptance.command import stacpull
from tests.engine.bench import tree
from tests.items import feature
from tests.ran import Ran

PRIVATE = "--allow-private-hosts"
NAMES = [
    "plain", "with space", "quote'", 'double"', "back\\slash", "semi;colon", "a,b", "=HYPERLINK(1)", "-o",
    "$(touch x)", "`id`", "{a,b}", "[1-3]", "#1", "%41", "ünï", "日本", "a\nb", "a\tb", "*?", "..", ".hidden",
    "out=x", "~", "a&b", "|", "trailing ", "NUL",
]  # fmt: skip
"""Asset keys, which become file names."""
PATHS = [
    "/assets/plain", "/assets/a%20b", "/assets/q'uote", "/assets/{a,b}[1-3]", "/assets/x?y=1&z=a,b",
    "/assets/a/../b",
]  # fmt: skip


class Host(AssetHost):
    """Answers with the same content however the path is escaped."""

    def content(self, path: str) -> tuple[str, bytes]:
        return super().content(unquote(path))


def item(host: str) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    for number, name in enumerate(NAMES):
        path = PATHS[number % len(PATHS)]
        assets[name] = {"href": f"{host}{path}", "type": "image/tiff"}
    multihash = "1220" + hashlib.sha256(b"/assets/sum").hexdigest()
    assets["sum"] = {"href": f"{host}/assets/sum", "file:checksum": multihash, "file:size": 11}
    return feature("item 'one'", assets=assets)


@pytest.fixture
def host() -> Iterator[AssetHost]:
    with Host() as running:
        yield running


def run(*arguments: object) -> Ran:
    return stacpull(*arguments, "--no-progress")


def listed(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_each_line_has_a_url_and_the_path_where_mirror_puts_the_file(host: AssetHost, tmp_path: Path) -> None:
    source = tmp_path / "items.json"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [item(host.url)]}))
    ran = run("plan", source, "--urls", PRIVATE)
    assert ran.code == 0, ran.err
    assert f"assets   {len(NAMES) + 1}\n" in ran.err
    lines = listed(ran.out)
    assert run("mirror", source, tmp_path / "mirror", PRIVATE).code == 0
    files = tree(tmp_path / "mirror")
    assert len(lines) == len(NAMES) + 1
    assert {path for _, path in lines} == files.keys()
    for url, path in lines:
        target = tmp_path / "fetched" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 -- of the test host
            target.write_bytes(response.read())
    assert tree(tmp_path / "fetched") == files
    adopted = run("mirror", source, tmp_path / "fetched", PRIVATE, "--adopt", "--json")
    assert adopted.code == 0, adopted.err
    assert tree(tmp_path / "fetched") == files


def test_with_dest_only_what_is_missing_is_listed(host: AssetHost, tmp_path: Path) -> None:
    source, dest = tmp_path / "items.json", tmp_path / "mirror"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [item(host.url)]}))
    assert run("mirror", source, dest, PRIVATE, "--asset", "plain").code == 0
    ran = run("plan", source, dest, "--urls", PRIVATE)
    assert run("mirror", source, tmp_path / "whole", PRIVATE).code == 0
    missing = tree(tmp_path / "whole").keys() - tree(dest).keys()
    assert {path for _, path in listed(ran.out)} == missing


def test_an_asset_whose_href_gets_another_suffix_keeps_its_path(host: AssetHost, tmp_path: Path) -> None:
    source, dest = tmp_path / "items.json", tmp_path / "mirror"
    for suffix in ("tif", "jp2"):
        document = feature("i", {"a": f"{host.url}/assets/a.{suffix}"})
        source.write_text(json.dumps({"type": "FeatureCollection", "features": [document]}))
        lines = listed(run("plan", source, dest, "--urls", PRIVATE).out)
        assert lines == [[f"{host.url}/assets/a.{suffix}", "c/i/a.tif"]]
        assert run("mirror", source, dest, PRIVATE).code == 0
        assert "c/i/a.tif" in tree(dest)


def test_credentials_are_never_written(host: AssetHost) -> None:
    document = item(host.url)
    document["assets"] = {
        "signed": {"href": f"{host.url}/assets/a?X-Amz-Expires=60&X-Amz-Signature=0123456789abcdef"},
        "user": {"href": host.url.replace("//", "//user:hunter2-secret@") + "/assets/b"},
    }
    host.contents["/items.json?key=the-key-of-the-user"] = json.dumps(document).encode()
    source = f"{host.url}/items.json?key=the-key-of-the-user"
    ran = run("plan", source, "--urls", PRIVATE, "--header", "X-Token: the-token-of-the-user")
    assert ran.code == 0, ran.err
    assert len(listed(ran.out)) == 2
    for secret in ("0123456789abcdef", "hunter2", "the-key-of", "the-token-of"):
        assert secret not in ran.out + ran.err
    assert "Some URLs lack their signature or key, and may be refused." in ran.err


def test_filename_in_a_layout_is_that_of_the_href(host: AssetHost, tmp_path: Path) -> None:
    source = tmp_path / "items.json"
    document = item(host.url)
    names = ["plain.tif", "a%20b.tif", "d%C3%A9j%C3%A0", "x?y=1", ""]
    hrefs = {str(number): {"href": f"{host.url}/assets/{name}"} for number, name in enumerate(names)}
    source.write_text(json.dumps({**document, "assets": hrefs}))
    options = ("--layout", "{collection}/{key}-{filename|removeprefix:p}", PRIVATE)
    paths = {path for _, path in listed(run("plan", source, "--urls", *options).out)}
    assert run("mirror", source, tmp_path / "mirror", *options).code == 0
    assert paths == tree(tmp_path / "mirror").keys()


def test_keys_of_buckets_are_not_encoded(tmp_path: Path) -> None:
    keys = ["s3://b/a b%20c.tif", "s3://b/a%20b%20c.tif", "s3://b/\u00fc?x#y"]
    assets = {str(number): {"href": key, "file:size": 3} for number, key in enumerate(keys)}
    (tmp_path / "item.json").write_text(json.dumps(feature("a", assets=assets)))
    assert [url for url, _ in listed(run("plan", tmp_path / "item.json", "--urls").out)] == keys


def test_a_list_and_json_are_not_printed_together() -> None:
    ran = run("plan", "http://127.0.0.1:9", "--urls", "--json")
    assert (ran.code, "both print to standard output" in ran.err) == (2, True)
