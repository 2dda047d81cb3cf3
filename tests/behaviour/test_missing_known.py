"""`--missing known`: a nightly job fails only for what is newly gone."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import stacpull
from tests.changed_copy import item_with
from tests.net.memory import Answer
from tests.net.wire_server import WireServer
from tests.serving import serving_files

from stacpull import Options, StacpullError, sync


def mirrored(url: str, dest: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    ran = stacpull("mirror", f"{url}/items.json", dest, "--json", *arguments)
    return ran.code, ran.report


def test_only_what_is_newly_gone_is_an_error(tmp_path: Path) -> None:
    site, dest = tmp_path / "site", tmp_path / "m"
    site.mkdir()
    (site / "a.bin").write_text("12345")
    first = json.loads(item_with({"a": {"href": "a.bin"}, "lost": {"href": "lost.bin"}}))
    second = json.loads(item_with({"b": {"href": "b.bin"}})) | {"id": "second"}

    def publish(*items: Any) -> None:
        (site / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))

    with serving_files(site) as url:
        publish(first)
        code, report = mirrored(url, dest, "--missing", "known")
        assert (code, report["assets_missing"], report["assets_missing_new"]) == (1, 1, 1)
        code, report = mirrored(url, dest, "--missing", "known")
        assert (code, report["assets_missing"], report["assets_accepted"]) == (0, 1, 1)
        assert mirrored(url, dest)[0] == 1
        publish(first, second)
        code, report = mirrored(url, dest, "--missing", "known")
        assert (code, report["assets_missing"], report["assets_missing_new"]) == (1, 2, 1)
        assert mirrored(url, dest, "--missing", "ok")[0] == 0
        assert mirrored(url, tmp_path / "n", "--missing", "ok", "--max-failures", "0")[0] == 0
        assert stacpull("retry", dest, "--max-failures", "0").code == 0

    last = json.loads((dest / ".stacpull" / "log.ndjson").read_text().splitlines()[-1])
    assert last["event"] == "RunEnded"
    assert last["time"].endswith("Z")
    assert (last["counts"]["assets_missing"], last["counts"]["assets_accepted"]) == (2, 2)


@pytest.mark.parametrize(
    ("given", "accepted"), [({}, 1), ({"missing": "fail"}, 0)], ids=["as before", "fail"]
)
def test_resume_takes_what_it_is_given_also_if_that_is_the_default(tmp_path, given, accepted):
    with WireServer({"/broken": [Answer(500)]}) as host:
        item = item_with({name: {"href": host.url(f"/{name}")} for name in ("lost", "broken")})
        (tmp_path / "item.json").write_text(item)
        first = Options(missing="ok", checksum="none", max_failures=0, retries=0, allow_private_hosts=True)
        with pytest.raises(StacpullError, match="--max-failures"):
            sync.mirror(tmp_path / "item.json", tmp_path / "m", options=first)
        options = Options(retries=0, allow_private_hosts=True, **given)
        report = sync.resume(tmp_path / "m", options=options)
    assert (report.assets_missing, report.assets_accepted) == (1, accepted)


def test_headers_keep_no_list_of_what_is_gone(tmp_path):
    (tmp_path / "item.json").write_text(item_with({"lost": {"href": "lost.tif", "type": "image/tiff"}}))
    (tmp_path / "c.toml").write_text('missing = "known"')
    choices = [["--missing", "fail"], ["--missing", "ok"], ["--missing", "known"], ["--config", "c.toml"]]
    with serving_files(tmp_path) as url:
        ran = [stacpull("headers", f"{url}/item.json", *one, cwd=tmp_path) for one in choices]
        headers = partial(sync.headers, f"{url}/item.json")
        with pytest.raises(StacpullError, match="--max-failures 0") as caught:
            headers(tmp_path / "fails.csv", options=Options(max_failures=0))
        assert caught.value.exit_code == 1
        assert headers(tmp_path / "ok.csv", options=Options(max_failures=0, missing="ok")).exit_code == 0
    assert [one.code for one in ran] == [1, 0, 2, 1]  # for headers, everything is newly gone
    assert "1 missing from the source (lost: 1); a run with --missing ok accepts it" in ran[0].err
    assert "missing from the source (--missing)" in ran[1].err
