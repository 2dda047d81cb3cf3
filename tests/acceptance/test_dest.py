"""What is given as DEST and SOURCE: understood, or refused with exit 2, with nothing created."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import LABELS, environment, export_here, run
from tests.acceptance.static_tree import write_tree
from tests.items import feature

from stacpull import NotAMirrorError, UsageError, sync
from stacpull.cli.main import execute
from stacpull_replicas import MlhubReplica

REFUSED = [
    ("s3://mybucket/prefix", "DEST is the bucket s3://mybucket/prefix: add --work DIR"),
    ("s3:///rice", "DEST is not the URL of a bucket: use s3://bucket/prefix,"),
    ("s3://a/b", "A bucket has at least 3 characters."),
    ("s3://mybucket/a/../b", "DEST is not the URL of a bucket: use s3://bucket/prefix,"),
    ("s3://mybucket/a?key=planted", "DEST is not the URL of a bucket: use s3://bucket/prefix,"),
    ("http://127.0.0.1:8801/mlhub/v1", "DEST is a URL (http://127.0.0.1:8801/mlhub/v1): use the directory"),
    ("HTTPS://u:p@h/v1?key=planted", "DEST is a URL (HTTPS://h/v1): use the directory"),
    ("127.0.0.1:8801/mlhub/v1", "In `stacpull mirror`, DEST comes after SOURCE."),
    ("user@host:/data", "DEST is a URL (user@host:/data): use the directory"),
    ("gs://bucket", "DEST is the bucket gs://bucket: add --work DIR"),
    ("", "DEST is empty"),
    ("-", "DEST is -"),
    ("~nobody-of-this-name/x", "no such home directory"),
    ("https://own1.blob.core.windows.net/con/p?sig=planted", "Keys are set as variables."),
]
_REFUSALS = r"use the directory|add --work DIR|use the work directory"
COMMANDS = ["plan", "resume", "retry", "status", "failures", "verify"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, which is not the home directory either."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("command", "dest", "message"),
    [*(("mirror", *one) for one in REFUSED), *((command, *REFUSED[6]) for command in COMMANDS)],
)
def test_a_dest_that_is_not_a_directory_is_refused_and_nothing_created(here, capfd, command, dest, message):
    source = [str(write_tree(here.parent / "tree", 1, 1))] if command in {"mirror", "plan"} else []
    assert execute([command, *source, "--", dest]) == 2
    err = capfd.readouterr().err
    assert message in err
    assert "planted" not in err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "dest", ["s3://bucket/x", "http://h/v1", "", Path("s3://bucket/x"), Path("https://h/v1")]
)
def test_python_refuses_the_same(here: Path, dest: str | Path) -> None:
    source = str(write_tree(here.parent / "tree", 1, 1))
    with pytest.raises(UsageError, match=_REFUSALS):
        sync.mirror(source, dest)
    with pytest.raises(UsageError, match=_REFUSALS):
        sync.plan(source, dest)
    for function in (sync.resume, sync.retry, sync.status, sync.verify, sync.failures):
        with pytest.raises(UsageError, match=_REFUSALS) as caught:
            function(dest)
        assert not isinstance(caught.value, NotAMirrorError)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("source", ["new", "empty", "mirror"])
@pytest.mark.parametrize("dest", ["tree", "tree/catalog.json"])
def test_source_and_dest_in_each_others_place(here: Path, source: str, dest: str) -> None:
    sync.mirror(str(write_tree(here / "tree", 1, 1)), "mirror")
    (here / "empty").mkdir()
    before = sorted(here.rglob("*"))
    ran = run(["mirror", source, dest], environment(), here)
    assert (ran.code, "Did you swap SOURCE and DEST?" in ran.err, sorted(here.rglob("*")) == before) == (
        2,
        True,
        True,
    )


@pytest.mark.parametrize("make", [str, Path])
def test_a_tilde_is_the_home_directory(here: Path, make: type[str | Path]) -> None:
    source = str(write_tree(here.parent / "home" / "tree", 1, 2))
    report = sync.mirror(source, make("~/m"))
    assert (report.state, report.dest) == ("complete", str(here.parent / "home" / "m"))
    assert sync.status(make("~/m")).assets_done == 2
    assert list(sync.failures(make("~/m"))) == []
    assert sync.verify(make("~/m")).remaining == 0
    assert sync.resume(make("~/m")).state == "complete"
    assert sync.plan("~/tree/catalog.json", make("~/m")).assets_done == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "code"), [("127.0.0.1:8801/v1", 2), ("[::1]:8801", 2), ("stac.example.com/v1", 4)]
)
def test_a_source_without_a_scheme_gets_a_hint(here: Path, source: str, code: int) -> None:
    ran = run(["mirror", source, "m"], environment(), here)
    assert ran.code == code  # without a port, it may be a file that is missing
    assert "start it with https://" in ran.err or "start a URL with https://" in ran.err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["a:1/catalog.json", "data.old/catalog.json"])
def test_a_file_that_looks_like_a_host_is_a_file(here: Path, name: str) -> None:
    write_tree(here / Path(name).parent, 1, 1)
    ran = run(["plan", name, "--json"], environment(), here)
    assert (ran.code, ran.report["assets"]) == (0, 1)


@pytest.mark.parametrize("name", ["resume", "retry"])
def test_a_finished_mirror_leaves_nothing_to_do(here: Path, capfd: Any, name: str) -> None:
    source, began = str(write_tree(here.parent / "tree", 1, 2)), time.time()
    sync.mirror(source, "m")
    there = sync.status("m")
    assert there.ended is not None
    assert began <= there.started <= there.ended <= time.time()
    capfd.readouterr()
    Path(source).unlink()
    assert execute([name, "m"]) == 0
    assert f"m: complete; nothing to {name}" in capfd.readouterr().out
    report = getattr(sync, name)("m")
    assert (report.nothing_to_resume, report.exit_code, report.state) == (True, 0, "complete")
    assert (report.assets_done, report.assets_skipped, report.requests) == (2, 2, 0)
    assert (sync.status("m"), execute([name, "elsewhere"])) == (there, 2)


WRONG = [
    pytest.param(["-C", LABELS, "--label", "xyz"], "'xyz' is not a label class", id="a label"),
    pytest.param(["-C", LABELS, "--exclude-label", "xyz"], "'xyz' is not a label class", id="no label"),
    pytest.param(
        ["-C", LABELS, "--label", "true"], "'true' is not a label class", id="a class of another property"
    ),
    pytest.param(["-C", LABELS, "--label", "rice"], "nearest: 'Rice fields'.", id="part of a label"),
    pytest.param(["-C", "bigearthnet"], "has no collection bigearthnet", id="a collection"),
    pytest.param(
        [], "a collection with --collection, or use --all-collections; SOURCE has", id="no collection"
    ),
    pytest.param(["-C", LABELS, "--datetime", "soon"], "'soon' is not a valid time", id="a time"),
    pytest.param(["-C", LABELS, "--filter", "gsd <"], "--filter", id="a filter"),
    pytest.param(["-C", LABELS, "--layout", "{itm}"], "did you mean {item}?", id="a layout"),
    pytest.param(["-C", LABELS, "--layout", "{foo}"], "{foo} is neither a field", id="no such property"),
    pytest.param(["-C", LABELS, "--layout", "{platfrm}/{key}"], "did you mean {platform}?", id="a property"),
]


@pytest.fixture
def api(hub: MlhubReplica, monkeypatch: pytest.MonkeyPatch) -> str:
    export_here(hub, monkeypatch.setenv)
    return hub.base_url


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_selection_creates_nothing(here, api, capfd, options, message):
    for command in (["mirror", api, "m"], ["plan", api]):
        assert execute([*command, *options]) == 2
        assert message in capfd.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["labels", "platform"])
def test_a_layout_may_name_a_property_of_the_items_or_of_their_source_items(here, api, name):
    """`platform` is a property of the source items alone."""
    layout = f"{{{name}}}/{{item}}/{{key}}{{ext}}"
    assert execute(["plan", api, "-C", LABELS, "--max-items", "1", "--layout", layout]) == 0


@pytest.mark.parametrize(("name", "is_reported"), [("itm", True), ("platform", False)])
def test_a_field_that_no_item_of_a_file_has_is_reported(here, capfd, name, is_reported):
    (here / "scene.json").write_text(json.dumps(feature("scene", properties={"platform": "s2"})))
    item = feature("i") | {"links": [{"rel": "source", "href": "./scene.json"}]}
    (here / "item.json").write_text(json.dumps(item))
    assert execute(["plan", str(here / "item.json"), "--layout", f"{{{name}}}/{{key}}"]) == 0
    message = f"{{{name}}} is neither a field nor a property of the first items"
    assert (message in capfd.readouterr().err) == is_reported


def test_plan_estimates_all_assets_but_those_of_unknown_size(here, api, capfd):
    """Every item lists B10, and the servers answer 404 for it."""
    selection = ["-C", LABELS, "--label", "Rice fields", "--no-seasonal-snow", "--max-items", "2", "--json"]
    reports = []
    for more in ([], ["--exclude-asset", "B10"]):
        assert execute(["plan", api, *selection, *more]) == 0
        reports.append(json.loads(capfd.readouterr().out.splitlines()[-1]))
    assert reports[0]["bytes_total"] == reports[1]["bytes_total"] > 0
    assert reports[0]["bytes_basis"] == "sampled"
    assert reports[0]["unknown_keys"] == {"B10": 2}
    assert reports[1]["unknown_keys"] == {}
    assert execute(["plan", api, *selection[:-1]]) == 0
    printed = capfd.readouterr()
    assert "; without 2 assets of unknown size (B10: 2)" in printed.out
    assert "At least one size could not be read: 127.0.0.1" in printed.err


@pytest.mark.parametrize("command", [["mirror", "m"], ["plan"]])
def test_labels_are_checked_where_the_selection_matches_nothing(here, api, capfd, command):
    """The first page is empty, and the classes are stated by the items alone."""
    name, *dest = command
    nowhere = [name, api, *dest, "-C", LABELS, "--bbox", "170,80,171,81", "--label"]
    assert execute([*nowhere, "Airports"]) == 0
    assert "could not be checked" not in capfd.readouterr().err
    assert execute([*nowhere, "Airprots"]) == 2
    assert "nearest: 'Airports'" in capfd.readouterr().err
    assert here.exists()


def test_a_misspelt_variable_is_named(here, capfd, monkeypatch):
    monkeypatch.setenv("STACPULL_CONCURENCY", "4")
    source = str(write_tree(here.parent / "tree", 1, 1))
    assert execute(["plan", source]) == 0
    assert "warning: The environment variable STACPULL_CONCURENCY sets no option" in capfd.readouterr().err
    assert execute(["plan", source, "--quiet"]) == 0
    assert capfd.readouterr().err == ""
