"""Every command and Python block of the README and the docs runs and prints the output on the page."""

import copy
import json
import re
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from rasterio import Affine
from tests.acceptance.raster_host import RasterHost
from tests.documents.pages import blocks_of, differs, is_run, run_page, steps_of
from tests.items import collection
from tests.raster.tiff.clipping import raster
from tests.servers.buckets import client
from tests.servers.moto_server import moto
from tests.servers.process import program_path
from tests.serving import free_ports

from stacpull.cli.main import COMMANDS, cli

COLLECTION = "sentinel-2-l2a"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
DATES = ("2024-06-02", "2024-06-12", "2024-06-22")
BERN = {"type": "Polygon", "coordinates": [[[7, 46.5], [8, 46.5], [8, 47.5], [7, 47.5], [7, 46.5]]]}


@contextmanager
def earth_search_replica(shared_data: Path) -> Iterator[str]:
    """Serve recorded items of Earth Search, with small files as their assets; yield the URL of the API.

    It conforms to API - Features only. It does not filter, so that the client must. The near infrared is a
    real COG, served with range requests.
    """
    recorded = json.loads((shared_data / "stac/earthsearch/v0_item_s2_cogs.json").read_text())
    with RasterHost() as host:
        base = host.url("")
        extent = {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-06-27T10:25:31Z", None]]},
        }
        links = [{"rel": "items", "href": f"{base}/v1/collections/{COLLECTION}/items"}]
        described = collection(COLLECTION, title="Sentinel-2 Level-2A", extent=extent, links=links)
        items = [_item(recorded, base, number) for number in range(len(DATES))]
        page = {"type": "FeatureCollection", "features": items, "links": [], "numberMatched": len(items)}
        documents = {
            **dict.fromkeys(("", "/"), _root(base)),
            "/collections": {"collections": [described], "links": []},
            f"/collections/{COLLECTION}": described,
            f"/collections/{COLLECTION}/items": page,
        }
        host.files |= {f"/v1{path}": json.dumps(one).encode() for path, one in documents.items()}
        for path in (one["href"].removeprefix(base) for item in items for one in item["assets"].values()):
            host.files[path] = _near_infrared() if path.endswith("/nir.tif") else path.encode() * 200
        yield f"{base}/v1"


def _item(recorded: dict[str, Any], base: str, number: int) -> dict[str, Any]:
    item, date = copy.deepcopy(recorded), DATES[number]
    item.update(id=f"S2A_32TLT_{date.replace('-', '')}_0_L2A", collection=COLLECTION, geometry=BERN)
    del item["stac_extensions"], item["properties"]["proj:epsg"]  # `--clip` must state the CRS
    item["bbox"] = [7, 46.5, 8, 47.5]
    item["properties"].update({"datetime": f"{date}T10:36:00Z", "eo:cloud_cover": 10 * number})
    item["links"] = []
    item["assets"] = {
        key: {"href": f"{base}/files/{item['id']}/{key}.tif", "type": COG, "roles": ["data"]}
        for key in ("red", "green", "blue", "nir")
    }
    return item


@cache
def _near_infrared() -> bytes:
    where = Affine(80, 0, 300_000, 0, -80, 5_250_000)
    return _raster(size=(1372, 1372), transform=where, compress="deflate")


def _raster(**kind: Any) -> bytes:
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterio's own
        return raster(Path(directory), **kind)


def _root(base: str) -> dict[str, Any]:
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "earth-search-aws",
        "title": "Earth Search by Element 84",
        "description": "A STAC API of public datasets on AWS",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            "https://api.stacspec.org/v1.0.0/collections",
            "https://api.stacspec.org/v1.0.0/ogcapi-features",
        ],
        "links": [
            {"rel": "self", "href": f"{base}/v1"},
            {"rel": "root", "href": f"{base}/v1"},
            {"rel": "data", "href": f"{base}/v1/collections"},
        ],
    }


ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENVIRONMENT = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "COLUMNS": "100",
    "http_proxy": "http://127.0.0.1:9",  # a page with another host fails instead of connecting to it
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1,localhost",
}
PYTHON_OF = {"open.md": "open", "torchgeo.md": "torchgeo"}
"""Pages whose Python needs libraries of others: the venv of tools that has them."""


@pytest.fixture(scope="module")
def earth_search(shared_data: Path) -> Iterator[str]:
    with earth_search_replica(shared_data) as url:
        yield url


@pytest.fixture
def bucket_service(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Return the URL of a service with the bucket `my-bucket` and the keys of the profile `archive`."""
    folder = tmp_path_factory.mktemp("service")
    with moto(folder) as service:
        with closing(client(service.url, service.keys)) as s3:
            s3.create_bucket(Bucket="my-bucket")
        keys = f"aws_access_key_id={service.keys.access_key}\naws_secret_access_key={service.keys.secret_key}"
        (folder / "credentials").write_text(f"[archive]\n{keys}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        yield service.url


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if steps_of(page.read_text())],
)
def test_a_page_runs_as_it_is_written(page, tmp_path, earth_search, request):
    text = page.read_text()
    service = "https://s3.example.org"
    port = free_ports(3)
    # one page runs the installed command; Dask starts its own processes
    is_started = page.name in {"README.md", "dask.md"}
    programs = [] if is_started else [request.getfixturevalue("forked_command")]
    if page.name in PYTHON_OF:
        programs.insert(0, Path(program_path("python", venv=PYTHON_OF[page.name])).parent)
    ran = run_page(
        text,
        tmp_path,
        {
            service: request.getfixturevalue("bucket_service") if service in text else service,
            "https://earth-search.aws.element84.com/v1": earth_search,
            "8801": str(port),
            "8811": str(port),
            "/tmp/stacpull-docs-copy": str(tmp_path / "moved"),  # noqa: S108 - the path on the page
        },
        ENVIRONMENT,
        programs,
    )
    for step, one in ran:
        where = f"{page.name}:{step.line}: {step.text}\n{one.out}\n{one.err}"
        assert one.code == 0, where
        missing = differs(step.shown, one.out) and differs(step.shown, one.err)
        assert missing is None, f"{where}\nshown, and not printed: {missing}"


def test_commands_that_are_not_run_are_few_and_known() -> None:
    skipped = [step.text for page in PAGES for step in steps_of(page.read_text()) if not is_run(step)]
    commands = [[word for word in text.split() if not re.match("[A-Z_]+=", word)] for text in skipped]
    assert {words[0] for words in commands} <= {"pip", "git", "bash", ".venv/bin/mkdocs"}
    scripts = {words[1] for words in commands if words[0] == "bash"}
    assert scripts <= {"scripts/test", "scripts/demo", "scripts/make-venv"}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_options_that_a_page_names_exist(page: Path) -> None:
    for name, arguments in re.findall(r"stacpull (?:-q )?(\w+)([^\n`]*)", page.read_text()):
        for flag in re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", arguments) if name in COMMANDS else ():
            assert flag in _flags_of(name), f"{page.name}: stacpull {name} has no {flag}"


@cache
def _flags_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    below = command.commands.values() if isinstance(command, click.Group) else ()
    every = [parameter for one in (command, *below) if one is not None for parameter in one.params]
    flags = {flag for one in every for flag in (*one.opts, *one.secondary_opts)}
    return flags | {"--help", "--version", "--quiet", "--verbose"}


def test_shell_scripts_of_the_pages_parse() -> None:
    for page in PAGES:
        for block in blocks_of(page.read_text()):
            if block.language in {"sh", "bash"} and "* * *" not in block.text:
                done = subprocess.run(
                    ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
                )
                assert done.returncode == 0, f"{page.name}:{block.line}: {done.stderr}"


PYTHON = b"#!/usr/bin/env python3"
SCRIPTS = sorted(path for path in Path("scripts").iterdir() if path.is_file() and PYTHON in path.read_bytes())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_names_that_a_script_imports_exist(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.syspath_prepend(script.parent)
    with suppress(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: ")
