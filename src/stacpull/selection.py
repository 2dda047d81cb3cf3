"""The filters of a run. Each field declares its command-line option, config key and help."""

from typing import Literal

import attrs
from attrs import field
from attrs.converters import optional

from stacpull import arguments
from stacpull.arguments import load_ids, read_ids, read_texts
from stacpull.errors import UsageError
from stacpull.option_fields import as_option, option, with_readers
from stacpull.suggestions import Arguments


@attrs.frozen(repr=False, field_transformer=with_readers)
class Selection(Arguments):
    """The items and assets to mirror: every filter that is set must match.

    A run continues the previous run if that is unfinished and has the same source, selection, layout and
    metadata. Lists also accept one string. Times without a time zone are UTC; None in a pair is an open end.
    Several values of a property are alternatives: `where={"gsd": [10, 20]}`. A `pathlib.Path` reads
    a file where the command line takes @FILE. `attrs.evolve(selection, max_items=5)` returns a changed copy.

    Attributes:
        collections (str or list, such as "sentinel-2-l2a"): Select this collection.
        all_collections (bool): Select every collection of the API.
        labels (str or list, such as "Rice fields"): Keep items with this label class, or with any of
            several; case does not matter.
        label_mode ("any" or "all"): Keep items with any or with all of the labels.
        exclude_labels (str or list, such as "Airports"): Drop items with this label class.
        label_property (str, such as "classes"): Read labels from this item property.
        nomenclature ("clc43" or "ben19"): Read labels as the 43 classes of CORINE, or the 19 of BigEarthNet.
        cloud_and_shadow (None keeps all items): Keep only items with cloud and shadow, or only those without.
        seasonal_snow (None keeps all items): Keep only items with seasonal snow, or only those without.
        bbox (four numbers, such as [7.4, 46.9, 7.5, 47]): Keep items that intersect this box, in degrees.
        intersects (str, dict, Path or shapely geometry; in degrees): Keep items that intersect this geometry.
        datetime (str, date, datetime or a pair of these): Keep items from this time or interval:
            2018-01-01/2018-03-31, 2018-07 (all of July), ../2018.
        max_cloud_cover (float in percent, such as 20): Keep items with at most this eo:cloud_cover.
        where (str, list or dict): Keep items whose property has this value: platform=sentinel-2a.
        filter (str, dict or Path): Keep items that match this CQL2 filter, as text or JSON:
            "eo:cloud_cover < 20 AND gsd <= 10".
        ids (str, list or Path, such as "S2A_31TCJ_20180102"): Keep items whose id equals or ends with this
            text.
        assets (str or list, such as "B0*"): Fetch only assets whose key matches.
        exclude_assets (str or list): Skip assets whose key matches.
        roles (str or list, such as "data"): Fetch only assets with this role.
        media_types (str or list, such as "image/tiff"): Fetch only assets of this media type.
        prefer (str, such as "s3,https"): Prefer hrefs (also `alternate`) with these schemes, in this order.
        include_pages (bool): Also fetch assets that are web pages or endpoints.
        expand_prefix (bool): If an asset is a bucket prefix, fetch every object below it.
        clip (four numbers, str, dict, Path or shapely geometry; in degrees): From GeoTIFFs, fetch only the
            tiles that intersect this area: a box in degrees, or GeoJSON.
        collection_assets (bool): Also fetch the assets of collections (thumbnails, documents).
        source_links (bool): Also fetch the source imagery that label items link to.
        follow (str or list, such as "derived_from"): Also fetch items that are linked with this relation.
        push_down (bool): Let the source filter what it can; all filters are checked locally too.
        sortby (str, such as "-datetime"): Read items in the order of this property (-datetime: newest first).
        max_items (int, such as 100): Stop after this many matching items.
        sample (int, such as 100): Take a random sample of this many matching items, the same in every run.
        seed (int): Seed of the random sample.
        shard (str or (I, N), such as "1/4"): Process only shard I of N, by item id; in a job array, use auto.

    Raises:
        UsageError: An argument cannot be read, or two contradict. `filter`, `intersects` are checked later.
    """

    collections: tuple[str, ...] = field(
        default=(), converter=read_texts, metadata=as_option("ID", short="C", basic=True)
    )
    all_collections: bool = option(False)
    labels: tuple[str, ...] = field(default=(), converter=read_texts, metadata=as_option("NAME", basic=True))
    label_mode: Literal["any", "all"] = option("any")
    exclude_labels: tuple[str, ...] = field(default=(), converter=read_texts, metadata=as_option("NAME"))
    label_property: str | None = option(None, "NAME", commands="mirror plan headers classes")
    nomenclature: Literal["clc43", "ben19"] | None = option(None)
    cloud_and_shadow: bool | None = option(None, shown="keep both", basic=True)
    seasonal_snow: bool | None = option(None, shown="keep both", basic=True)
    bbox: tuple[float, ...] | None = field(
        default=None, converter=optional(arguments.read_bbox), metadata=as_option("W,S,E,N", basic=True)
    )
    intersects: str | None = field(
        default=None,
        converter=optional(arguments.read_geometry),
        metadata=as_option("GEOJSON|@FILE", load=arguments.load_area, basic=True),
    )
    datetime: str | None = field(
        default=None, converter=optional(arguments.read_interval), metadata=as_option("INTERVAL", basic=True)
    )
    max_cloud_cover: float | None = option(None, "PERCENT", read=arguments.read_percentage, basic=True)
    where: tuple[str, ...] = field(
        default=(), converter=arguments.read_where, metadata=as_option("PROPERTY=VALUE", basic=True)
    )
    filter: str | None = field(
        default=None,
        converter=optional(arguments.read_expression),
        metadata=as_option("CQL2|@FILE", load=arguments.load_content, basic=True),
    )
    ids: tuple[str, ...] = field(
        default=(), converter=read_ids, metadata=as_option("ID|@FILE", name="ids", load=load_ids, basic=True)
    )
    assets: tuple[str, ...] = field(default=(), converter=read_texts, metadata=as_option("GLOB", basic=True))
    exclude_assets: tuple[str, ...] = field(
        default=(), converter=read_texts, metadata=as_option("GLOB", basic=True)
    )
    roles: tuple[str, ...] = field(default=(), converter=read_texts, metadata=as_option("ROLE"))
    media_types: tuple[str, ...] = field(default=(), converter=read_texts, metadata=as_option("TYPE"))
    prefer: tuple[str, ...] = field(
        default=(), converter=arguments.read_schemes, metadata=as_option("SCHEME[,SCHEME]", form="value")
    )
    include_pages: bool = option(False)
    expand_prefix: bool = option(False)
    clip: str | None = field(
        default=None,
        converter=optional(arguments.read_clip),
        metadata=as_option("W,S,E,N|@GEOJSON", load=arguments.load_area, basic=True),
    )
    collection_assets: bool = option(False)
    source_links: bool = option(True, basic=True)
    follow: tuple[str, ...] = field(default=(), converter=read_texts, metadata=as_option("REL"))
    push_down: bool = option(True)
    sortby: str | None = option(None, "[-]PROPERTY", read=arguments.read_order, basic=True)
    max_items: int | None = option(None, "N", read=arguments.integer(1), basic=True)
    sample: int | None = option(None, "N", read=arguments.integer(1))
    seed: int = option(0, "S")
    shard: tuple[int, ...] | None = field(
        default=None,
        converter=optional(arguments.read_shard),
        metadata=as_option("I/N|auto[/N]", load=arguments.read_shard),
    )

    def __attrs_post_init__(self) -> None:
        if self.collections and self.all_collections:
            raise UsageError("Give --collection or --all-collections, not both.")
        if self.sample and self.max_items:
            raise UsageError("Give --sample or --max-items, not both.")

    @property
    def item_limit(self) -> int | None:
        """The most matching items that are taken; None without a limit."""
        return self.max_items or self.sample
