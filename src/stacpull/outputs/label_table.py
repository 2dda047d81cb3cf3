"""Label tables: one row per sample, as CSV or Parquet.

Columns: `id`, `collection`, `split`, `datetime`, `cloud_and_shadow`, `seasonal_snow`, `labels` (a list), one
column per class with 1 or 0 (named as the class), `paths` and `sha256` (objects by asset key). Paths are
relative to the directory of the table. Lists and objects are JSON text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stacpull.catalog.tables import Column, check_table, write_table
from stacpull.filters.properties import read_flag
from stacpull.outputs.export_report import ExportReport
from stacpull.outputs.mirrored_items import MirrorContents
from stacpull.outputs.training_samples import SampleOptions, Samples

_FLAGS = ("cloud_and_shadow", "seasonal_snow")
_COLUMNS = (
    Column("id"), Column("collection"), Column("split"), Column("datetime"),
    *(Column(name, "boolean") for name in _FLAGS),
    Column("labels", "json"), Column("paths", "json"), Column("sha256", "json"),
)  # fmt: skip


def export_labels(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: Callable[[int], None]
) -> ExportReport:
    """Write the label table of a mirror to `out`; its suffix decides between `.csv` and `.parquet`.

    Raises:
        UsageError: The suffix is not known, pyarrow is missing, or an item is in two splits.
        DestinationError: `out` cannot be written; what was there is unchanged.
    """
    check_table(out)
    samples = Samples(contents, options)
    classes = [Column(name, "integer") for name in samples.classes]
    prefix = os.path.relpath(contents.dest.resolve(), out.parent.resolve())
    count = 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal count
        for sample in samples:
            properties = sample.item.document.get("properties") or {}
            count += 1
            on_progress(count)
            yield (
                sample.item.id,
                sample.item.collection,
                sample.split or None,
                properties.get("datetime"),
                *(read_flag(properties.get(name)) for name in _FLAGS),
                list(sample.labels),
                {file.key: os.path.normpath(os.path.join(prefix, file.path)) for file in sample.files},  # noqa: PTH118
                {file.key: file.sha256 for file in sample.files if file.sha256},
                *samples.vector(sample),
            )

    write_table(out, (*_COLUMNS, *classes), rows())
    return ExportReport(count, (out.name,), out.stat().st_size, samples.notes())
