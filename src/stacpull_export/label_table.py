"""Label tables: one row per sample, as CSV or Parquet.

Columns: `id`, `collection`, `split`, `datetime`, `cloud_and_shadow`, `seasonal_snow`, `labels` (a list), one
column per class with 1 or 0 (named as the class, with `label:` in front if another column has its name),
`paths` and `sha256` (objects by asset key). Paths are relative to the directory of the table, or URLs if DEST
is a bucket. Objects are JSON text, and so are lists in CSV.

The first pass over the items finds the classes, the second one makes the rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stacpull.filters.item_filters import read_boolean
from stacpull_export.formats import ExportReport, OnProgress
from stacpull_export.mirrored_items import MirrorContents
from stacpull_export.tables import Column, write_table
from stacpull_export.training_samples import SampleOptions, Samples

_FLAGS = ("cloud_and_shadow", "seasonal_snow")
_COLUMNS = (
    Column("id"), Column("collection"), Column("split"), Column("datetime"),
    *(Column(name, "boolean") for name in _FLAGS),
    Column("labels", "texts"), Column("paths", "json"), Column("sha256", "json"),
)  # fmt: skip


def export_labels(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress
) -> ExportReport:
    href_of = contents.hrefs_from(out.parent)
    samples = Samples(contents, options, on_progress)
    taken = {column.name for column in _COLUMNS}  # readers may ignore case, and refuse equal names
    classes = [_class_column(name, taken) for name in samples.classes]

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, sample in enumerate(samples, 1):
            properties = sample.item.document["properties"]
            time = properties.get("datetime")
            flags = [properties.get(name) for name in _FLAGS]
            yield (
                sample.item.id,
                sample.item.collection,
                sample.split or None,
                time if isinstance(time, str) else None,
                *(None if flag is None else read_boolean(flag) for flag in flags),
                list(sample.labels),
                {file.key: href_of(file.path) for file in sample.files},
                {file.key: file.sha256 for file in sample.files if file.sha256},
                *samples.vector(sample),
            )
            on_progress(number)

    write_table(out, (*_COLUMNS, *classes), rows())
    return samples.report((out.name,), out.stat().st_size)


def _class_column(name: str, taken: set[str]) -> Column:
    while name.casefold() in taken:
        name = f"label:{name}"
    taken.add(name.casefold())
    return Column(name, "integer")
