"""The formats of `export`: each is a `Format`, registered as an entry point in `stacpull.formats`."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, NamedTuple

from stacpull.errors import MissingExtraError
from stacpull.models import PublicValue

GROUP: Final = "stacpull.formats"

OnProgress = Callable[..., None]  # gets the number of items so far, and what is done; raises to stop


def require_pyarrow(what: str, *, otherwise: str = "") -> None:
    """Raise an error if pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise MissingExtraError(what, "pyarrow", "geoparquet", otherwise)


class ExportReport(PublicValue, frozen=True):
    """The result of `export` or `report`."""

    items: int
    """Items, or samples, that were written."""
    files: tuple[str, ...]
    """Names of the files, relative to the directory of OUT."""
    bytes: int
    """Their size together."""
    notes: tuple[str, ...] = ()
    """Sentences about data that the format could not store unchanged, and about items left out."""
    items_failed: int = 0
    """Items that were left out, because a complete mirror lacks their JSON, or it cannot be read."""
    items_missing: int = 0
    """The same items of a mirror that is not complete."""
    items_without_label: int = 0
    """Samples without a label, which were written, too."""

    @property
    def exit_code(self) -> int:
        """0, or 1 if `items_failed` is not 0."""
        return 1 if self.items_failed else 0


class Format(NamedTuple):
    """A format of `export`."""

    writer: str
    """Module and name of the function that writes it, which is imported when it is used.

    Its arguments are the mirror (`MirrorContents`), OUT, `SampleOptions` and an `OnProgress`. It returns an
    `ExportReport`.
    """
    help: str
    """What it is, for the help of the command."""
    needs_pyarrow: bool = False
    needs_directory: bool = False
    """True if it cannot be made from a mirror whose files are in a bucket."""
    suffixes: tuple[str, ...] = ()
    """The suffixes that OUT may have; empty for any."""
    counted: str = "item"
    """What `ExportReport.items` counts."""


GEOPARQUET: Final = Format(
    "stacpull_export.geoparquet:export_geoparquet",
    "an index of the items",
    needs_pyarrow=True,
    suffixes=(".parquet", ".geoparquet"),
)
WEBDATASET: Final = Format(
    "stacpull_export.webdataset:export_webdataset", "tar shards", needs_pyarrow=True, counted="sample"
)
CSV: Final = Format("stacpull_export.label_table:export_labels", "a table of labels", suffixes=(".csv",))
PARQUET: Final = CSV._replace(needs_pyarrow=True, suffixes=(".parquet",))
TORCHGEO_V1: Final = Format(
    "stacpull_export.torchgeo:export_torchgeo_v1",
    "the tree of TorchGeo's BigEarthNet",
    needs_directory=True,
    counted="sample",
)
TORCHGEO_V2: Final = TORCHGEO_V1._replace(
    writer="stacpull_export.torchgeo:export_torchgeo_v2",
    help="the tree of TorchGeo's BigEarthNetV2",
    needs_pyarrow=True,
)
