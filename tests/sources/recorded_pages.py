"""What becomes of every recorded page: one line an item, to be reviewed by eye (`recorded_pages.tsv`).

python -m tests.sources.recorded_pages ../shared/data > tests/sources/recorded_pages.tsv
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.sources.memory import MemoryReader

from stacpull.config.options import Options
from stacpull.filters.assets import compile_assets
from stacpull.models import Asset, Page, PageRequest, Selection
from stacpull.planning.items import Problem, plan_item
from stacpull.planning.layout import Layout
from stacpull.sources.page_size import PageSize
from stacpull.sources.walk import walk

COLUMNS = (
    "file",
    "item",
    "jobs",
    "from",
    "sizes",
    "checksums",
    "problems",
    "excluded",
    "first",
    "all",
    "next",
)
"""`first`: key and path of the first job · `all`: a digest of all of them · `next`: its cursor."""
PAGE = "https://api.test/v1/search"


def rows(data: Path) -> Iterator[str]:
    """Yield the table, its header first. `data` is the folder that holds `stac`."""
    yield _line(*COLUMNS)
    for path in sorted((data / "stac").rglob("*.json")):
        document = None if path.name.endswith(".http.json") else json.loads(path.read_text())
        name = path.relative_to(data / "stac").as_posix()
        if isinstance(document, list):
            document = {"type": "FeatureCollection", "features": document}
        if not isinstance(document, dict):
            continue
        if document.get("type") == "Feature":
            yield _row(name, document, "")
        elif isinstance(document.get("features"), list):
            page = asyncio.run(_first_page(document))
            cursor = _cursor(page.next)
            yield from (_row(name, item, cursor) for item in page.items)
            if not page.items:
                yield _line(name, "(none)", *["-"] * (len(COLUMNS) - 3), cursor)


async def _first_page(document: dict[str, Any]) -> Page:
    reader = MemoryReader(lambda _: document)
    async for page in walk(reader, PageRequest(PAGE, "POST", {}), PageSize(100), lambda _: None):
        return page
    raise AssertionError("a walk has a page")


def _row(name: str, item: dict[str, Any], cursor: str) -> str:
    planned = plan_item(
        item,
        collection_hint="hint",
        item_href=None,
        page_url=PAGE,
        layout=Layout.parse(Options().layout),
        asset_filter=compile_assets(Selection()),
    )
    if isinstance(planned, Problem):
        return _line(name, planned.item, "0", "-", "-", "-", planned.failure.message, "-", "-", "-", cursor)
    jobs = planned.item.assets
    problems = Counter(f"{problem.failure.kind}" for problem in planned.problems)
    cells = [
        name,
        f"{planned.item.id.collection}/{planned.item.id.item}",
        str(len(jobs)),
        _counted(Counter(urlsplit(job.href).scheme for job in jobs)),
        str(sum(job.size is not None for job in jobs)),
        _counted(Counter(job.checksum.algorithm for job in jobs if job.checksum is not None)),
        _counted(problems),
        str(len(planned.excluded)),
        f"{jobs[0].key} > {_path(jobs[0])}" if jobs else "-",
        hashlib.sha256("\n".join(f"{j.key} {j.href} {_path(j)}" for j in jobs).encode()).hexdigest()[:12],
        cursor,
    ]
    return _line(*cells)


def _line(*cells: str) -> str:
    return "\t".join(cells)


def _path(job: Asset) -> str:
    return f"{job.directory}/{job.name or job.name_template}"


def _counted(counts: Counter[str]) -> str:
    return " ".join(f"{name}:{number}" for name, number in sorted(counts.items())) or "-"


def _cursor(request: PageRequest | None) -> str:
    if request is None:
        return "end"
    return (
        request.url if request.method == "GET" else f"POST {json.dumps(request.body, sort_keys=True)[:120]}"
    )


if __name__ == "__main__":
    sys.stdout.writelines(f"{row}\n" for row in rows(Path(sys.argv[1])))
