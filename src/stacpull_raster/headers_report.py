"""The report of a job of headers: `stacpull.headers` returns it, and `stacpull headers --json` prints it."""

from __future__ import annotations

from typing import Literal

from stacpull.errors import InterruptedRunError
from stacpull.models import PublicValue


class HeadersReport(PublicValue, frozen=True):
    """The result of a job. Only requests, retries, bytes and seconds refer to this command alone."""

    state: Literal["complete", "interrupted"]
    items_seen: int
    items_matched: int
    headers_done: int
    headers_failed: int
    """Rows that failed: headers and source items that could not be read."""
    headers_skipped: int = 0
    """Headers of `headers_done` that were read before this command."""
    headers_missing: int = 0
    """Headers of `headers_failed` that no longer exist at the source (404, 410)."""
    assets_excluded: int = 0
    """Assets of matched items that the asset filters exclude."""
    assets_not_tiff: int = 0
    """Assets that are not TIFFs by media type or suffix."""
    items_unseen: int = 0
    bytes_fetched: int = 0
    seconds: float = 0.0
    requests: int = 0
    retries: int = 0
    source: str = ""
    out: str | None = None
    reason: str | None = None
    missing_ok: bool = False

    @property
    def exit_code(self) -> int:
        """0: all done; 1: some rows failed or some items were not reached; 130: interrupted."""
        if self.state == "interrupted":
            return InterruptedRunError.exit_code
        failed = self.headers_failed - (self.headers_missing if self.missing_ok else 0)
        return 1 if failed or (self.items_unseen and self.reason is not None) else 0
