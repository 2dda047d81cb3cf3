"""A stored item: the source's document, adapted to the mirror. Mirrored assets get a relative href.

For any input, nothing raises, and what STAC allows is kept. No href has a credential or signature, and the
source's document is never changed. Relative hrefs need no encoding (`planning.names`).
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from stacpull.boxes import bounds_of, is_bbox
from stacpull.json_values import object_or_empty, objects_in, parsed_object, texts_in
from stacpull.models import OWN_DIRECTORY, Json, MirroredFile
from stacpull.planning.hrefs import hrefs_with
from stacpull.planning.names import COLLECTION_FILE, fold, is_own_catalog
from stacpull.planning.prefixes import object_asset
from stacpull.redact import Secrets, public_url
from stacpull.store.inspection import MAX_DOCUMENT_SIZE, StoredFiles
from stacpull.urls import is_local, is_remote, join, without_blanks

_SCHEMAS = "https://stac-extensions.github.io"
EXTENSION = f"{_SCHEMAS}/alternate-assets/v1.2.0/schema.json"
FILE_EXTENSION = f"{_SCHEMAS}/file/v2.1.0/schema.json"
PROJECTION_EXTENSION = f"{_SCHEMAS}/projection/v2.0.0/schema.json"
FILE_FIELDS = ("file:size", "file:checksum")

_OWN_LINKS = frozenset({"root", "parent", "collection", "self"})
_OTHER_LINKS = frozenset({  # relations that never lead to another item of the mirror: not looked up
    "about", "alternate", "canonical", "cite-as", "icon", "license", "preview", "service", "thumbnail",
    "tilejson", "via", "xyz",
})  # fmt: skip
ANY_TIME: Json = {
    "datetime": None,
    "start_datetime": "0001-01-01T00:00:00Z",
    "end_datetime": "9999-12-31T23:59:59Z",
}


def adapted_item(
    document: Json,
    *,
    collection: str,
    mirrored: Mapping[str, MirroredFile],
    item_path: str,
    local_items: Callable[[str], str | None],
    base: str | None,
) -> Json:
    """Return the item as it is stored at `item_path`: valid, if the source's item was valid.

    `self` is removed, because a mirror can be moved. An item without a time spans all time.
    """
    directory = item_path.rpartition("/")[0]

    def keep(rel: str, href: str) -> str | None:
        if rel in _OWN_LINKS:
            return None
        local = None if rel in _OTHER_LINKS else local_items(href)
        return public_url(href) if local is None else relative_href(local, directory)

    collection_path = f"{directory.partition('/')[0]}/{COLLECTION_FILE}"
    links = [link_to("root", "catalog.json", directory)]
    links += [link_to(rel, collection_path, directory) for rel in ("parent", "collection")]
    links += stored_links(document.get("links"), base, keep)
    links += provenance_links(document, base, links)

    unsorted = stored_assets(document, mirrored, directory, base)
    assets = {key: unsorted[key] for key in sorted(unsorted)}  # so that equal items give equal bytes
    properties = {"datetime": None, **object_or_empty(document.get("properties"))}
    has_span = properties.get("start_datetime") and properties.get("end_datetime")
    if not properties["datetime"] and not has_span:
        properties |= ANY_TIME
    version = document.get("stac_version")
    if not isinstance(version, str):
        version = "1.0.0"
    stored = {"stac_version": "", **document} | {
        "stac_version": version,
        "type": "Feature",
        "stac_extensions": with_extensions(document.get("stac_extensions"), assets, mirrored),
        "properties": properties,
        "collection": collection,
        "links": links,
        "assets": assets,
    }
    _complete_location(stored)
    return stored


def encode_item(adapted: Json, secrets: Secrets) -> bytes:
    return secrets.masked_bytes(orjson.dumps(adapted))


def public_document(document: Json, secrets: Secrets) -> bytes:
    """Return the document as JSON for the ledger: no URL in it carries a credential or signature."""
    try:
        data = orjson.dumps(document)
        if b"?" in data or b"@" in data or b"#" in data:
            data = orjson.dumps(_with_public_urls(document))
    except TypeError:  # nested too deeply
        flat = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
        data = orjson.dumps(flat)
    return secrets.masked_bytes(data)


def _with_public_urls(value: Any) -> Any:
    if isinstance(value, str) and ("://" in value or value.startswith("//")):
        return public_url(value)
    if isinstance(value, dict):
        return {key: _with_public_urls(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_with_public_urls(member) for member in value]
    return value


def _complete_location(stored: Json) -> None:
    """Make `geometry` and `bbox` valid together: both, or a null geometry and no bbox."""
    geometry = object_or_empty(stored.get("geometry"))
    if geometry and is_bbox(stored.get("bbox")):
        return
    bounds = bounds_of(geometry)
    if bounds is None:
        stored["geometry"] = None
        stored.pop("bbox", None)
    else:
        stored["bbox"] = list(bounds)


def stored_assets(
    document: Json, mirrored: Mapping[str, MirroredFile], directory: str, base: str | None
) -> Json:
    """Return the assets of a document for the mirror, without those that nobody could fetch."""
    assets = document.get("assets")
    if not isinstance(assets, dict):
        return {}
    objects = {key: object_asset(assets, key) for key in mirrored.keys() - assets.keys()}  # of prefixes
    properties = object_or_empty(document.get("properties"))
    stored: Json = {}
    for key, asset in {**assets, **objects}.items():
        if not isinstance(asset, dict):
            continue
        file = mirrored.get(key)
        href = asset.get("href")
        remote = remote_href(href, base) if isinstance(href, str) and href else None
        if file is not None:
            stored[key] = _local_asset(asset, file, relative_href(file.path, directory), remote, base)
            if file.clip is not None and ("proj:epsg" in asset or "proj:epsg" in properties):
                stored[key].pop("proj:code", None)  # `proj:epsg` is its older name
        elif remote is not None:
            stored[key] = {**asset, "href": remote}
            if "alternate" in asset:
                stored[key]["alternate"] = _alternates(asset["alternate"], base)
    return stored


def with_extensions(extensions: object, assets: Json, mirrored: Mapping[str, MirroredFile]) -> list[str]:
    names = list(dict.fromkeys(texts_in(extensions)))
    used = set()
    for key, asset in assets.items():
        file = mirrored.get(key)
        if "alternate" in asset:
            used.add(EXTENSION)
        if file is not None and ("file:size" in asset or "file:checksum" in asset):
            used.add(FILE_EXTENSION)
        if file is not None and file.clip is not None and "proj:code" in asset:
            used.add(PROJECTION_EXTENSION)
    for extension in sorted(used):
        any_version = extension.rsplit("/", 2)[0] + "/"
        if not any(name.startswith(any_version) for name in names):
            names.append(extension)
    return names


def stored_links(links: object, base: str | None, keep: Callable[[str, str], str | None]) -> list[Json]:
    """Return the links whose new href, without credentials, `keep(rel, absolute href)` returns."""
    stored: list[Json] = []
    for link in objects_in(links):
        rel = link.get("rel")
        href = link.get("href")
        if isinstance(rel, str) and rel and isinstance(href, str) and href:
            kept = keep(rel.lower(), join(base, href) or href)
            if kept:
                stored.append({**link, "href": kept})
    return stored


def provenance_links(document: Json, base: str | None, stored: Sequence[Json]) -> list[Json]:
    """Return the links `via` (the URL that was read) and `canonical` (`self`), but no local paths."""
    remote_hrefs = [href for href in hrefs_with(document, "self") if is_remote(href)]
    self_href = remote_href(remote_hrefs[0], None) if remote_hrefs else None
    read_href = self_href
    if base is not None and is_remote(base):
        read_href = remote_href(base, None)
    if read_href is None:
        return []
    new = []
    known = [(link["rel"], link["href"]) for link in stored]
    if ("via", read_href) not in known:
        new.append(json_link("via", read_href))
    if "canonical" not in dict(known):
        new.append(json_link("canonical", self_href or read_href))
    return new


def link_to(rel: str, path: str, directory: str) -> Json:
    return json_link(rel, relative_href(path, directory))


def json_link(rel: str, href: str) -> Json:
    return {"rel": rel, "href": href, "type": "application/json"}


def remote_href(href: str, base: str | None) -> str:
    href = without_blanks(href)
    if not href.startswith(("http://", "https://")):  # few hrefs: `join` takes long
        href = join(base, href) or href
    return public_url(href)


def _local_asset(asset: Json, file: MirroredFile, href: str, remote: str | None, base: str | None) -> Json:
    """A relative `remote` is ignored, so storing twice changes nothing."""
    stored: Json = {**asset, "href": href}
    of_source: Json = {}
    alternates: Json = {}
    if "alternate" in asset or "file:size" in asset or "file:checksum" in asset:  # added again, at the end
        of_source = {name: stored.pop(name) for name in FILE_FIELDS if name in stored}
        alternates = _alternates(stored.pop("alternate", None), base)
    if file.clip is not None and file.clip.fields:
        described = {**stored, **file.clip.fields}
        stored = {name: value for name, value in described.items() if value is not None}
    if file.size is not None:
        stored["file:size"] = file.size
    if file.sha256 is not None:
        stored["file:checksum"] = f"1220{file.sha256.hex()}"  # a multihash (`planning.item_plan`)
    # at a path of the user's own, an origin that was remote is kept
    is_known = "origin" in alternates and is_local(remote) and is_remote(alternates["origin"]["href"])
    if remote is not None and not remote.startswith(".") and not (is_known and is_local(base)):
        alternates["origin"] = {"href": remote, **of_source}
    if alternates:
        stored["alternate"] = alternates
    return stored


def _alternates(alternates: object, base: str | None) -> dict[str, Any]:
    return {
        name: {**entry, "href": remote_href(entry["href"], base)}
        for name, entry in object_or_empty(alternates).items()
        if isinstance(entry, dict) and isinstance(entry.get("href"), str)
    }


def relative_href(path: str, directory: str) -> str:
    """Return a relative path that starts with `./` or `../`, so that it is read as a path."""
    up = ""
    inside = directory and f"{directory}/"
    while not path.startswith(inside):
        up += "../"
        inside = inside[: inside.rfind("/", 0, -1) + 1]
    return (up or "./") + path[len(inside) :]


def path_of_href(href: object, directory: str) -> str | None:
    """Return the path of a relative href; None if it leads out of the mirror, or into `.stacpull`."""
    if not isinstance(href, str) or not href.startswith(("./", "../")) or "\0" in href:
        return None
    path = posixpath.normpath(posixpath.join(directory, href))
    if path in ("..", ".") or fold(path).startswith(("../", "/", OWN_DIRECTORY)):
        return None
    return path


def is_own_json(files: StoredFiles, path: str) -> bool:
    is_ours = is_own_catalog(files.read("catalog.json"))
    if path == "catalog.json":
        return is_ours
    if not is_ours and files.has("catalog.json"):
        return False
    data = None
    if not path.endswith(".ndjson"):
        data = files.read(path)  # the whole file: a user may have formatted it, or added to it
    elif files.state_of(path, algorithm=None).size is not None:
        with files.open(path) as file:
            data = file.readline(MAX_DOCUMENT_SIZE)
    document = parsed_object(data or b"") or {}
    directory = path.rpartition("/")[0]
    roots = [path_of_href(href, directory) for href in hrefs_with(document, "root")]
    return roots == ["catalog.json"]


def asset_origin(asset: object) -> Json:
    """Return what the source states about a mirrored asset; empty if that is unknown."""
    return object_or_empty(object_or_empty(object_or_empty(asset).get("alternate")).get("origin"))


def restore_original(stored: Json) -> Json:
    """Return an item with the assets that its source sent, and unchanged links."""
    mirrored = object_or_empty(stored.get("assets"))
    assets = dict(mirrored)
    for key, asset in mirrored.items():
        origin = asset_origin(asset)
        href = object_or_empty(asset).get("href")
        if isinstance(href, str) and href.startswith(("./", "../")) and "href" in origin:
            original = {name: value for name, value in asset.items() if name not in FILE_FIELDS}
            for name in (*FILE_FIELDS, "href"):
                if name in origin:
                    original[name] = origin[name]
            assets[key] = original
    return {**stored, "assets": assets}
