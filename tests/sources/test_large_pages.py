"""Pages larger than the limit, from a service that does not support `limit`: a variable lifts it."""

from pathlib import Path

import orjson
import pytest
from tests.net.memory import Answer
from tests.security.sources import COLLECTION, Source, feature

from stacpull import MirrorReport, Options, SourceError, sync

pytestmark = [pytest.mark.behaviour, pytest.mark.usefixtures("threaded_store")]

MIB = 1 << 20


def mirrored(dest: Path, size: int, options: Options) -> MirrorReport:
    """Mirror a service whose one page has `size` bytes, whatever page size is requested."""
    pages: list[bytes] = []
    routes = {f"/collections/{COLLECTION}/items": lambda _: Answer(body=pages[0])}
    with Source(routes=routes, others=lambda _: Answer(body=b"data")) as source:
        page = {"type": "FeatureCollection", "features": [feature("i", {"a": source.url("/a")})]}
        pages.append(orjson.dumps(page)[:-1].ljust(size - 1) + b"}")
        return sync.mirror(source.api, dest, options=options)


def test_a_page_over_64_mb_requires_the_option(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"more than 64000000 bytes. STACPULL_MAX_PAGE_SIZE raises"):
        mirrored(tmp_path / "a", 65 * MIB, Options())
    report = mirrored(tmp_path / "b", 65 * MIB, Options(max_page_size=66 * MIB))
    assert (report.state, report.assets_done) == ("complete", 1)


def test_the_option_lowers_the_limit_as_well(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than 100000 bytes"):
        mirrored(tmp_path, 100_001, Options(max_page_size=100_000))
