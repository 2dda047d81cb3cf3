"""The results for all recorded documents: one line per item, to be reviewed (`recorded_documents.tsv`).

python -m tests.sources.recorded_documents ../shared/data > tests/sources/recorded_documents.tsv
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.sources.memory import MemoryReader

from stacpull.config.options import Options
from stacpull.errors import SourceError
from stacpull.filters.asset_filter import AssetFilter
from stacpull.models import Asset, Json, Page, PageRequest, PlannedItem
from stacpull.planning.item_plan import AssetOptions, plan_item
from stacpull.planning.layout import Layout
from stacpull.selection import Selection
from stacpull.sources.documents import is_api_root
from stacpull.sources.opening import open_source
from stacpull.sources.paging import read_pages
from stacpull.sources.source import PageSize
from stacpull.sources.stac_api import ApiSource

COLUMNS = (
    "file",
    "item",
    "jobs",
    "from",
    "s3 first",
    "sizes",
    "checksums",
    "problems",
    "pages",
    "first",
    "all",
    "read",
    "next",
)
"""`from`: schemes of the jobs' hrefs · `s3 first`: the same with `--prefer s3,https`, `+` their alternates ·
`pages`: keys left out as such · `first`: key and path of the first job · `all`: a digest of all of them ·
`read`: documents read beside the file · `next`: the cursor that a page has."""
PAGE = "https://api.test/v1/search"
HERE = "file:///recorded/"
"""The assumed directory of the documents, so that the table is the same on every machine."""
FOLDERS = ("stac", "sentinelhub")


class NoItems(NamedTuple):
    """A document that is not a source of items: a document of an API, or not STAC (`why`)."""

    why: str


def documents_in(data: Path) -> dict[str, Any]:
    """Return every recorded document by its URL. A saved list of items becomes a page."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((data / folder).rglob("catalog_*.json" if folder != "stac" else "*.json")):
            if ".http." not in path.name:
                document = json.loads(path.read_text())
                if isinstance(document, list) and all("assets" in one for one in document):
                    document = {"type": "FeatureCollection", "features": document}
                found[HERE + path.relative_to(data).as_posix()] = document
    return found


def rows(data: Path) -> Iterator[str]:
    """Yield the table with its header. `data` is the folder with the recordings."""
    yield _line(*COLUMNS)
    documents = documents_in(data)
    for url, document in documents.items():
        name, found = url.removeprefix(HERE), items_of(url, documents)
        if isinstance(found, NoItems):
            yield _line(name, f"({found.why})", *["-"] * (len(COLUMNS) - 2))
            continue
        items, read = found
        cursor = _cursor(document)
        yield from (_row(name, item, hint, base, read, cursor) for item, hint, base in items)
        if not items:
            yield _line(name, "(none)", *["-"] * (len(COLUMNS) - 4), str(read), cursor)


def items_of(url: str, documents: dict[str, Any]) -> tuple[list[tuple[Json, str, str]], int] | NoItems:
    """Return items with collection and URL, and the number of documents read after the first."""
    reader = MemoryReader(documents)

    async def main() -> list[tuple[Json, str, str]] | NoItems:
        # as a file it leads to an API, or nowhere
        if isinstance(documents[url], dict) and is_api_root(documents[url]):
            return NoItems("an API's")
        try:
            source = await open_source(url, reader)
        except SourceError as error:
            return NoItems(str(error).replace(url, "this").split(": ")[0])
        if isinstance(source, ApiSource):
            return NoItems("an API's")
        (start,) = await source.starts(Selection())
        found = []
        async for page in source.pages(start, page_size=PageSize(), on_notice=lambda _: None):
            assert not page.unread
            found += [(item, start.collection, page.request.url) for item in page.items]
        return found

    found = asyncio.run(main())
    return found if isinstance(found, NoItems) else (found, len(set(reader.urls)) - 1)


def planned(item: Json, hint: str, base: str, *prefer: str) -> PlannedItem:
    """Return the plan of an item of a file."""
    plan = plan_item(
        item,
        collection_hint=hint,
        item_href=None,
        page_url=base,
        layout=Layout.parse(Options().layout),
        asset_filter=AssetFilter(Selection()),
        options=AssetOptions(prefer),
    )
    assert isinstance(plan, PlannedItem)
    return plan


def _row(name: str, item: Json, hint: str, base: str, read: int, cursor: str) -> str:
    plan, preferring = planned(item, hint, base), planned(item, hint, base, "s3", "https")
    jobs = plan.assets
    cells = [
        name,
        f"{plan.id.collection}/{plan.id.item}",
        str(len(jobs)),
        _schemes(jobs),
        f"{_schemes(preferring.assets)} +{sum(len(job.alternates) for job in preferring.assets)}",
        str(sum(job.size is not None for job in jobs)),
        _counted(Counter(job.checksum.algorithm for job in jobs if job.checksum is not None)),
        _counted(Counter(f"{problem.failure.kind}" for problem in plan.problems)),
        " ".join(plan.pages) or "-",
        f"{jobs[0].key} > {_path(jobs[0])}" if jobs else "-",
        hashlib.sha256("\n".join(f"{j.key} {j.href} {_path(j)}" for j in jobs).encode()).hexdigest()[:12],
        str(read),
        cursor,
    ]
    return _line(*cells)


def _cursor(document: Json) -> str:
    """Return the request for the next page, if the document is a page of an API."""
    if not isinstance(document.get("features"), list):
        return "-"

    async def first_page() -> Page:
        async for page in read_pages(
            MemoryReader(lambda _: document), PageRequest(PAGE, "POST", {}), PageSize(100), lambda _: None
        ):
            return page
        raise AssertionError("a walk has a page")

    request = asyncio.run(first_page()).next
    if request is None:
        return "end"
    return (
        request.url if request.method == "GET" else f"POST {json.dumps(request.body, sort_keys=True)[:120]}"
    )


def _line(*cells: str) -> str:
    return "\t".join(cells)


def _path(job: Asset) -> str:
    return f"{job.directory}/{job.name or job.name_template}"


def _schemes(jobs: tuple[Asset, ...]) -> str:
    return _counted(Counter(job.href.partition(":")[0] for job in jobs))


def _counted(counts: Counter[str]) -> str:
    return " ".join(f"{name}:{number}" for name, number in sorted(counts.items())) or "-"


if __name__ == "__main__":
    sys.stdout.writelines(f"{row}\n" for row in rows(Path(sys.argv[1])))
