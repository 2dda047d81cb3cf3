"""The formats of `export`: a format is a module of `outputs` and an entry of `FORMATS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol


class OnProgress(Protocol):
    """Called with the progress of an export."""

    def __call__(self, items: int, stage: str = ..., /) -> None:
        """Take the number of items so far, and what is done with them. Raises to stop the export."""
        ...


class Format(NamedTuple):
    """A format of `export`."""

    writer: str
    """Module and name of the function that writes it, which is imported when it is used.

    Its arguments are the mirror (`MirrorContents`), OUT, `SampleOptions` and an `OnProgress`. It returns an
    `ExportReport`, and may read the items with a `Spool`, so that an export that was killed is continued.
    """
    help: str
    """What it is, for the help of the command."""
    needs_pyarrow: bool = False
    needs_directory: bool = False
    """True if it cannot be made from a mirror whose files are in a bucket."""
    counted: str = "item"
    """What `ExportReport.items` counts."""


FORMATS: Final[Mapping[str, Format]] = {
    "geoparquet": Format(
        "stacpull.outputs.geoparquet:export_geoparquet", "an index of the items", needs_pyarrow=True
    ),
    "webdataset": Format(
        "stacpull.outputs.webdataset:export_webdataset", "tar shards", needs_pyarrow=True, counted="sample"
    ),
    "csv": Format("stacpull.outputs.label_table:export_labels", "a table of labels"),
    "parquet": Format("stacpull.outputs.label_table:export_labels", "a table of labels", needs_pyarrow=True),
    "torchgeo-v1": Format(
        "stacpull.outputs.torchgeo:export_torchgeo_v1",
        "the tree of TorchGeo's BigEarthNet",
        needs_directory=True,
        counted="sample",
    ),
    "torchgeo-v2": Format(
        "stacpull.outputs.torchgeo:export_torchgeo_v2",
        "the tree of TorchGeo's BigEarthNetV2",
        needs_pyarrow=True,
        needs_directory=True,
        counted="sample",
    ),
}
"""Format by the name that `--format` takes."""
