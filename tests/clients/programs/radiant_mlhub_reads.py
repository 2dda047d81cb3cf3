"""Run by the Python of radiant-mlhub: lists, pages, reads; writes what it saw as JSON."""

import json
import sys

from radiant_mlhub import Collection, Dataset, MLModel, client

LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"

dataset = Dataset.fetch("bigearthnet_v1")
first = next(iter(client.list_collection_items(SOURCE)))
seen = {
    "collections": [collection.id for collection in Collection.list()],
    "datasets": [dataset.id for dataset in Dataset.list()],
    "models": [model.id for model in MLModel.list()],
    "by_doi": Dataset.fetch("10.14279/depositonce-10149").id,
    "kinds": {
        "labels": [collection.id for collection in dataset.collections.labels],
        "source_imagery": [collection.id for collection in dataset.collections.source_imagery],
    },
    "label_items": [item["id"] for item in client.list_collection_items(LABELS, limit=None)],
    "source_items": [item["id"] for item in client.list_collection_items(SOURCE, page_size=4, limit=None)],
    "one_item": Collection.fetch(SOURCE).fetch_item(first["id"]).id,
    "archive_size": Collection.fetch(LABELS).archive_size,
    "license": Collection.fetch(LABELS).license,
}
json.dump(seen, sys.stdout)
