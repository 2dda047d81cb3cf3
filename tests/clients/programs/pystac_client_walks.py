"""Run by the Python of pystac-client: walks and searches; writes what it saw as JSON."""

import json
import sys

from pystac_client import Client

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"


def ids(search):
    return sorted(item.id for item in search.items())


root, key = sys.argv[1:]
catalog = Client.open(root, parameters={"key": key})
items = list(catalog.get_collection(LABELS).get_items())
one = items[3]
seen = {
    "collections": [collection.id for collection in catalog.get_collections()],
    "children": [child.id for child in catalog.get_children()],
    "items": [item.id for item in items],
    "source_link": next(link.target for link in one.links if link.rel == "source"),
    "searches": {},
}
for method in ("GET", "POST"):
    in_2017 = catalog.search(method=method, collections=[SOURCE], datetime="2017-06-01/2017-12-31", limit=4)
    seen["searches"][method] = {
        "all": ids(catalog.search(method=method, limit=7)),
        "matched": catalog.search(method=method, collections=[SOURCE], limit=3).matched(),
        "in_2017": ids(in_2017),
        "around": ids(catalog.search(method=method, bbox=one.bbox)),
        "touching": ids(catalog.search(method=method, collections=[LABELS], intersects=one.geometry)),
        "by_id": ids(catalog.search(method=method, ids=[one.id])),
        "nothing": ids(catalog.search(method=method, bbox=[100, -10, 101, -9])),
    }
json.dump(seen, sys.stdout)
