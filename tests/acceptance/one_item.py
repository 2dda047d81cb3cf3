"""A STAC API with one item, and a store with its files, all of which a scenario changes as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

from tests.acceptance.small_api import SmallApi
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, Scripted

BUCKET = "bkt"


@dataclass
class Kept:
    """A file; `modified` in seconds since 1970."""

    body: bytes
    etag: str | None = None
    modified: float | None = None
    names: dict[str, str] | None = None
    """A 304 with these fields is the answer to any condition."""

    def answer(self, conditions: Mapping[str, str]) -> Answer:
        own = {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.modified, usegmt=True) if self.modified else None,
        }
        fields = {name: value for name, value in own.items() if value is not None}
        tag, date = conditions.get("if-none-match"), conditions.get("if-modified-since")
        if self.names is not None and (tag or date):
            return Answer(304, headers=self.names)
        if tag is not None:
            same = tag == self.etag
        else:
            before = None if date is None else parsedate_to_datetime(date).timestamp()
            same = None not in (before, self.modified) and int(self.modified or 0) <= (before or 0)
        kind = {"Content-Type": "application/octet-stream"}
        return Answer(304, headers=fields) if same else Answer(200, self.body, fields | kind)


@dataclass
class Item:
    """The item: `assets` by key, their hrefs absolute or a path on this server."""

    updated: str | None = "2021-01-01T00:00:00Z"
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)


class OneItem(SmallApi):
    """`with OneItem() as api`: `api.item`, `api.files` by path; a bucket by its name in the path.

    `lists_bucket` is False while the bucket's listing is refused.
    """

    def __init__(self) -> None:
        super().__init__({"c": ["i"]})
        self.item = Item()
        self.files: dict[str, Kept] = {}
        self.lists_bucket = True

    @property
    def source(self) -> str:
        return self.url("/collections/c")

    def add(self, key: str, kept: Kept, *, path: str | None = None, **stated: Any) -> None:
        """Have an asset at `path` (`/<key>.bin`) with these members."""
        path = path or f"/{key}.bin"
        self.files[path] = kept
        self.item.assets[key] = {"href": path, **stated}

    def conditional(self, path: str) -> list[bool]:
        return [
            "if-none-match" in one.headers or "if-modified-since" in one.headers
            for one in self.requests
            if one.target.partition("?")[0] == path
        ]

    def _turn(self, request: ReceivedRequest) -> Scripted:
        path, _, query = request.target.partition("?")
        if path.rstrip("/") == f"/{BUCKET}" and "list-type" in query:
            refusal = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return self._listing() if self.lists_bucket else refusal
        return self.files[path].answer(request.headers) if path in self.files else super()._turn(request)

    def _item(self, collection: str, name: str) -> dict[str, object]:
        assets = {
            key: {**one, "href": self.url(one["href"]) if one["href"].startswith("/") else one["href"]}
            for key, one in self.item.assets.items()
        }
        times = {"datetime": "2021-01-01T00:00:00Z", "updated": self.item.updated}
        stated = {name: time for name, time in times.items() if time is not None}
        return feature(name, collection=collection, properties=stated, assets=assets)

    def _listing(self) -> Answer:
        keys = [
            path.removeprefix(f"/{BUCKET}/") for path in sorted(self.files) if path.startswith(f"/{BUCKET}/")
        ]
        sizes = {key: len(self.files[f"/{BUCKET}/{key}"].body) for key in keys}
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>" for key, size in sizes.items()
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        return Answer(200, text.encode(), {"Content-Type": "application/xml"})
