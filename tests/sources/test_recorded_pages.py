from __future__ import annotations

from pathlib import Path

from tests.sources.recorded_pages import rows

TABLE = Path(__file__).with_name("recorded_pages.tsv")


def test_every_recorded_page_gives_the_jobs_of_the_reviewed_table(shared_data: Path) -> None:
    assert list(rows(shared_data)) == TABLE.read_text().splitlines()
