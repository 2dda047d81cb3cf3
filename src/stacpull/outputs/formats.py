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
    """Module and name of the function that writes it, which is imported when it is used."""
    help: str
    """What it is, for the help of the command."""
    needs_pyarrow: bool = False
    has_shards: bool = False
    """True if it consists of shards, whose size can be given."""
    reads_buckets: bool = False
    """True if it can be made from a mirror whose files are in a bucket."""


FORMATS: Final[Mapping[str, Format]] = {
    "geoparquet": Format(
        "stacpull.outputs.geoparquet:export_geoparquet",
        "an index of the items",
        needs_pyarrow=True,
        reads_buckets=True,
    ),
    "webdataset": Format(
        "stacpull.outputs.webdataset:export_webdataset",
        "tar shards",
        needs_pyarrow=True,
        has_shards=True,
        reads_buckets=True,
    ),
    "csv": Format("stacpull.outputs.label_table:export_labels", "a table of labels", reads_buckets=True),
    "parquet": Format(
        "stacpull.outputs.label_table:export_labels",
        "a table of labels",
        needs_pyarrow=True,
        reads_buckets=True,
    ),
    "torchgeo-v1": Format(
        "stacpull.outputs.torchgeo:export_torchgeo_v1", "the tree of TorchGeo's BigEarthNet"
    ),
    "torchgeo-v2": Format(
        "stacpull.outputs.torchgeo:export_torchgeo_v2",
        "the tree of TorchGeo's BigEarthNetV2",
        needs_pyarrow=True,
    ),
    "kerchunk": Format(
        "stacpull.outputs.kerchunk:export_kerchunk", "references to the pixels of TIFFs", reads_buckets=True
    ),
}
"""Format by the name that `--format` takes."""
