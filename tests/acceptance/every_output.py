"""Every output of a mirror: made, killed at random moments, made again, and read by other tools.

python -m tests.acceptance.every_output [--patches N] [--kills N] [--data DIR] [--only TEXT] [--seed N]

There are two mirrors: patches of the replica of MLHub, and the sixty recorded items of the real service if
`--data` (`../shared/data`) is there. Rasters come from nginx. Each output is made once undisturbed. Then it
is made again elsewhere: it is killed (SIGKILL to all of its processes) at random moments, and after each kill
whatever is under a final name must be what it is in the undisturbed output. The last attempt must complete
it, and give the same bytes. If a tool that would read it is not installed, the line names it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import rasterio
from aiohttp import web
from tests.acceptance.real_hub import ITEMS_PATH, KEY, RealHub
from tests.acceptance.trees import TOKEN
from tests.export.browser import CHROMIUM, SCHEMES, WIDTHS, opened_page
from tests.raster.tiff.clipping import degrees, raster

import stacpull
from stacpull_replicas import MlhubReplica, run_in_thread

COMMAND = str(Path(sys.executable).with_name("stacpull"))
TORCH = os.environ.get("STACPULL_TORCHGEO_PYTHON")
TOOLS = Path(os.environ.get("STACPULL_TOOLS", ".tools"))
MOST_ATTEMPTS = 40
BANDS = 12


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    text: str
    errors: str
    seconds: float
    processor: float
    megabytes: float

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text.splitlines()[-1])
        return found


def run(arguments: Sequence[object], *, kill_after: float | None = None, cwd: Path) -> Finished:
    """Run the command; kill all of its processes after some seconds, if it has not ended by then."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-ISc", _LAUNCHER, COMMAND, *map(str, arguments)],
            stdout=out, stderr=errors, cwd=cwd, start_new_session=True,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )  # fmt: skip
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - started
        out.seek(0)
        errors.seek(0)
        text, messages = out.read().decode(), errors.read().decode()
    if process.returncode == -signal.SIGKILL:
        return Finished(process.returncode, text, messages, seconds, 0, 0)
    text, _, used = text.rstrip().rpartition("\n")
    processor, kilobytes = map(float, used.split())
    return Finished(process.returncode, text, messages, seconds, processor, kilobytes / 1024)


_LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, flush=True)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A small process between, since the peak memory of a command counts that of the process that starts it."""


class Output(NamedTuple):
    """An output: how it is made, and who reads it."""

    name: str
    out: str
    """The name of OUT."""
    arguments: Callable[[Path], list[object]]
    """The command for an OUT."""
    read: Callable[[Path, dict[str, Any]], str]
    """Reads OUT, given the report; returns by what. Raises AssertionError if it is wrong."""
    codes: tuple[int, ...] = (0,)


def contents(path: Path) -> dict[str, str]:
    """Return the digest of each file of an output that has its final name, but of an index in a mirror."""
    if path.is_file():
        return {path.name: digest(path)}
    found = {one.relative_to(path).as_posix(): one for one in path.rglob("*") if one.is_file()}
    return {
        name: digest(one)
        for name, one in found.items()
        if not name.startswith(".stacpull/") and not one.name.startswith(".") and one.name != "items.parquet"
    }


def digest(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".html":
        data = re.sub(rb'"written":"[^"]*"', b"", data)
    elif path.suffix in (".json", ".txt"):
        data = TOKEN.sub(b"", data)  # the replica has other URLs in each answer, as MLHub had
    return hashlib.sha256(data).hexdigest()


class Failed(Exception):  # noqa: N818 - the result of a check
    """An output is not as it should be."""


def accept(output: Output, work: Path, kills: int, moments: random.Random) -> str:
    """Make an output as the module describes.

    Returns:
        What it took and who read it.

    Raises:
        Failed: It is not as it should be.
    """
    calm, killed = work / "calm" / output.out, work / "killed" / output.out
    for path in (calm, killed):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
    first = made(output, calm, work)
    expected = contents(calm)
    # paths in an output depend on where it is, so both are in directories of equal depth
    landed = 0
    for _ in range(MOST_ATTEMPTS):
        moment = moments.uniform(0.05, 0.95) * first.seconds
        ran = run(output.arguments(killed), kill_after=moment, cwd=work)
        for name, found in (contents(killed) if killed.exists() else {}).items():
            if expected.get(name) != found and not (name.endswith(".json") and killed.is_dir()):
                raise Failed(f"after a kill at {moment:.2f} s {name} is not whole")
        if ran.code == -signal.SIGKILL:
            landed += 1
            if landed == kills:
                break
        else:  # it was complete before: begin again
            remove(killed)
    else:
        raise Failed(f"only {landed} kills landed")
    last = made(output, killed, work)
    different = expected.items() ^ contents(killed).items()
    if different:
        raise Failed(f"{min(different)[0]} is different after kills ({len(different)} in all)")
    left = [path.name for path in killed.parent.iterdir() if not path.name.startswith(output.out)]
    if left:
        raise Failed(f"{left} is left")
    try:
        by = output.read(killed, last.report)
    except AssertionError as error:
        raise Failed(f"{error}") from error
    remove(calm)
    remove(killed)
    return (
        f"{landed} kills, {first.seconds:6.1f} s undisturbed, {last.seconds:6.1f} s after them; "
        f"CPU {first.processor:5.1f} s, {first.megabytes:4.0f} MiB; read by {by}"
    )


def made(output: Output, out: Path, work: Path) -> Finished:
    ran = run([*output.arguments(out), "--json"], cwd=work)
    if ran.code not in output.codes:
        raise Failed(f"exit {ran.code}: {ran.errors[-600:]}")
    if "exporting" not in ran.errors and "%" not in ran.errors and not ran.errors:
        raise Failed("it shows no progress")
    return ran


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- readers ------------------------------------------------------------------------------------------------


def has(module: str) -> bool:
    return find_spec(module) is not None


def read_index(out: Path, names: set[str]) -> str:
    """Read items.parquet with every library that is there."""
    table = pq.read_table(out)
    assert set(table.column("id").to_pylist()) == names
    assert table.num_rows == len(names)
    for row in table.slice(0, 5).to_pylist():
        for asset in filter(None, row["assets"].values()):
            if asset["href"].startswith("."):
                data = (out.parent / asset["href"]).read_bytes()
                assert (asset["file:size"], asset["file:checksum"]) == (
                    len(data), "1220" + hashlib.sha256(data).hexdigest(),
                )  # fmt: skip
    by = ["pyarrow"]
    if has("geopandas"):
        import geopandas  # noqa: PLC0415 - may be missing

        frame = geopandas.read_parquet(out)
        assert len(frame) == len(names)
        assert frame.crs.to_authority() == ("OGC", "CRS84")
        by.append("GeoPandas")
    if has("duckdb"):
        import duckdb  # noqa: PLC0415 - may be missing

        found = duckdb.sql(f"SELECT count(DISTINCT id), min(bbox.xmin) FROM '{out}'").fetchall()  # noqa: S608
        assert found[0][0] == len(names)
        by.append("DuckDB")
    if has("stac_geoparquet"):
        from stac_geoparquet.arrow import stac_table_to_items  # noqa: PLC0415 - may be missing

        assert {one["id"] for one in stac_table_to_items(table)} == names
        by.append("stac-geoparquet")
    if has("rustac"):
        import rustac  # noqa: PLC0415 - may be missing

        async def read() -> Any:
            return await rustac.read(str(out))

        assert {one["id"] for one in asyncio.run(read())["features"]} == names
        by.append("rustac")
    return ", ".join(by)


def read_shards(out: Path, samples: int) -> str:
    """Read shards with webdataset, and with a DataLoader of torch in another Python."""
    listed = json.loads((out / "shards.json").read_bytes())
    assert listed["samples"] == samples
    for shard in listed["shards"]:
        assert hashlib.sha256((out / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]
    paths = [str(out / shard["name"]) for shard in listed["shards"]]
    by = ["hashlib"]
    if has("webdataset"):
        from webdataset import tariterators  # noqa: PLC0415 - may be missing

        count = 0
        with ExitStack() as stack:
            shards = [{"url": path, "stream": stack.enter_context(Path(path).open("rb"))} for path in paths]
            for sample in tariterators.group_by_keys(tariterators.tar_file_expander(shards)):
                described = json.loads(sample["json"])
                assert len(described["label_vector"]) == len(listed["classes"])
                count += 1
        assert count == samples
        by.append("webdataset")
    program = (
        "import json, sys, torch, webdataset\n"
        "data = webdataset.WebDataset(json.loads(sys.argv[1]), shardshuffle=False)\n"
        "data = data.to_tuple('json', 'b02.tif')\n"
        "loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=1)\n"
        "count = 0\n"
        "for described, band in loader:\n"
        "    json.loads(described); count += len(band) > 0\n"
        "print(json.dumps(count))"
    )
    found = in_torch(program, json.dumps(paths), modules=("torch", "webdataset"))
    if isinstance(found, str):
        return f"{', '.join(by)} ({found})"
    assert found == samples
    return ", ".join([*by, "a torch DataLoader"])


def in_torch(program: str, *arguments: str, modules: Sequence[str]) -> Any:
    """Run a program in the Python that has torch; return its JSON, or the reason why it was not run."""
    if TORCH is None:
        return "torch skipped: STACPULL_TORCHGEO_PYTHON is not set"
    check = subprocess.run([TORCH, "-c", f"import {', '.join(modules)}"], capture_output=True, check=False)
    if check.returncode:
        return f"torch skipped: {TORCH} has not all of {', '.join(modules)}"
    ran = subprocess.run([TORCH, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]
    return json.loads(ran.stdout.splitlines()[-1])


def read_torchgeo(out: Path, version: int, samples: int) -> str:
    """Read a tree with TorchGeo's class."""
    name = "BigEarthNet" if version == 1 else "BigEarthNetV2"
    if version == 1:
        listed = (out / "bigearthnet-train.csv").read_text().splitlines()
        tree = len(list((out / "BigEarthNet-v1.0").iterdir()))
        assert len(listed) == tree == samples
        sample = "sample = data[0]; print(json.dumps([len(data), *sample['image'].shape]))"
    else:
        assert pq.read_metadata(out / "metadata.parquet").num_rows == samples
        sample = (
            "image = data._load_image(0, 's2'); print(json.dumps([len(data), *image.shape]))"  # it has no map
        )
    program = (
        f"import json, sys\nfrom torchgeo.datasets import {name}\n"
        f"data = {name}(sys.argv[1], split='train', bands='s2')\n{sample}"
    )
    found = in_torch(program, str(out), modules=("torchgeo",))
    if isinstance(found, str):
        return found
    assert found == [samples, BANDS, 120, 120], found
    return f"torchgeo.datasets.{name}"


def read_labels(out: Path, samples: int) -> str:
    """Read a label table."""
    if out.suffix == ".csv":
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(out).to_pylist()
    assert len({row["id"] for row in rows}) == samples
    for row in rows[:20]:
        checksums = json.loads(row["sha256"])
        for key, path in json.loads(row["paths"]).items():
            assert hashlib.sha256((out.parent / path).read_bytes()).hexdigest() == checksums[key]
    return "csv" if out.suffix == ".csv" else "pyarrow"


def read_page(url: str, script: str) -> Any:
    """Open a page in chromium in every look; return the value of an expression. There must be no error."""

    async def opened() -> Any:
        async with opened_page() as page:
            await page.open(url)
            for width in WIDTHS.values():
                for scheme in SCHEMES:
                    await page.look(width, scheme)
                    await asyncio.sleep(0.2)
                    assert not await page.is_too_wide(), (width, scheme)
            found = await page.run(script)
            assert not page.errors, page.errors
            if url.startswith("file:"):
                assert all(one.startswith(("file:", "data:")) for one in page.requests), page.requests
            return found

    return asyncio.run(opened())


def read_report(out: Path, items: int) -> str:
    """Open a report in chromium."""
    if CHROMIUM is None:
        return "nothing (skipped: chromium is not installed)"
    text = read_page(out.as_uri(), "document.body.innerText")
    assert f"{items:,}" in text
    return "chromium, narrow and wide, light and dark, no error in the console"


def read_clips(dest: Path, report: dict[str, Any], whole: Path, area: Any) -> str:
    """Compare clipped rasters with the whole ones, and have them validated."""
    from rasterio.warp import transform_bounds  # noqa: PLC0415 - heavy
    from rasterio.windows import from_bounds  # noqa: PLC0415
    from rio_cogeo.cogeo import cog_validate  # noqa: PLC0415

    names = sorted(dest.rglob("*.tif"))
    assert len(names) == report["assets_clipped"] == len(list(whole.glob("*.tif")))
    for path in names:
        valid, errors, _ = cog_validate(path, quiet=True)
        assert valid, errors
        with rasterio.open(path) as part, rasterio.open(whole / f"{path.parent.name}.tif") as all_of_it:
            bounds = transform_bounds("EPSG:4326", part.crs, *area.bounds)
            one, other = (
                file.read(1, window=from_bounds(*bounds, file.transform).round_offsets().round_lengths())
                for file in (part, all_of_it)
            )
            assert np.array_equal(one, other), path
    return "rasterio (GDAL) and rio-cogeo"


def verified(dest: Path, codes: tuple[int, ...] = (0,)) -> None:
    ran = run(["verify", dest, "--strict", "--json"], cwd=dest.parent)
    assert ran.code in codes, ran.text + ran.errors


def compared(dest: Path, again: Path) -> str:
    """Compare the files of a mirror with those of the mirror that was its source."""
    paths = [path.relative_to(again) for path in again.rglob("*.tif")]
    assert len(paths) == len(list(dest.rglob("*.tif")))
    assert all((dest / path).read_bytes() == (again / path).read_bytes() for path in paths)
    return f"; {len(paths):,} files are those of the first mirror"


def read_mirror(dest: Path, names: set[str], by: str) -> str:
    """Check a mirror, and the index that it keeps, if it does."""
    verified(dest)
    index = dest / "items.parquet"
    if index.exists():
        return f"verify --strict, {read_index(index, names)}{by}"
    return f"verify --strict{by}"


def read_list(listed: Path, dest: Path) -> str:
    """Check that a list has the paths of the files of the mirror."""
    lines = [line.split("\t") for line in listed.read_text().splitlines()]
    assert lines
    assert all(url.startswith("http") and (dest / path).is_file() for url, path in lines)
    return f"{len(lines):,} paths, those of the mirror"


# --- sources ------------------------------------------------------------------------------------------------


def mirror_of_patches(source: str, dest: Path, patches: int) -> None:
    selection = stacpull.Selection(
        collections=("bigearthnet_v1_labels",), exclude_assets=("B10",), max_items=patches
    )
    report = asyncio.run(stacpull.mirror(source, dest, selection=selection, options=stacpull.Options()))
    assert report.exit_code == 0, report


def mirror_of_recordings(data: Path, dest: Path) -> None:
    hub = RealHub(data)

    async def mirrored() -> None:
        runner = web.AppRunner(hub.application())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        await asyncio.to_thread(hub.listen_at, f"http://127.0.0.1:{port}")
        await stacpull.mirror(f"{hub.url}{ITEMS_PATH}?key={KEY}", dest, options=stacpull.Options())
        await runner.cleanup()

    asyncio.run(mirrored())


@contextmanager
def rasters_at_nginx(work: Path, count: int) -> Iterator[tuple[Path, str] | None]:
    """Serve COGs of a fifth of a Sentinel-2 band; None if nginx is not installed."""
    if shutil.which("nginx") is None:
        yield None
        return
    from tests.servers.nginx import nginx  # noqa: PLC0415 - it skips where nginx is missing

    whole = work / "whole"
    whole.mkdir()
    with nginx(work) as server:
        features = []
        for number in range(count):
            scratch = work / "scratch"
            scratch.mkdir(exist_ok=True)
            where = rasterio.Affine(10, 0, 300_000, 0, -10, 5_200_020)
            data = raster(
                scratch, size=(2196, 2196), transform=where, tile=512, compress="deflate", predictor=2
            )
            (whole / f"i{number}.tif").write_bytes(data)
            features.append(
                {
                    "type": "Feature", "stac_version": "1.0.0", "id": f"i{number}", "collection": "s2",
                    "links": [], "geometry": {"type": "Point", "coordinates": [7, 46]},
                    "properties": {"datetime": f"2024-06-{number % 28 + 1:02}T00:00:00Z"},
                    "assets": {"nir": {"href": f"{server.url}/files/{server.put(f'i{number}.tif', data)}",
                                       "type": "image/tiff; application=geotiff"}},
                }
            )  # fmt: skip
        source = work / "items.ndjson"
        source.write_text("".join(json.dumps(one) + "\n" for one in features))
        yield whole, str(source)


def ids_of(dest: Path) -> set[str]:
    return {path.parent.name for path in dest.glob("*/*/*.json") if path.stem == path.parent.name}


def outputs_of(dest: Path, samples: int, *, has_labels: bool) -> Iterator[Output]:
    """Yield what `export` and `report` make of a mirror, and mirrors of its index."""
    names = ids_of(dest)

    def export(form: str, *more: str) -> Callable[[Path], list[object]]:
        return lambda out: ["export", dest, out, "-f", form, *more]

    yield Output("items.parquet", "items.parquet", export("geoparquet"), lambda o, _: read_index(o, names))
    size = "20M" if samples > 500 else "2M"
    yield Output(
        "webdataset",
        "shards",
        export("webdataset", "--shard-size", size),
        lambda o, _: read_shards(o, samples),
    )
    for form in ("csv", "parquet"):
        yield Output(f"labels, {form}", f"labels.{form}", export(form), lambda o, _: read_labels(o, samples))
    if has_labels:
        for version in (1, 2):

            def read_tree(out: Path, _: Any, version: int = version) -> str:
                return read_torchgeo(out, version, samples)

            yield Output(f"TorchGeo v{version}", "tree", export(f"torchgeo-v{version}"), read_tree)
    yield Output(
        "report", "a.html", lambda o: ["report", dest, "-o", o], lambda o, _: read_report(o, len(names))
    )
    index = dest.parent / "index.parquet"
    run(["export", dest, index], cwd=dest.parent)
    yield Output(
        "items.parquet as SOURCE", "again",
        lambda o: ["mirror", index, o, "--no-source-links", "--exclude-asset", "B10"],
        lambda o, _: read_mirror(o, names, compared(dest, o)),
        (0, 1),
    )  # fmt: skip


def outputs_of_source(url: str, patches: int) -> Iterator[Output]:
    """Yield what is made while a source is there."""
    narrow = ["-C", "bigearthnet_v1_labels", "--exclude-asset", "B10"]
    few = [*narrow, "--max-items", str(max(1, patches // 10))]
    yield Output(
        "mirror --items-parquet", "kept", lambda o: ["mirror", url, o, *few, "--items-parquet"],
        lambda o, _: read_mirror(o, ids_of(o), ""),
    )  # fmt: skip


def outputs_of_rasters(source: str, whole: Path) -> Iterator[Output]:
    """Yield what is made of rasters at nginx."""
    area = degrees(rasterio.crs.CRS.from_epsg(32632), (304_000, 5_186_000, 311_500, 5_195_000))
    clip = ",".join(map(str, area.bounds))
    yield Output(
        "mirror --clip", "town", lambda o: ["mirror", source, o, "--clip", clip, "--allow-private-hosts"],
        lambda o, report: read_clips(o, report, whole, area),
    )  # fmt: skip
    yield Output(
        "headers", "headers.parquet",
        lambda o: ["headers", source, "-o", o, "--allow-private-hosts"],
        lambda o, _: f"pyarrow: {pq.read_metadata(o).num_rows} rows",
    )  # fmt: skip
    dest = whole.parent / "mirror"
    run(["mirror", source, dest, "--allow-private-hosts"], cwd=whole.parent)
    yield Output(
        "plan --urls", "urls.tsv",
        lambda o: ["plan", source, "--urls", "-o", o, "--allow-private-hosts"],
        lambda o, _: read_list(o, dest),
    )  # fmt: skip


def dashboard(url: str, work: Path) -> str:
    """Open the dashboard of a mirror in chromium while the mirror runs, which is killed and continued."""
    if CHROMIUM is None:
        return "skipped: chromium is not installed"
    dest = work / "watched"
    kills = 3
    for _ in range(kills + 1):
        process = subprocess.Popen(
            [COMMAND, "mirror", url, str(dest), "-C", "bigearthnet_v1_labels", "--exclude-asset", "B10",
             "--dashboard", "0", "--no-progress", "--limit-rate", "300k"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        shown = ""
        while not shown:
            shown = process.stderr.readline().decode().partition("dashboard: ")[2].strip()
        try:
            text = read_page(shown, "document.body.innerText")
            assert "127.0.0.1" in text, text
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.stderr.close()
            process.wait()
    shutil.rmtree(dest)
    return f"{kills} kills; read by chromium, narrow and wide, light and dark, no error in the console"


def main() -> int:
    """Make all of it, and print a line for each output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=2000, help="patches in the mirror of MLHub (2000)")
    parser.add_argument("--kills", type=int, default=3, help="of each output (3)")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="recordings (../shared/data)"
    )
    parser.add_argument("--only", default="", help="only the outputs whose names contain this")
    parser.add_argument("--seed", type=int, default=7, help="of the moments (7)")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    moments, failed = random.Random(given.seed), list[str]()

    def judge(title: str, make: Callable[[], str]) -> None:
        if given.only not in title:
            return
        try:
            line = f"ok      {title:<34} {make()}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are made
            failed.append(title)
            line = f"FAILED  {title:<34} {type(error).__name__} {error}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def judge_all(of: str, outputs: Iterator[Output], work: Path) -> None:
        for output in outputs:
            judge(f"{of}: {output.name}", lambda output=output: accept(output, work, given.kills, moments))

    with tempfile.TemporaryDirectory(prefix="stacpull-outputs-") as folder, ExitStack() as opened:
        work = Path(folder).resolve()
        replica = opened.enter_context(run_in_thread(MlhubReplica(items=given.patches)))
        os.environ.update(replica.exports())
        mirror_of_patches(replica.base_url, work / "patches", given.patches)
        judge_all("patches", outputs_of(work / "patches", given.patches, has_labels=True), work)
        judge_all("source", outputs_of_source(replica.base_url, given.patches), work)
        judge("source: mirror --dashboard", lambda: dashboard(replica.base_url, work))
        with rasters_at_nginx(work, 12) as served:
            if served is None:
                sys.stdout.write("skipped rasters: nginx is not installed\n")
            else:
                whole, source = served
                judge_all("rasters", outputs_of_rasters(source, whole), work)
        if (given.data / "mlhub").is_dir():
            mirror_of_recordings(given.data, work / "recorded")
            judge_all("recorded", outputs_of(work / "recorded", 60, has_labels=False), work)
        else:
            sys.stdout.write(f"skipped the sixty recorded items: {given.data} has none\n")
    sys.stdout.write(f"{len(failed)} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
