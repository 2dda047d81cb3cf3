"""Every option, declared once: the command line, TOML files and the environment are all read by this table.

To add an option, add a row, and the field of `Selection`, `Options` or `Output` that its `target` names.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stacpull.config import values
from stacpull.config.values import Reader

__all__ = ["BY_NAME", "MIRRORING", "OPTIONS", "Option", "Scope"]


class Scope(enum.Enum):
    """What an option is about; it decides which commands take it."""

    SELECTION = "selection"
    """What to mirror: `Selection`. Fixed for a run, so refused on `resume` and `retry`."""
    LAYOUT = "layout"
    """Where things lie: a part of `Options`, but fixed for a run like the selection."""
    TRANSFER = "transfer"
    """How to transfer: `Options`. May be given anew at any time."""
    TRACE = "trace"
    """What to trace: `TraceOptions`. Taken by `stacpull trace` only."""
    OUTPUT = "output"
    """What is said on the terminal: `Output`."""


MIRRORING = (Scope.SELECTION, Scope.LAYOUT, Scope.TRANSFER, Scope.OUTPUT)
"""What `mirror` takes."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `name` in kebab case, `target` the field it sets (`s3.region`: a field of a field)."""

    scope: Scope
    name: str
    target: str
    help: str
    metavar: str = "TEXT"
    reader: Reader = values.text
    many: bool = False
    """True if it may be given several times; the field is a tuple, and '' alone means none."""
    switch: bool = False
    """True if it takes no value on the command line."""
    opposite: bool = False
    """True if the switch also comes as --no-NAME."""
    choices: tuple[str, ...] = ()
    short: str = ""
    environment: tuple[str, ...] = ()
    """Variables of other programs that set it, in order; its own STACPULL_… goes before them."""

    @property
    def read(self) -> Reader:
        """How one value of it is read."""
        if self.choices:
            return values.choice(*self.choices)
        return values.switch if self.switch else self.reader

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that set it, the first one set wins: single-valued transfer options have them."""
        if self.many or self.scope not in (Scope.TRANSFER, Scope.LAYOUT):
            return ()
        return (f"STACPULL_{self.name.replace('-', '_').upper()}", *self.environment)


_SELECTION, _TRANSFER, _OUTPUT = Scope.SELECTION, Scope.TRANSFER, Scope.OUTPUT

OPTIONS: tuple[Option, ...] = (
    Option(
        _SELECTION,
        "collection",
        "collections",
        "Mirror this collection. May be repeated.",
        "ID",
        many=True,
        short="C",
    ),
    Option(
        _SELECTION, "all-collections", "all_collections", "Mirror every collection of the API.", switch=True
    ),
    Option(
        _SELECTION,
        "label",
        "labels",
        "Keep items with this label class; case does not matter. May be repeated.",
        "NAME",
        many=True,
    ),
    Option(
        _SELECTION,
        "label-mode",
        "label_mode",
        "Keep items with any (the default) or with all of the labels.",
        choices=("any", "all"),
    ),
    Option(
        _SELECTION,
        "exclude-label",
        "exclude_labels",
        "Drop items with this label class. May be repeated.",
        "NAME",
        many=True,
    ),
    Option(
        _SELECTION,
        "label-property",
        "label_property",
        "Take labels from this property of items.",
        "NAME",
    ),
    Option(
        _SELECTION,
        "nomenclature",
        "nomenclature",
        "Understand labels as the 43 classes of CORINE or as the 19 of BigEarthNet.",
        choices=("clc43", "ben19"),
    ),
    Option(
        _SELECTION,
        "cloud-and-shadow",
        "cloud_and_shadow",
        "Keep only items with (or only without) clouds and their shadow. Default: not asked.",
        switch=True,
        opposite=True,
    ),
    Option(
        _SELECTION,
        "seasonal-snow",
        "seasonal_snow",
        "Keep only items with (or only without) seasonal snow. Default: not asked.",
        switch=True,
        opposite=True,
    ),
    Option(
        _SELECTION,
        "bbox",
        "bbox",
        "Keep items whose geometry meets this box, in degrees.",
        "W,S,E,N",
        reader=values.spatial_extent,
    ),
    Option(
        _SELECTION,
        "intersects",
        "intersects",
        "Keep items whose geometry meets this one: GeoJSON, or a file of it.",
        "GEOJSON|@FILE",
        reader=values.area,
    ),
    Option(
        _SELECTION,
        "datetime",
        "datetime",
        "Keep items of this time or interval, as STAC writes it: 2018-01-01/2018-03-31, ../2018.",
        "INTERVAL",
    ),
    Option(
        _SELECTION,
        "max-cloud-cover",
        "max_cloud_cover",
        "Keep items whose eo:cloud_cover is known and at most this.",
        "PERCENT",
        reader=values.percentage,
    ),
    Option(
        _SELECTION,
        "where",
        "where",
        "Keep items with this value of a property; of one property, any of them. May be repeated.",
        "PROPERTY=VALUE",
        many=True,
    ),
    Option(
        _SELECTION,
        "filter",
        "filter",
        "Keep items of which this is true: CQL2 as text or JSON, or a file of it (@FILE).",
        "CQL2",
        reader=values.expression,
    ),
    Option(
        _SELECTION,
        "ids",
        "ids",
        "Keep items with this id or ending, or with those of a file (@FILE). May be repeated.",
        "ID|@FILE",
        reader=values.item_ids,
        many=True,
    ),
    Option(
        _SELECTION,
        "asset",
        "assets",
        "Fetch only assets whose key matches. May be repeated.",
        "GLOB",
        many=True,
    ),
    Option(
        _SELECTION,
        "exclude-asset",
        "exclude_assets",
        "Leave out assets whose key matches; '' leaves out none. May be repeated.",
        "GLOB",
        many=True,
    ),
    Option(
        _SELECTION, "role", "roles", "Fetch only assets with this role. May be repeated.", "ROLE", many=True
    ),
    Option(
        _SELECTION,
        "media-type",
        "media_types",
        "Fetch only assets of this media type. May be repeated.",
        "TYPE",
        many=True,
    ),
    Option(
        _SELECTION,
        "source-links",
        "source_links",
        "Follow label items to their source imagery (the default).",
        switch=True,
        opposite=True,
    ),
    Option(
        _SELECTION,
        "push-down",
        "push_down",
        "Let the source filter what it can (the default); everything is checked here as well.",
        switch=True,
        opposite=True,
    ),
    Option(
        _SELECTION,
        "split-walk",
        "split_walk",
        "Walk a large collection by time, this many parts at once (1: in one piece).",
        "N",
        reader=values.whole(1),
    ),
    Option(
        _SELECTION,
        "max-items",
        "max_items",
        "Stop after this many matching items.",
        "N",
        reader=values.whole(1),
    ),
    Option(
        _SELECTION,
        "sample",
        "sample",
        "Draw this many of all matching items: the same ones, whatever their order.",
        "N",
        reader=values.whole(1),
    ),
    Option(
        _SELECTION,
        "seed",
        "seed",
        "Which sample is drawn (0).",
        "S",
        reader=values.whole(0),
    ),
    Option(
        _SELECTION,
        "shard",
        "shard",
        "Keep the I-th of N parts, by item id: a machine each.",
        "I/N",
        reader=values.shard,
    ),
    Option(
        Scope.LAYOUT,
        "layout",
        "layout",
        "Where assets lie in DEST, for example {collection}/{item}/{key}{ext}.",
        "TEMPLATE",
    ),
    Option(
        _TRANSFER,
        "concurrency",
        "concurrency",
        "Transfers at once; auto (the default) finds out.",
        "N|auto",
        reader=values.auto_or_whole,
    ),
    Option(
        _TRANSFER,
        "per-host",
        "per_host",
        "At most this many transfers at once from one host (64).",
        "N",
        reader=values.whole(1),
    ),
    Option(
        _TRANSFER,
        "processes",
        "processes",
        "Transfer in this many processes (1): where one core is too slow for many small files.",
        "N",
        reader=values.whole(1),
    ),
    Option(
        _TRANSFER,
        "retries",
        "retries",
        "Try an asset this many times more before it counts as failed (5).",
        "N",
        reader=values.whole(0),
    ),
    Option(
        _TRANSFER,
        "stall-timeout",
        "stall_timeout",
        "Give up an attempt when nothing came for this long (30).",
        "SECONDS",
        reader=values.seconds,
    ),
    Option(
        _TRANSFER,
        "min-rate",
        "min_rate",
        "Give up an attempt that is slower than this for as long as --stall-timeout (100 bytes a second).",
        "BYTES[K|M|G]",
        reader=values.byte_rate,
    ),
    Option(
        _TRANSFER,
        "page-size",
        "page_size",
        "Items a page; auto (the default) asks for large ones and shrinks on errors.",
        "N|auto",
        reader=values.auto_or_whole,
    ),
    Option(
        _TRANSFER,
        "header",
        "headers",
        "Send this header field to the source's own host. '${NAME}' stands for a variable. May be repeated.",
        "'K: V'|@FILE",
        many=True,
    ),
    Option(_TRANSFER, "no-sign-request", "s3.no_sign_request", "Ask S3 without credentials.", switch=True),
    Option(
        _TRANSFER,
        "request-payer",
        "s3.request_payer",
        "Agree to pay for requests to requester-pays buckets.",
        switch=True,
    ),
    Option(
        _TRANSFER,
        "endpoint-url",
        "s3.endpoint_url",
        "The S3 endpoint to ask instead of Amazon's.",
        "URL",
        reader=values.web_address,
        environment=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    ),
    Option(
        _TRANSFER,
        "region",
        "s3.region",
        "The region of S3.",
        "NAME",
        environment=("AWS_REGION", "AWS_DEFAULT_REGION"),
    ),
    Option(
        _TRANSFER,
        "credentials",
        "s3.profile",
        "The AWS profile to take S3 credentials from.",
        "NAME",
        environment=("AWS_PROFILE",),
    ),
    Option(
        _TRANSFER,
        "transport",
        "transport",
        "Send plain requests for assets by the lean transport (auto, the default) or all by aiohttp.",
        choices=("auto", "aiohttp"),
    ),
    Option(
        _TRANSFER,
        "sign-bucket",
        "s3.buckets",
        "Sign for this S3 bucket also where a redirect leads to it. May be repeated.",
        "NAME",
        many=True,
    ),
    Option(
        _TRANSFER,
        "ca-bundle",
        "ca_bundle",
        "Trust the certificate authorities of this PEM file.",
        "FILE",
        reader=values.existing_file,
    ),
    Option(
        Scope.LAYOUT,
        "metadata",
        "metadata",
        "Write item documents as files (the default), as NDJSON, or not at all.",
        choices=("item", "ndjson", "none"),
    ),
    Option(
        _TRANSFER,
        "checksum",
        "checksum",
        "Record the SHA-256 of every asset (the default), or none.",
        choices=("sha256", "none"),
    ),
    Option(
        _TRANSFER,
        "missing",
        "missing",
        "Whether an asset that is listed but gone upstream is a failure (the default).",
        choices=("fail", "ok"),
    ),
    Option(
        _TRANSFER,
        "adopt",
        "adopt",
        "Take files that lie where assets go, if size and a checksum or date agree.",
        switch=True,
    ),
    Option(
        _TRANSFER,
        "allow-private-hosts",
        "allow_private_hosts",
        "Follow links and redirects to private and loopback addresses.",
        switch=True,
    ),
    Option(
        Scope.TRACE,
        "geometry",
        "geometry",
        "Trace this polygon: GeoJSON in longitude and latitude, or a file of it.",
        "GEOJSON|FILE",
    ),
    Option(
        Scope.TRACE,
        "resolution",
        "resolution",
        "Metres a pixel (3, the resolution of the scenes).",
        "METRES",
        reader=values.metres,
    ),
    Option(
        Scope.TRACE,
        "index",
        "index",
        "Compute this index: ndwi (the default), ndvi, gndvi, evi, savi.",
        "NAME",
    ),
    Option(
        Scope.TRACE,
        "evalscript",
        "evalscript",
        "Compute what this evalscript says; its outputs: default, scenes (INT16), dataMask.",
        "FILE",
        reader=values.existing_file,
    ),
    Option(
        Scope.TRACE,
        "method",
        "method",
        "Name each day's most frequent scene (mode, the default), or only the median index as notebooks do.",
        choices=("mode", "median"),
    ),
    Option(
        Scope.TRACE,
        "base-url",
        "base_url",
        "The Sentinel Hub deployment to ask; tokens are had where it takes them from (docs/trace.md).",
        "URL",
        reader=values.web_address,
    ),
    Option(_OUTPUT, "json", "json", "Print one JSON object as the last line.", switch=True),
    Option(_OUTPUT, "no-progress", "no_progress", "Show no progress.", switch=True),
    Option(_OUTPUT, "quiet", "quiet", "Print errors only.", switch=True, short="q"),
    Option(
        _OUTPUT,
        "verbose",
        "verbose",
        "Say more; twice: tracebacks, too.",
        "N",
        reader=values.whole(0),
        short="v",
    ),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}
