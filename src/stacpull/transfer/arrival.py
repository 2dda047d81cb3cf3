"""Makes an `Arrival` of a received asset, with the name that its file gets in DEST."""

from __future__ import annotations

from stacpull.models import Arrival, Job
from stacpull.planning.layout import final_name


def arrival_of(
    job: Job,
    size: int,
    filename: str,
    etag: str | None,
    content: bytes | memoryview | str,
    *,
    digest: bytes | None = None,
    verified: bool = True,
) -> Arrival:
    """Return the received asset of a job."""
    if job.moved:  # the next run would send the ETag of another URL to the planned one
        etag = None
    elif etag is not None and not etag.isascii():  # it may not be valid Unicode
        etag = etag.encode("utf-8", "backslashreplace").decode()
    name = final_name(job.name, job.name_template, filename, job.directory)
    part, body = (content, None) if isinstance(content, str) else ("", content)
    return Arrival(  # by position, for speed
        job.row,
        job.item_row,
        job.generation,
        job.directory,
        name,
        size,
        0,
        digest,
        etag,
        not verified,
        part,
        None if body is None else memoryview(body),
        False,
        filename,
    )
