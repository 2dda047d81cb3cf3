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
    """Return the received asset of a job.

    Args:
        job: The job.
        size: In bytes.
        filename: Base name of the resolved URL, percent-decoded.
        etag: The ETag of the response, or its date (`Validator.etag_or_date`). An ETag from another URL than
            the planned one is not kept: the next run would send it to the planned URL.
        content: Its bytes, or the name of its part.
        digest: The digest to record, if it is known.
        verified: False if nothing proved its length.
    """
    if job.moved:
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
