"""Mistakes of users: each ends with the right exit code and a sentence that says what to do."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.ran import Ran

from stacpull_replicas import MlhubReplica, Status, run_in_thread

pytestmark = pytest.mark.behaviour

Command = Callable[..., Ran]
LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def hub() -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=4, seed=3)) as replica:
        yield replica


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: MlhubReplica) -> Path:
    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    for name, value in hub.exports().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Mistake(NamedTuple):
    """What is typed, and what comes of it. `{api}` stands for the API, `-C` for its label collection."""

    arguments: tuple[str, ...]
    message: str
    code: int = 2


MISTAKES = {
    "no DEST": Mistake(("mirror", "{api}"), "stacpull: Missing argument 'DEST'.\nUsage: stacpull mirror [O"),
    "a misspelt option": Mistake(
        ("mirror", "{api}", "d", "--max-itmes", "3"),
        "stacpull: No such option '--max-itmes'; did you mean --max-items?\nUsage: stacpull",
    ),
    "two limits": Mistake(("plan", "{api}", "--sample", "1", "--max-items", "1"), "Give --sample or --max"),
    "a seed without a sample": Mistake(("mirror", "{api}", "d", "--seed", "1"), "--seed needs --sample."),
    "a label to leave out": Mistake(("plan", "{api}", "--no-label", "x"), "use --exclude-label NAME.\n"),
    "a profile": Mistake(
        ("mirror", "{api}", "s3://bucket", "--profile", "x"), "or --dest-profile NAME for a"
    ),
    "an option unlike all others": Mistake(("plan", "{api}", "--scene"), "option '--scene'.\n"),
    "a profile for DEST that does not exist": Mistake(
        ("mirror", "{api}", "s3://bucket/p", "--work", "w", "-C", "--dest-profile", "nope"),
        "(The config profile (nope) could not be found); check --dest-profile and AWS_PROFILE.\n",
        3,
    ),
    "a number as in Python": Mistake(("plan", "{api}", "-C", "--bbox", "1_0,2_0,3_0,4_0"), "--bbox"),
    "a box without commas": Mistake(("plan", "{api}", "--bbox", "7 46 8 47"), "must be four numbers W,S,E,N"),
    "image labels": Mistake(("plan", f"{{api}}/collections/{SOURCE}", "--label", "x"), "labels: select", 0),
    "WKT as an area": Mistake(
        ("mirror", "{api}", "d", "-C", "--intersects", "POINT(7 46)"),
        "--intersects cannot read POINT(7 46): No such file or directory; give GeoJSON (ogr2ogr",
    ),
    "a wrong path": Mistake(
        ("plan", "{host}/mlhub/v2", "-C"), "Check SOURCE: an API's root is like https://host/v1.", 4
    ),
    "a URL without its scheme": Mistake(
        ("mirror", "localhost:8000/v1", "d", "-C"),
        "SOURCE is localhost:8000/v1: start a URL with https:// or http://.",
    ),
    "a port that nothing listens on": Mistake(
        ("plan", f"{NOWHERE}/v1", "-C", "--retries", "0"),
        "Connection refused. Check SOURCE, network and proxy, or try again later.",
        4,
    ),
    "https on an http port": Mistake(
        ("plan", "{https}/mlhub/v1", "-C", "--retries", "0"),
        "(wrong version number). If the server has no TLS, use http://.",
        4,
    ),
    "a filter of a report": Mistake(("report", "m", "--label", "x"), "use `stacpull mirror SOURCE DEST --"),
    "a filter of an export": Mistake(("export", "m", "out", "--label", "x"), "some with --split NAME=@FILE"),
    "a file without @": Mistake(
        ("plan", "{api}", "-C", "--ids", __file__), "names a file: to read it, use @/"
    ),
    "a file of code": Mistake(("plan", "{api}", "-C", "--intersects", __file__), ".py: give GeoJSON (og"),
    "a comma between two times": Mistake(
        ("plan", "{api}", "-C", "--datetime", "2018-01,2018-02"),
        "2017-06-13 or 2017-06-13T10:10:31Z, with / between two times.",
    ),
    "a box in metres": Mistake(
        ("plan", "{api}", "-C", "--bbox", "377000,5208000,380000,5210000"),
        "--bbox has 377000, which is not a longitude: use degrees, -180 to 180.",
    ),
    **{
        f"an empty output of {words[0]}": Mistake(words, "The output is empty: use a path on this machine.")
        for words in [
            ("export", "m", "", "-f", "webdataset"),
            ("report", "m", "-o", ""),
            ("headers", "{api}", "-C", "-o", ""),
        ]
    },
    "a report as a PDF": Mistake(
        ("report", "m", "-o", "lab.pdf"), "A report is HTML: use a name such as lab.html."
    ),
    "an output that is a bucket": Mistake(
        ("export", "m", "s3://b/shards", "-f", "webdataset"),
        "The output is a URL (s3://b/shards): use a path on this machine.",
    ),
    "a split whose list does not exist": Mistake(
        ("export", "m", "out", "-f", "webdataset", "--split", "train=@nope.txt"),
        "--split train cannot read nope.txt: No such file or directory; give text with one id per line.",
    ),
    "two collections in one -C": Mistake(
        ("plan", "{api}", "--collection", f"{LABELS},{SOURCE}"),
        f"has no collection {LABELS},{SOURCE}: did you mean {SOURCE} or {LABELS}? Repeat -C for each",
    ),
    "two ids in one --ids": Mistake(("plan", "{api}", "-C", "--ids", "a,b"), "Repeat --ids for each id.", 0),
    "a box in four words": Mistake(
        ("mirror", "{api}", "d", "-C", "--bbox", "5", "40", "10", "60"), "join numbers with commas."
    ),
    **{
        f"latitude before longitude in {words[0]}": Mistake(
            ("plan", "{api}", "-C", *words), f" Check the order in {words[0]}: ", 0
        )
        for words in [("--bbox", "50,10,52,12"), ("--intersects", '{"type":"Point","coordinates":[50,10]}')]
    },
    **{
        f"east before west in --{option}": Mistake(
            ("plan", "{api}", "-C", f"--{option}", "10,50,5,52"),
            f"warning: --{option} crosses the antimeridian, because W is greater than E",
            0,
        )
        for option in ("bbox", "clip")
    },
    "a directory to copy from that does not exist": Mistake(
        ("mirror", "{api}", "d", "--allow-local", "nowhere"), "--allow-local is not a directory: nowhere."
    ),
    "two configs": Mistake(("plan", "--config", "a", "--config", "b"), "--config can be given only once."),
    "a misspelt --role": Mistake(
        ("mirror", "{api}", "d", "-C", "--role", "dta", "--max-items", "1"),
        "dropped every asset. Types and roles: application/json, data, image/tiff, labels.",
        0,
    ),
    "an argument for a command that takes none": Mistake(
        ("credentials", "list", "n"), "\nUsage: stacpull credentials list [OPTIONS]\n"
    ),
    "an impossible order": Mistake(("mirror", "{api}", "d", "-C", "--sortby", "id"), "cannot be sorted"),
    "a --work that is a bucket": Mistake(
        ("mirror", "{api}", "s3://bucket/m", "--work", "s3://bucket/w"), "add --work DIR, a local directory"
    ),
    "a folder in which nothing can be made": Mistake(
        ("mirror", "{api}", "/proc/foo", "-C"), "/proc/foo cannot be written: no file can be created there", 5
    ),
    "--fix": Mistake(("verify", "d", "--fix"), "No such option '--fix': use --repair."),
    "--yes without --prune": Mistake(
        ("mirror", "{api}", "d", "-C", "--yes"),
        "'--yes': use --prune, which lists what `--prune=remove` removes.",
    ),
    "a value of a filter with two forms": Mistake(
        ("plan", "{api}", "--seasonal-snow=false"), "Option '--seasonal-snow' does not take a value."
    ),
    "an unknown index": Mistake(
        ("trace", "byoc-x", "-o", "t", "--index", "ndwl", "--bbox", "0,0,1,1", "--datetime", "2024-06-01"),
        "--index 'ndwl' is not known: use one of ndwi, ndvi, gndvi, evi, savi",
    ),
    "the text of an evalscript": Mistake(
        (
            "trace",
            "byoc-x",
            "--evalscript",
            "//VERSION=3\n" * 99,
            "--bbox",
            "0,0,1,1",
            "--datetime",
            "2024-06",
        ),
        "--evalscript is not a file: //VERSION=3.\n",
    ),
}


def typed(hub: MlhubReplica, arguments: tuple[str, ...]) -> list[str]:
    api = hub.exports()["MLHUB_ROOT_URL"].rstrip("/")
    host = api.partition("/mlhub")[0]
    places = {"{api}": api, "{host}": host, "{https}": host.replace("http", "https")}
    words = []
    for word in arguments:
        name, brace, rest = word.partition("}")
        words.append(places.get(name + brace, name + brace) + rest)
    return [part for word in words for part in (("-C", LABELS) if word == "-C" else (word,))]


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_reported_with_advice(hub, stacpull_command, mistake, monkeypatch, folder):
    if mistake.arguments[0] == "trace":
        monkeypatch.setenv("SH_CLIENT_ID", "id")
        monkeypatch.setenv("SH_CLIENT_SECRET", "secret")
        monkeypatch.setenv("SH_BASE_URL", NOWHERE)
    ran = stacpull_command(*typed(hub, mistake.arguments))
    assert (ran.code, mistake.message in ran.err) == (mistake.code, True), ran.err
    assert "Traceback" not in ran.err
    if mistake.code == 2:
        assert list(folder.iterdir()) == []


def test_no_mirror_is_made_inside_another(hub, stacpull_command, folder):
    command = typed(hub, ("mirror", "{api}", "d", "-C", "--exclude-asset", "*"))
    assert stacpull_command(*command).code == 0
    for inside in ("d/more", f"d/{LABELS}", "d/.stacpull"):
        ran = stacpull_command(*[inside if word == "d" else word for word in command])
        assert (ran.code, f"{inside} is inside the mirror {folder}/d: choose" in ran.err) == (2, True), (
            ran.err
        )
    beside = ["d/../e" if word == "d" else word for word in command]
    assert stacpull_command(*beside).code == 0
    assert stacpull_command("verify", "d", "--strict").code == 0


def test_a_plan_of_a_mirror_counts_each_asset_once(hub, stacpull_command, folder):
    """Source items are met twice: by the walk of the catalog, and through the links of the label items."""
    made = stacpull_command(*typed(hub, ("mirror", "{api}", "d", "-C", "--exclude-asset", "B10", "--json")))
    planned = stacpull_command("plan", f"{folder}/d/catalog.json", "--exclude-asset", "B10", "--json")
    assert json.loads(planned.out)["assets"] == json.loads(made.out)["assets_done"] == 4 * 13


def test_a_missing_key_and_a_refused_key_have_different_messages(hub, stacpull_command, monkeypatch):
    monkeypatch.setenv("MLHUB_API_KEY", "wrong")
    refused = stacpull_command(*typed(hub, ("mirror", "{api}", "d", "-C")))
    assert "matched" not in refused.err  # nothing was read
    monkeypatch.delenv("MLHUB_API_KEY")
    absent = stacpull_command(*typed(hub, ("plan", "{api}", "-C")))
    assert (refused.code, absent.code) == (3, 3)
    assert "Check MLHUB_API_KEY." in refused.err
    assert "MLHUB_API_KEY is not set: export MLHUB_API_KEY=..." in absent.err


def test_a_source_that_is_down_is_to_be_tried_later(hub, stacpull_command, folder):
    with run_in_thread(MlhubReplica(items=1)) as down:
        down.inject(lambda request: True, Status(500), times=99)
        arguments = ["mirror", down.exports()["MLHUB_ROOT_URL"], "d", "-C", LABELS, "--retries", "0"]
        ran = stacpull_command(*arguments)
    assert (ran.code, ran.err.rstrip().endswith("or try again later.")) == (4, True), ran.err
    assert list(folder.iterdir()) == []


def test_aws_keys_alone_make_no_profile_of_another_service_ready(stacpull_command, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anything")
    before = stacpull_command("credentials", "list").out
    monkeypatch.setenv("CDSE_S3_ACCESS_KEY", "a")
    monkeypatch.setenv("CDSE_S3_SECRET_KEY", "b")
    after = stacpull_command("credentials", "list").out
    assert "  not ready: set CDSE_USERNAME and CDSE_PASSWORD, or CDSE_S3_ACCESS_KEY" in before
    assert "  not ready: set CDSE_USERNAME" not in after


def test_why_assets_on_s3_failed_is_in_the_summary(hub, stacpull_command, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("https_proxy", NOWHERE)  # nothing leaves this machine
    arguments = ("mirror", "{api}", "d", "-C", "--asset", "B02", "--retries", "0")
    ran = stacpull_command(*typed(hub, arguments))
    assert ran.code == 1
    assert "for example: No connection to" in ran.out
