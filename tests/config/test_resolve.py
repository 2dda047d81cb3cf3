import json
import re
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from msgspec.structs import replace

from stacpull.config import toml
from stacpull.config.options import OPTIONS, Options, Output, S3Options
from stacpull.config.resolve import Resolved, resolve, with_environment
from stacpull.engine.network import resolve_source
from stacpull.errors import UsageError
from stacpull.option_fields import Option
from stacpull.redact import Secret
from stacpull.selection import Selection

ROOT = Path(__file__).parents[2]
BIGEARTHNET = ROOT / "configs" / "bigearthnet.toml"
MLHUB = "https://api.radiant.earth/mlhub/v1"


def config(folder: Path, text: str) -> str:
    file = folder / "c.toml"
    file.write_text(text)
    return str(file)


def resolve_with(flags: Mapping[str, object] = {}, source: str | None = None, **environ: str) -> Resolved:
    aws_file = Path(__file__).with_name("aws_profiles.ini")
    variables = {"HOME": str(Path.home()), "AWS_SHARED_CREDENTIALS_FILE": str(aws_file), **environ}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.environ", variables)
        return resolve(flags, source=source, config=toml.read_config(flags.get("config")))


SWITCH = (True, "true", True)
POINT = '{"type":"Point","coordinates":[1,2]}'
COMMAS = ("Rice fields", "Beaches, dunes, sands")
EXAMPLES: dict[str, tuple[object, str, object]] = {
    # name: as a flag, as TOML, as it is held; `SWITCH` for those not named
    "collection": (("a", "b"), '["a", "b"]', ("a", "b")),
    "label": (COMMAS, '["Rice fields", "Beaches, dunes, sands"]', COMMAS),
    "label-mode": ("all", '"all"', "all"),
    "exclude-label": (("a",), '"a"', ("a",)),
    "label-property": ("classes", '"classes"', "classes"),
    "nomenclature": ("ben19", '"ben19"', "ben19"),
    "cloud-and-shadow": (False, "false", False),
    "bbox": ("1,2,3,4", "[1, 2, 3.0, 4]", (1.0, 2.0, 3.0, 4.0)),
    "clip": ("1,2,3,4", "[1, 2, 3.0, 4]", "1.0,2.0,3.0,4.0"),
    "intersects": (POINT, '{ type = "Point", coordinates = [1, 2] }', POINT),
    "max-cloud-cover": ("20", "20", 20.0),
    "where": (("a=1", "b:c=x=y"), '["a=1", "b:c=x=y"]', ("a=1", "b:c=x=y")),
    "filter": ("a = 1", '"a = 1"', "a = 1"),
    "sample": ("10", "10", 10),
    "seed": ("7", "7", 7),
    "shard": ("2/3", '"2/3"', (2, 3)),
    "datetime": ("2018/..", '"2018/.."', "2018/.."),
    "ids": (("a", "b"), '["a", "b"]', ("a", "b")),
    "asset": (("B0?",), '["B0?"]', ("B0?",)),
    "exclude-asset": (("B10",), '["B10"]', ("B10",)),
    "role": (("data",), '["data"]', ("data",)),
    "media-type": (("image/tiff",), '["image/tiff"]', ("image/tiff",)),
    "prefer": ("s3,https", '["s3", "https"]', ("s3", "https")),
    "source-links": (False, "false", False),
    "follow": (("related",), '["related"]', ("related",)),
    "push-down": (False, "false", False),
    "sortby": ("-datetime", '"-datetime"', "-datetime"),
    "max-items": ("5", "5", 5),
    "layout": ("{key}", '"{key}"', "{key}"),
    "concurrency": ("3", "3", 3),
    "per-host": ("4", "4", 4),
    "dask": ("tcp://host:8786", '"tcp://host:8786"', "tcp://host:8786"),
    "retries": ("0", "0", 0),
    "stall-timeout": ("1m2.5s", '"1m2.5s"', 62.5),
    "min-rate": ("2K", '"2K"', 2000.0),
    "limit-rate": ("50M", '"50M"', 50e6),
    "requests-per-second": ("2.5", "2.5", 2.5),
    "stop-after": ("3h50m", '"3h50m"', 13800.0),
    "max-failures": ("10", "10", 10),
    "max-page-size": ("100M", '"100M"', 100_000_000),
    "page-size": ("100", "100", 100),
    "header": (("X-A: 1",), '["X-A: 1"]', {"X-A": Secret("1")}),
    "endpoint-url": ("http://127.0.0.1:1", '"http://127.0.0.1:1"', "http://127.0.0.1:1"),
    "region": ("eu-central-1", '"eu-central-1"', "eu-central-1"),
    "credentials": ("work", '"work"', "work"),
    "ca-bundle": (str(BIGEARTHNET), f'"{BIGEARTHNET}"', BIGEARTHNET),
    "metadata": ("none", '"none"', "none"),
    "checksum": ("none", '"none"', "none"),
    "missing": ("ok", '"ok"', "ok"),
    "work": ("~/ledger", '"~/ledger"', Path("~/ledger").expanduser()),
    "dest-endpoint-url": ("http://127.0.0.1:1", '"http://127.0.0.1:1"', "http://127.0.0.1:1"),
    "dest-profile": ("name", '"name"', "name"),
    "dest-region": ("somewhere", '"somewhere"', "somewhere"),
    "prune": ("list", "true", "list"),
    "allow-local": ("/", '["/"]', ("/",)),
    "log-file": ("~/requests.log", '"~/requests.log"', Path("~/requests.log").expanduser()),
    "dashboard": ("[::1]:8080", '"[::1]:8080"', ("::1", 8080)),
    "dashboard-token": ("0123456789abcdef", '"0123456789abcdef"', Secret("0123456789abcdef")),
    "verbose": (2, "2", 2),
}


def held(resolved: Resolved, option: Option) -> object:
    values = {Selection: resolved.selection, Options: resolved.options, Output: resolved.output}
    value: object = resolved.options.s3 if option.holder is S3Options else values[option.holder]
    return getattr(value, option.field)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_the_same_value_as_a_flag_and_in_a_file(option: Option, tmp_path: Path) -> None:
    flag, written, expected = EXAMPLES.get(option.name, SWITCH)
    assert held(resolve_with(), option) != expected
    if option.form != "no_flag":
        assert held(resolve_with({option.name: flag}), option) == expected
    if option.variables and isinstance(flag, str):
        assert held(resolve_with(**{option.variables[0]: flag}), option) == expected
    kebab = config(tmp_path, f"{option.name} = {written}\n")
    assert held(resolve_with({"config": kebab}), option) == expected
    snake = config(tmp_path, f"{option.name.replace('-', '_')} = {written}\n")
    assert held(resolve_with({"config": snake}), option) == expected


def test_the_table_sets_every_field() -> None:
    targets = {f"{'s3.' * (o.holder is S3Options)}{o.field}" for o in OPTIONS}
    holders = (Selection, Output, Options)
    fields = {field.name for holder in holders for field in attrs.fields(holder)}
    fields |= {f"s3.{field.name}" for field in attrs.fields(S3Options)}
    assert targets <= fields
    assert fields - targets == {
        "s3",  # a part by itself
        "dask_client",  # of a program
        "query",  # [credentials] and SOURCE
        "credential_names",  # derived
        "credentials_for",  # the same
        "credential_error",  # the same
        "filled_profile",  # the profile of --credentials, if it is not an AWS profile
        "s3.keys",  # the same
        "s3.buckets",  # the same
    }


def test_flag_over_environment_over_config_over_default(tmp_path: Path) -> None:
    file = config(tmp_path, "retries = 3\n")
    assert resolve_with().options.retries == 5
    assert resolve_with({"config": file}).options.retries == 3
    assert resolve_with({"config": file}, STACPULL_RETRIES="2").options.retries == 2
    assert resolve_with({"config": file, "retries": "1"}, STACPULL_RETRIES="2").options.retries == 1


@pytest.mark.parametrize(
    ("given", "used"), [(("B02",), ("B02",)), ((), ("B10", "B01")), (("",), ()), (("", ""), ())]
)
def test_lists_replace_each_other_and_an_empty_text_is_an_empty_list(tmp_path, given, used):
    file = config(tmp_path, 'exclude-asset = ["B10", "B01"]\n')
    assert resolve_with({"config": file, "exclude-asset": given}).selection.exclude_assets == used


NARROWING = ("collection", "label", "where", "ids", "asset", "role", "media-type", "follow")


@pytest.mark.parametrize("name", NARROWING)
@pytest.mark.parametrize("value", [("",), ("a=b", ""), ("", "")])
def test_an_empty_text_that_would_keep_everything_is_rejected(tmp_path, name, value):
    """An unset variable in a script: `--ids "$ID"`."""
    with pytest.raises(UsageError, match=f"^--{name} must not be empty"):
        resolve_with({name: value})
    with pytest.raises(UsageError, match=rf"{name} .*must not be empty|{name} must not be empty"):
        resolve_with({"config": config(tmp_path, f"{name} = {json.dumps(list(value))}\n")})


@pytest.mark.parametrize("name", NARROWING)
def test_an_empty_text_overrides_a_filter_in_a_file(tmp_path: Path, name: str) -> None:
    file = config(tmp_path, f"{name} = 'a=b'\n")
    assert resolve_with({"config": file}).selection != Selection()
    assert resolve_with({"config": file, name: ("",)}).selection == Selection()
    with pytest.raises(UsageError, match="must not be empty"):
        resolve_with({"config": file, name: ("c=d", "")})


@pytest.mark.parametrize(
    "name",
    ["label-property", "datetime", "bbox", "intersects", "filter", "max-items", "prefer", "shard", "layout"],
)
def test_an_empty_value_is_rejected(name: str) -> None:
    with pytest.raises(UsageError, match=f"^--{name} must"):
        resolve_with({name: ""})


def test_values_are_read_from_files(tmp_path: Path) -> None:
    area, text = tmp_path / "area.geojson", tmp_path / "filter.txt"
    area.write_text('\ufeff{"type": "Point",\n "coordinates": [1, 2]}\n', encoding="utf-8")
    text.write_text("a = 1\n  AND b = 2\n")
    for sign in ("@", ""):
        assert resolve_with({"intersects": f"{sign}{area}"}).selection.intersects == POINT
    assert resolve_with({"filter": f"@{text}"}).selection.filter == "a = 1\n  AND b = 2"
    table = config(tmp_path, '[filter]\nop = "="\nargs = [{ property = "a" }, 1]\n')
    assert resolve_with({"config": table}).selection.filter == '{"op":"=","args":[{"property":"a"},1]}'


@pytest.mark.parametrize(
    ("environ", "s3"),
    [
        ({"AWS_PROFILE": "p"}, S3Options(profile="p")),
        ({"STACPULL_CREDENTIALS": "q", "AWS_PROFILE": "p"}, S3Options(profile="q")),
        ({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}, S3Options(region="a")),
        ({"AWS_DEFAULT_REGION": "b"}, S3Options(region="b")),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "b"}, S3Options(region="b")),
        ({"AWS_ENDPOINT_URL": "http://a"}, S3Options(endpoint_url="http://a")),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"},
            S3Options(endpoint_url="http://b"),
        ),
        ({"AWS_ENDPOINT_URL": "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}, S3Options()),
        (
            {"AWS_ENDPOINT_URL": "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "0"},
            S3Options(endpoint_url="http://b"),
        ),
        ({"STACPULL_NO_SIGN_REQUEST": "1"}, S3Options(no_sign_request=True)),
        ({"AWS_REQUEST_PAYER": "requester"}, S3Options()),
        ({"AWS_EC2_METADATA_DISABLED": "false"}, S3Options()),
        ({}, S3Options()),
    ],
)
def test_the_environment_of_aws(environ, s3, monkeypatch):
    assert resolve_with(**environ).options.s3 == s3
    if not any(name.startswith("STACPULL_") for name in environ):
        monkeypatch.setattr("os.environ", environ)
        assert with_environment(Options(), "https://a/").s3 == s3
        mine = Options(s3=S3Options(endpoint_url="http://m", profile="m", region="m"))
        assert with_environment(mine, "https://a/") == mine


@pytest.mark.parametrize(
    ("source", "options", "key"),
    [
        (MLHUB, Options(), "secret-key"),
        (f"{MLHUB}?key=mine", Options(), None),
        (MLHUB, Options(headers={"Authorization": Secret("Bearer mine")}), None),
        (MLHUB, Options(headers={"User-Agent": Secret("mine")}), "secret-key"),
        ("https://elsewhere.example/v1", Options(), None),
    ],
)
def test_the_key_of_a_known_service(source, options, key, monkeypatch):
    monkeypatch.setenv("MLHUB_API_KEY", "secret-key")
    found = with_environment(options, source)
    assert found.query == ({} if key is None else {"key": Secret(key)})
    assert found.credential_names == (() if key is None else ("MLHUB_API_KEY",))
    _, resolved = resolve_source(source, options)
    assert {f"header {name}" for name in options.headers} <= {*resolved.credential_names}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max-items": "0"}, "--max-items must be a whole number of 1 or more, not '0'"),
        ({"dask": "5000"}, "--dask must be a whole number from 1 to 4096, not '5000'"),
        ({"dask": "nothing.json"}, "--dask must be an address such as tcp://host:8786, a scheduler file"),
        ({"endpoint-url": "http://"}, "--endpoint-url must be a URL with a valid host, not 'http://'"),
        ({"intersects": "@"}, "--intersects needs the name of a file after @"),
        ({"bbox": "1,2"}, "--bbox must be four numbers W,S,E,N in degrees (or six, with heights), with"),
        ({"intersects": "{"}, "--intersects is not GeoJSON: "),
        ({"intersects": "nowhere.geojson"}, "--intersects cannot read nowhere.geojson: No such file"),
        ({"filter": "@/none"}, "--filter cannot read /none: No such file or directory"),
        ({"sample": "1", "max-items": "1"}, "Give --sample or --max-items, not both"),
        ({"ids": ("@/none",)}, "--ids cannot read /none: No such file or directory"),
        ({"log-file": "${DIR}/x"}, "--log-file is ${DIR}/x: write the whole path, or ./${DIR}/x"),
        ({"STACPULL_RETRIES": "x"}, "STACPULL_RETRIES must be a whole number of 0 or more, not 'x'"),
        ({"AWS_ENDPOINT_URL": "s3"}, "AWS_ENDPOINT_URL must begin with http:// or https://, not 's3'"),
        ({"collection": ("a",), "all-collections": True}, "Give --collection or --all-collections, not both"),
    ],
)
def test_an_invalid_value_is_reported_with_its_place(given, message):
    environ = {name: value for name, value in given.items() if name.isupper()}
    with pytest.raises(UsageError) as caught:
        resolve_with(given, **environ)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [("concurrency", '"eight"', "4"), ("label-mode", '"some"', "all"), ("label", "[3]", ("Pastures",))],
)
def test_a_value_in_a_file_is_checked_even_if_a_flag_replaces_it(tmp_path, name, text, given):
    file, message = config(tmp_path, f"{name} = {text}\n"), rf"c\.toml, line 1, {name} must be "
    with pytest.raises(UsageError, match=message):
        resolve_with({"config": file, name: given})
    with pytest.raises(UsageError, match=message):
        resolve({}, options={}, config=toml.read_config(file))  # a command without it


def test_a_path_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_file(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(UsageError, match=r"^--ca-bundle cannot read /root/x: Permission denied\.$"):
        resolve_with({"ca-bundle": "/root/x"})


def test_a_flag_replaces_a_value_that_is_only_valid_on_another_machine(tmp_path: Path) -> None:
    file = config(tmp_path, 'ca-bundle = "/nowhere.pem"\nshard = "auto"\nids = ["@/nowhere.txt"]\n')
    resolved = resolve_with({"config": file, "ca-bundle": str(BIGEARTHNET), "shard": "1/2", "ids": ("a",)})
    assert (resolved.options.ca_bundle, resolved.selection.shard) == (BIGEARTHNET, (1, 2))
    assert resolved.selection.ids == ("a",)


@pytest.mark.parametrize("written", ['header = ["X-Key: k"]\n', '[credentials]\nquery = { key = "k" }\n'])
def test_the_credentials_of_a_config_are_not_for_another_source(tmp_path: Path, written: str) -> None:
    file = config(tmp_path, f'source = "{MLHUB}/a?key=secret-key"\n{written}')
    options = resolve_with({"config": file}).options
    assert "secret-key" not in repr(options)
    assert resolve_source(f"{MLHUB}/b", options)[1].credential_names
    message = r"credentials for api\.radiant\.earth, but the source is at elsewhere\.example"
    with pytest.raises(UsageError, match=message):
        resolve_source("https://elsewhere.example", options)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_a_shipped_config_is_valid_and_found_by_its_name(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expected = resolve_with({"config": str(path)}, MLHUB_API_KEY="k")
    assert expected != resolve_with()
    assert expected.options.credential_names == ()  # it may be used with any SOURCE
    assert resolve_with({"config": path.stem}, MLHUB_API_KEY="k") == expected
    assert resolve_with({"config": path.name}, MLHUB_API_KEY="k") == expected
    Path(path.stem).write_text("retries = 99\n")  # a user's file takes precedence
    assert resolve_with({"config": path.stem}).options.retries == 99


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "--config must not be empty"),
        ("bigearthnt", "no config of that name; did you mean bigearthnet?"),
        ("xyz", "no config of that name; there are bigearthnet, full-mirror, torchgeo."),
        ("xyz.toml", "--config xyz.toml: there is no file"),
        ("configs/bigearthnet", "The config file configs/bigearthnet cannot be read"),
    ],
)
def test_a_missing_config_is_reported(monkeypatch, tmp_path, name, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(expected) + "[^?]*$"):
        resolve_with({"config": name})


def test_variables_that_set_no_option_are_reported() -> None:
    hints = {
        "STACPULL_CONCURENCY": "; did you mean STACPULL_CONCURRENCY?",
        "STACPULL_MAX_ITEMS": ": use --max-items.",
        "STACPULL_PRUNE": ": use --prune.",
        "STACPULL_XYZ": ".",
    }
    resolved = resolve_with(**dict.fromkeys(hints, "planted"))
    assert replace(resolved, warnings=()) == resolve_with()
    warnings = [f"The environment variable {name} sets no option{hint}" for name, hint in hints.items()]
    assert sorted(resolved.warnings) == sorted(warnings)


def test_source_and_an_authorization_take_precedence_over_the_keys_of_a_config(tmp_path: Path) -> None:
    keys = '[credentials]\nquery = { key = "${UNSET}" }\n'
    file = config(tmp_path, keys)
    assert resolve_with({"config": file}, f"{MLHUB}?key=other").options.query == {}
    assert resolve_with({"config": file, "header": ("Authorization: x",)}, MLHUB).options.query == {}
    unset = resolve_with({"config": file, "header": ("X-Other: x",)}, MLHUB).options.credential_error
    assert "UNSET" in str(unset)
    both = config(tmp_path, 'header = ["Authorization: x"]\n' + keys.replace("${UNSET}", "${K}"))
    assert resolve_with({"config": both}, MLHUB, K="k").options.query == {"key": Secret("k")}


def test_no_representation_contains_secrets(tmp_path: Path) -> None:
    file = config(tmp_path, '[credentials]\nquery = { a = "planted-one", b = "${TWO}" }\n')
    resolved = resolve_with({"config": file, "header": ("X: planted-three",)}, TWO="planted-two")
    assert set(resolved.options.query) == {"a", "b"}
    assert "planted" not in repr(resolved)
