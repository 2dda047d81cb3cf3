"""The outcome of a transfer, or of a part that is found: an asset that was received, with its final name."""

from stacpull.models import AssetFile, Job
from stacpull.planning.layout import final_name


def received_file(
    job: Job,
    size: int,
    filename: str,
    etag_or_date: str | None,
    part: str = "",
    *,
    body: bytes | memoryview | None = None,
    digest: bytes | None = None,
    unproven: bool = False,
) -> AssetFile:
    """Return the received asset of a job: its `body`, or a `part` (empty until the part is complete)."""
    if job.href_changed:  # otherwise, the next run would send this ETag to the planned URL
        etag_or_date = None
    name = final_name(job.name, job.name_template, filename, job.directory)
    view = None if body is None else memoryview(body)
    return AssetFile(
        job.rowid,
        job.item_rowid,
        job.generation,
        job.directory,
        name,
        size,
        digest=digest,
        etag_or_date=etag_or_date,
        unproven=unproven,
        part=part,
        body=view,
        checksum_changed=job.checksum_changed,
        filename=filename,
    )
