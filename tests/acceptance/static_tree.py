"""A static catalog on disk as people publish them: collections of items, relative links, assets beside."""

from pathlib import Path
from typing import Any

import orjson
from tests.items import collection, feature

__all__ = ["asset_of", "write_tree"]


_EXTENT = {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]}}


def write_tree(root: Path, collections: int, each: int) -> Path:
    names = [f"col{number}" for number in range(collections)]
    children = [_link("child", f"./{name}/collection.json") for name in names]
    _write(
        root / "catalog.json",
        {"type": "Catalog", "stac_version": "1.0.0", "id": "tree", "description": "", "links": children},
    )
    for name in names:
        items = [f"{name}-{number}" for number in range(each)]
        links = [_link("item", f"./{item}/{item}.json") for item in items]
        links = [_link("root", "../catalog.json"), *links]
        _write(root / name / "collection.json", collection(name, extent=_EXTENT, links=links))
        for item in items:
            _write(root / name / item / f"{item}.json", _item(name, item))
            (root / name / item / "data.bin").write_bytes(asset_of(item))
    return root / "catalog.json"


def asset_of(item: str) -> bytes:
    return f"data of {item}\n".encode() * 20


def _item(collection: str, name: str) -> dict[str, Any]:
    return feature(
        name,
        collection=collection,
        geometry={"type": "Point", "coordinates": [0.5, 0.5]},
        bbox=[0.5, 0.5, 0.5, 0.5],
        links=[_link("collection", "../collection.json"), _link("root", "../../catalog.json")],
        assets={"data": {"href": "./data.bin", "type": "application/octet-stream"}},
    )


def _link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": "application/json"}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(document))
