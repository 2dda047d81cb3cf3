"""`export`: one function for all formats."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

from msgspec.structs import replace

from stacpull import entry_points
from stacpull.arguments import ValueReader, choice, integer, or_default, read_byte_count, read_ids, read_texts
from stacpull.config.options import Options
from stacpull.config.toml import Setting
from stacpull.dest_address import DestAddress, resolve_dest
from stacpull.errors import InterruptedRunError, StacpullError, UsageError, destination_errors
from stacpull.events import Listener, Stage
from stacpull.filters.item_filters import IdsFilter
from stacpull.filters.labels import NOMENCLATURES
from stacpull.threads import StoppableExecutor
from stacpull_export.atomic_file import output_path
from stacpull_export.formats import GROUP, ExportReport, Format, require_pyarrow
from stacpull_export.mirrored_items import open_contents
from stacpull_export.tables import refuse_directory
from stacpull_export.training_samples import SampleOptions, split_of


async def export(
    dest: str | Path,
    out: str | Path,
    format: str = "geoparquet",  # noqa: A002 - the option is --format
    *,
    collections: Sequence[str] | str = (),
    splits: Mapping[str, Sequence[str] | Path] | None = None,
    nomenclature: str | None = None,
    label_property: str | None = None,
    shard_bytes: int | None = None,
    shard_samples: int | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> ExportReport:
    """Export the mirror at `dest` as an index, training shards, a TorchGeo tree or a label table.

    The mirror is only read, and a run may be active. Each file appears when it is complete, and its directory
    is created. If an export to `webdataset` was stopped or killed, run it again: complete shards are kept.

    Args:
        dest: The mirror: a directory, or a bucket.
        out: A file; for "webdataset" and the formats of TorchGeo, a directory.
        format: "geoparquet" (an index of the items), "webdataset", "torchgeo-v1", "torchgeo-v2", or "csv" or
            "parquet" (a table of labels).
        collections: Export only items of these collections.
        splits: The ids of each split, or their endings, or a file of them: `{"train": Path("train.csv")}`.
            Other items are left out.
        nomenclature: As in `Selection`.
        label_property: As in `Selection`.
        shard_bytes: Bytes per shard at most, unless one sample is larger. The default is 10**9.
        shard_samples: Put at most this many samples in a shard.
        options: As for `status`.
        on_event: Called with `Stage` and `Notice`.
        stop: Set it to end gracefully.
    """
    form: Format | None = await asyncio.to_thread(entry_points.load, GROUP, format)
    if form is None:
        known = ", ".join(entry_points.names(GROUP))
        raise UsageError(f"{format!r} is not a format of export: use {known}.")
    chosen = Setting(collections, "collections").read(read_texts)
    arguments: dict[str, tuple[object, ValueReader]] = {
        "nomenclature": (nomenclature, choice(*NOMENCLATURES)),
        "shard_bytes": (shard_bytes, read_byte_count),
        "shard_samples": (shard_samples, integer(1)),
    }
    given = {n: Setting(value, n).read(read) for n, (value, read) in arguments.items() if value is not None}
    samples = SampleOptions(chosen, _read_splits(splits), given.pop("nomenclature", None), label_property)
    if given and format != "webdataset":
        raise UsageError("Sizes of shards and --shard-samples are for the format webdataset.")
    thread = StoppableExecutor(stop)

    def write() -> ExportReport:
        address = resolve_dest(dest, or_default("options", Options, options))
        return _export(address, output_path(out), format, form, samples, given, on_event, thread.is_stopped)

    return await thread.run(write)


def _read_splits(splits: Mapping[str, Sequence[str] | Path] | None) -> dict[str, tuple[str, ...]]:
    if not isinstance(splits, Mapping | None):
        raise UsageError(f"splits must be a dict of names and lists of ids, not {type(splits).__name__}.")
    return {name: Setting(ids, f"splits[{name!r}]").read(read_ids) for name, ids in (splits or {}).items()}


def _check_suffix(path: Path, name: str, form: Format) -> None:
    suffix = path.suffix.lower()
    if suffix not in form.suffixes:
        forms = {other: entry_points.require(GROUP, other, "export") for other in entry_points.names(GROUP)}
        if suffix and (fits := [n for n, other in forms.items() if suffix in other.suffixes]):
            raise UsageError(f"{path} needs --format {' or '.join(fits)}: {name} writes {form.suffixes[0]}.")
        begin = f"For {name}, {path} must end with {form.suffixes[0]}; other formats are "
        raise UsageError(f"{begin}{', '.join(forms)}: choose one with --format.")


def _export(
    dest: DestAddress,
    out: Path,
    name: str,
    form: Format,
    options: SampleOptions,
    shards: Mapping[str, int],
    on_event: Listener | None,
    is_stopped: Callable[[], bool],
) -> ExportReport:
    if form.needs_directory and dest.bucket is not None:
        raise UsageError(f"{name} needs a mirror in a directory, and the files are in {dest.shown}.")
    with destination_errors(out), open_contents(dest, on_event) as contents:
        if form.suffixes:
            _check_suffix(out, name, form)
            refuse_directory(out)
        elif out.suffix == ".tar":
            raise UsageError(f"{name} writes a directory of files: use a name without .tar, not {out}.")
        if form.needs_pyarrow:
            require_pyarrow(name)
        contents.refuse_inside(out)
        if unknown := set(options.collections) - contents.collections.keys():
            known = ", ".join(contents.collections)
            raise UsageError(f"The mirror has no collection {min(unknown)}; there are: {known}.")
        names = contents.names(options.collections, linked=name == "geoparquet")
        total = None
        if not options.splits:
            total = sum(1 for _ in names)
        else:
            checks = {split: IdsFilter(ids) for split, ids in options.splits.items()}
            if {split_of(item, checks) is None for item in names} == {True}:
                raise UsageError("The mirror has none of the items in the splits: check their ids.")
        if next(contents.items(options.collections), None) is None and contents.unreadable:
            raise StacpullError(f"Nothing was exported. {contents.notes()[-1]}")
        out.parent.mkdir(parents=True, exist_ok=True)

        def on_progress(items: int, stage: str = "exporting") -> None:
            if is_stopped():
                raise InterruptedRunError("Interrupted: for the missing files, run the same command again.")
            if on_event is not None:
                on_event(Stage(stage, items, total))

        write: Callable[..., ExportReport] = resolve_name(form.writer)
        report = write(contents, out, options, on_progress, **shards)
        left_out = "items_failed" if contents.is_complete else "items_missing"
        return replace(report, **{left_out: contents.unreadable})
