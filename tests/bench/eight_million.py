"""The command behind scripts/eight-million: simulate a mirror of eight million files from end to end.

    scripts/eight-million                    8,000,000 files, in most of an hour
    scripts/eight-million --assets 500000    fewer

The walk, filters, planning, pool, checks of responses, store process, publisher and ledger are the real ones.
Only the servers (`simulated_source.py`) and the files in DEST (`simulated_store.py`) are simulated. Each step
runs in its own process, so that its memory can be measured. Exits with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self
from unittest import mock

from tests.bench.curve_plot import Curve, plot
from tests.bench.simulated_patches import API, ASSETS, LABELS, Patches

STEPS = ("mirror", "again", "status", "plan", "verify", "prune")
_ROOT = Path(__file__).parents[2]
_FEWEST = 500
"""Fewer assets do not have the proportions of the whole dataset."""
_ROW = 100_000
_STEPS_AT_LEAST = 10
"""The curve has at least this many rows."""
_GONE = 1000
"""Before `prune`, one patch in 1000 is removed from the source."""
_SAMPLED_EVERY = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Bounds:
    """The limits that a run is checked against."""

    memory_mb: float = 130
    """Both processes together, at any time and in any step."""
    growth: float = 1.10
    """The last tenth of the mirror divided by the first (CPU per asset) or the second (memory)."""
    ledger_bytes: float = 150
    """Bytes per asset when the mirror is finished."""
    judged_from: int = 1_000_000
    """With fewer assets, growth is noise and the ledger mostly free pages: neither is checked."""


@dataclass
class Row:
    """The cost of 100,000 assets: CPU in µs per asset, memory in MB, ledger in bytes per asset."""

    assets: int
    cpu_us: float
    network_us: float
    store_us: float
    simulation_us: float
    """The part of `network_us` that generated pages and files."""
    memory_mb: float
    network_rss_mb: float
    store_rss_mb: float
    ledger_bytes: float
    wall_s: float


class Yardstick:
    """Measures the speed of the machine during a run, as the CPU time of a fixed piece of work.

    On a shared machine the same instructions take up to twice as long while other programs fill the caches.
    """

    def __init__(self) -> None:
        self._found: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        item = {f"B{number:02}": {"href": f"{API}/{number}", "size": number} for number in range(60)}
        body = bytes(30_000)
        while not self._ended.wait(_SAMPLED_EVERY):
            began = time.thread_time()
            for _ in range(20):
                text = json.dumps(item)
                sorted(json.loads(text).items())
                hashlib.sha256(body).digest()
            self._found.append(time.thread_time() - began)

    def take(self) -> float:
        """Return the median seconds of the work since the last call."""
        import statistics  # noqa: PLC0415 -- takes 2 MB, and a step does not need it

        found, self._found = self._found, []
        return statistics.median(found or [math.nan])


# --- measuring in the process of a step -------------------------------------------------------------------


class _Reading(NamedTuple):
    assets: int
    wall: float
    network: float
    store: float
    simulation: float


class Meter:
    """Measures this process and the store process that it starts."""

    def __init__(self) -> None:
        self.store: int | None = None
        self.simulation: Callable[[], float] = lambda: 0.0
        self.most_memory = 0.0
        self._store_cpu = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLED_EVERY):
            self.memory()

    def memory(self) -> float:
        """Return the memory of both processes in MB, and count shared pages once.

        This is the private memory of both plus the larger of their shared parts. Unlike the sum of
        proportional sizes, it does not depend on the other processes of the machine.
        """
        found = [_parts(pid) for pid in self._processes()]
        used = sum(private for private, _ in found) + max(shared for _, shared in found)
        self.most_memory = max(self.most_memory, used)
        return used

    def resident(self) -> tuple[float, float]:
        """Return the resident sets of both processes in MB."""
        found = [_resident(pid) for pid in self._processes()]
        return found[0], found[1] if len(found) > 1 else 0.0

    def _processes(self) -> list[int]:
        return [os.getpid(), *([] if self.store is None else [self.store])]

    def store_cpu(self) -> float:
        """Return the CPU seconds of the store process so far."""
        try:
            if self.store is not None:
                fields = Path(f"/proc/{self.store}/stat").read_text().rpartition(")")[2].split()
                self._store_cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        except OSError:  # it has ended and was waited for
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.store, self._store_cpu = None, used.ru_utime + used.ru_stime
        return self._store_cpu

    def read(self, assets: int) -> _Reading:
        return _Reading(assets, time.perf_counter(), time.process_time(), self.store_cpu(), self.simulation())


def _parts(pid: int) -> tuple[float, float]:
    """Return the private and the shared resident memory of a process in MB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    sizes = {
        name: int(rest.split()[0]) for name, rest in re.findall(r"^(\w+): *(\d+ kB)", text, re.MULTILINE)
    }
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return private * 1024 / 1e6, (sizes["Rss"] - private) * 1024 / 1e6


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
    except OSError:
        return 0.0


@dataclass
class _CurveMeter:
    """Turns the progress of a run into rows."""

    meter: Meter
    ledger: Path
    step: int
    on_row: Callable[[Row], None]
    started: _Reading
    """Before the run."""
    began: _Reading | None = None
    """At the start of the current row."""
    before: _Reading | None = None
    """At the previous progress event."""
    rows: list[Row] = field(default_factory=list)

    def take(self, done: int, *, is_end: bool) -> None:
        """Handle a progress event. `is_end` marks the one after the catalogs are written."""
        now = self.meter.read(done)
        if self.began is None:
            self.began = self.started if is_end else now
        if is_end:
            if self.before is not None and self.before.assets - self.began.assets > self.step / 2:
                self._row(self.before)
            elif not self.rows:  # all assets arrived at once
                self._row(now)
        elif done - self.began.assets >= self.step:
            self._row(now)
        if not is_end:
            self.before = now

    def _row(self, now: _Reading) -> None:
        before = self.began
        if before is None or now.assets == before.assets:
            return
        assets = now.assets - before.assets
        network, store = now.network - before.network, now.store - before.store
        rss = self.meter.resident()
        row = Row(
            now.assets,
            (network + store) / assets * 1e6,
            network / assets * 1e6,
            store / assets * 1e6,
            (now.simulation - before.simulation) / assets * 1e6,
            self.meter.memory(),
            *rss,
            self.ledger.stat().st_size / now.assets,
            now.wall - before.wall,
        )
        self.began = now
        self.rows.append(row)
        self.on_row(row)


# --- the steps --------------------------------------------------------------------------------------------


@contextmanager
def _simulated(patches: Patches, meter: Meter) -> Iterator[None]:
    """Replace HTTPS and DEST in this process and in its store process."""
    from tests.bench.simulated_source import (  # noqa: PLC0415 -- the parent process does not need it
        SimulatedFastPath,
        SimulatedHttps,
    )
    from tests.bench.simulated_store import SimulatedStore  # noqa: PLC0415

    from stacpull import child_process  # noqa: PLC0415
    from stacpull.engine import fetching, store_client  # noqa: PLC0415
    from stacpull.schemes import SCHEMES  # noqa: PLC0415
    from stacpull.store import store_choice  # noqa: PLC0415

    https = SimulatedHttps(patches)
    meter.simulation = lambda: https.sent.seconds

    def spawn(_module: str, arguments: Sequence[str]) -> child_process.Started:
        del arguments
        started = child_process.spawn("tests.bench.simulated_store")
        meter.store = started[0].pid
        return started

    def fast_path(client: Any, _web: object, fetcher: Any, pool: Any) -> SimulatedFastPath:
        return SimulatedFastPath(https.sent, fetcher, pool, client.counters)

    with (
        mock.patch.dict(SCHEMES, https=https),
        mock.patch.object(fetching, "FastPath", fast_path),
        mock.patch.object(store_client, "spawn", spawn),
        mock.patch.multiple(store_choice, LocalStore=SimulatedStore, DirectoryFiles=SimulatedStore),
    ):
        yield


def run_step(step: str, dest: Path, assets: int, say: Callable[[dict[str, Any]], None]) -> None:
    """Run a step in this process and pass its rows and figures to `say`."""
    import stacpull  # noqa: PLC0415 -- the parent process does not need it
    from stacpull.events import Event, Progress, RunEnded  # noqa: PLC0415
    from stacpull.ledger.database import ledger_path  # noqa: PLC0415
    from stacpull.runtime import run_on_loop  # noqa: PLC0415

    patches = Patches.of(assets)
    if step == "prune":
        patches = Patches(assets, patches.items - max(1, patches.items // _GONE))
    selection = stacpull.Selection(
        collections=(LABELS,),
        datetime="2017-06/2018-06",
        exclude_labels=("Land cover class 44",),
        exclude_assets=("B8B",),
        push_down=False,
    )
    meter = Meter()
    curve = _CurveMeter(
        meter,
        ledger_path(dest),
        min(_ROW, max(1, assets // _STEPS_AT_LEAST)),
        lambda row: say({"row": asdict(row)}),
        meter.read(0),
    )
    ended = [False]

    def on_event(event: Event) -> None:
        if isinstance(event, Progress) and step == "mirror":
            is_end = event.walk_ended and not event.assets_pending
            if not ended[0]:
                curve.take(event.assets_done, is_end=is_end)
            ended[0] = ended[0] or is_end
        elif not isinstance(event, Progress | RunEnded):
            print(event, file=sys.stderr)  # noqa: T201

    options = stacpull.Options(prune=step == "prune", yes=step == "prune")

    def run_command() -> Any:
        if step == "status":
            return stacpull.status(dest)
        if step == "plan":
            return run_on_loop(stacpull.plan(API, dest, selection=selection))
        if step == "verify":
            return run_on_loop(stacpull.verify(dest, quick=True, strict=True))
        return run_on_loop(
            stacpull.mirror(API, dest, selection=selection, options=options, on_event=on_event)
        )

    with _simulated(patches, meter), meter:
        began, seconds = meter.read(0), time.perf_counter()
        report = run_command()
        ended_at = meter.read(0)
        meter.memory()
        seconds = time.perf_counter() - seconds
    cpu = ended_at.network - began.network
    say(
        {
            "step": step,
            "wall_s": seconds,
            "network_s": cpu,
            "store_s": ended_at.store - began.store,
            "simulation_s": ended_at.simulation - began.simulation,
            "memory_mb": meter.most_memory,
            "ledger_bytes": ledger_path(dest).stat().st_size,
            "report": {name: value for name, value in vars_of(report).items() if isinstance(value, int)},
        }
    )


def vars_of(report: Any) -> dict[str, Any]:
    """Return the fields of a report by name."""
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


# --- the command ------------------------------------------------------------------------------------------


@dataclass
class Result:
    """All figures of a measurement."""

    assets: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def broken(self, bounds: Bounds) -> list[str]:
        """Return a sentence for each bound that is exceeded."""
        found = []
        for name, step in self.steps.items():
            if step["memory_mb"] >= bounds.memory_mb:
                most = f"the bound is {bounds.memory_mb:.0f} MB"
                found.append(f"{name} took {step['memory_mb']:.0f} MB of memory: {most}.")
            if wrong := _wrong(name, step["report"], self.assets):
                found.append(f"{name}: {wrong}.")
        if self.assets < bounds.judged_from:
            return found
        ledger = self.steps["mirror"]["ledger_bytes"] / self.assets
        if ledger > bounds.ledger_bytes:
            most = f"the bound is {bounds.ledger_bytes:.1f} B"
            found.append(f"The ledger has {ledger:.1f} B per asset: {most}.")
        for what, growth in self.growth().items():
            if growth > bounds.growth:
                found.append(
                    f"{what} grew by {growth - 1:.0%} over the mirror: the bound is {bounds.growth - 1:.0%}."
                )
        return found

    def growth(self) -> dict[str, float]:
        """Return the median of the last tenth of the curve over that of the first (memory: the second)."""
        import statistics  # noqa: PLC0415 -- as above

        tenth = max(1, len(self.rows) // 10)

        def median(name: str, part: int) -> float:
            rows = self.rows[part * tenth : (part + 1) * tenth] if part >= 0 else []
            return float(statistics.median(row[name] for row in rows or self.rows[-tenth:]))

        return {
            "CPU per asset": median("cpu_us", -1) / median("cpu_us", 0),
            "Memory": median("memory_mb", -1) / median("memory_mb", 1),
        }


def _wrong(step: str, report: dict[str, int], assets: int) -> str | None:
    """Return what is wrong in the report of a step, None if nothing."""
    patches = Patches.of_all(assets)
    gone = max(1, patches // _GONE)
    expected = {
        "mirror": {"assets_done": assets, "assets_failed": 0, "items_matched": patches},
        "again": {"assets_done": assets, "assets_skipped": assets, "assets_failed": 0},
        "status": {"assets_done": assets, "assets_pending": 0, "assets_failed": 0},
        "plan": {"items_matched": patches, "source_items": patches},
        "verify": {"missing": 0, "short": 0, "altered": 0, "obstructed": 0, "unknown": 0},
        "prune": {"items_pruned": 2 * gone, "assets_failed": 0},
    }[step]
    for name, value in expected.items():
        if report[name] != value:
            return f"{name} is {report[name]:,}, not {value:,}"
    if step == "verify" and report["files"] < assets + 2 * patches:
        return f"only {report['files']:,} files were checked"
    return None


def measure(assets: int, dest: Path, say: Callable[[str, Result], None]) -> Result:
    """Run all steps, each in its own process.

    Raises:
        subprocess.CalledProcessError: A step failed.
    """
    from tests.bench.simulated_store import make_bits  # noqa: PLC0415 -- imports much

    make_bits(dest, assets)
    result = Result(assets)
    with Yardstick() as yardstick:
        for step in STEPS:
            _measure_step(step, dest, result, yardstick, say)
    return result


def _measure_step(
    step: str, dest: Path, result: Result, yardstick: Yardstick, say: Callable[[str, Result], None]
) -> None:
    assets = result.assets
    command = [sys.executable, "-m", __spec__.name, "--step", step]
    command += ["--keep", str(dest), "--assets", str(assets)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        for line in process.stdout or ():
            found = json.loads(line)
            if "row" in found:
                found["row"]["machine_s"] = yardstick.take()
                result.rows.append(found["row"])
                say(_row_line(found["row"], assets), result)
            else:
                result.steps[step] = found
                say(_step_line(found, assets), result)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _row_line(row: dict[str, Any], assets: int) -> str:
    return (
        f"{row['assets']:>10,} of {assets:,}  {row['cpu_us']:6.1f} µs (network {row['network_us']:.1f}, "
        f"of it simulation {row['simulation_us']:.1f}; store {row['store_us']:.1f})  "
        f"{row['memory_mb']:6.1f} MB (RSS {row['network_rss_mb']:.1f} + {row['store_rss_mb']:.1f})  "
        f"{row['ledger_bytes']:6.1f} B  {row['wall_s']:.1f} s  {row['machine_s'] * 1e3:.2f} ms"
    )


def _step_line(step: dict[str, Any], assets: int) -> str:
    cpu = step["network_s"] + step["store_s"]
    return (
        f"{step['step']:>10}  {step['wall_s']:8.1f} s  {cpu:8.1f} s of CPU, "
        f"{cpu / assets * 1e6:.1f} µs per asset (simulation {step['simulation_s'] / assets * 1e6:.1f})  "
        f"{step['memory_mb']:6.1f} MB  {step['ledger_bytes'] / assets:6.1f} B"
    )


def drawn(result: Result) -> str:
    """Return the curve as SVG."""
    assets = [row["assets"] / 1e6 for row in result.rows]
    curves = [
        Curve("CPU per asset, µs", [row["cpu_us"] for row in result.rows]),
        Curve(
            "resident memory of both processes, added, MB",
            [row["network_rss_mb"] + row["store_rss_mb"] for row in result.rows],
        ),
        Curve("ledger per asset, bytes", [row["ledger_bytes"] for row in result.rows]),
    ]
    return plot(assets, curves, "million assets")


def main(given: Sequence[str] | None = None, bounds: Bounds | None = None) -> int:
    """Measure, print the curve, and return the exit code: 1 if a bound is exceeded."""
    parser = argparse.ArgumentParser(
        prog="scripts/eight-million", description="Simulate a mirror of eight million files from end to end."
    )
    parser.add_argument("--assets", type=int, default=ASSETS, metavar="N", help="number of files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the curve to FILE as an SVG image")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the ledger in DIR (must be empty)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args(given)
    if not _FEWEST <= args.assets <= ASSETS:
        parser.error(f"--assets must be between {_FEWEST} and {ASSETS:,}")
    if args.step is not None:
        run_step(args.step, args.keep, args.assets, lambda found: print(json.dumps(found), flush=True))  # noqa: T201
        return 0
    if args.keep is not None and args.keep.exists() and any(args.keep.iterdir()):
        parser.error(f"{args.keep} is not empty")

    def say(text: str, result: Result) -> None:
        print(text, flush=True)  # noqa: T201
        if args.json is not None:  # also if the run is interrupted later
            args.json.write_text(json.dumps(asdict(result), indent=1) + "\n")

    with tempfile.TemporaryDirectory(prefix="eight-million-") as place:
        result = measure(args.assets, args.keep or Path(place), say)
    bounds = bounds or Bounds()
    broken = result.broken(bounds)
    growth = result.growth()
    first, last = result.rows[0]["cpu_us"], result.rows[-1]["cpu_us"]
    print(f"CPU per asset: {first:.1f} µs at first, {last:.1f} at the end ({last / first:.2f} times)")  # noqa: T201
    print(", ".join(f"{what}, last tenth: {value:.2f} times" for what, value in growth.items()))  # noqa: T201
    if args.json is not None:
        figures = {**asdict(result), "growth": growth, "broken": broken}
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    if args.svg is not None:
        args.svg.write_text(drawn(result))
    for sentence in broken:
        print(f"BROKEN: {sentence}", file=sys.stderr)  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
