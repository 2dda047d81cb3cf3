"""Where DEST is: a directory, or a bucket with a work directory for the ledger."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from stacpull.config.dest import bucket_url, dest_path
from stacpull.config.options import Options
from stacpull.errors import UsageError
from stacpull.ledger.database import ledger_path
from stacpull.models import BucketLocation
from stacpull.schemes import SCHEMES
from stacpull.store.store_choice import bucket_of

_BUCKET = "a bucket as DEST (s3://bucket/prefix)"


class DestAddress(msgspec.Struct, frozen=True):
    """DEST as given by the user."""

    work: Path
    """The directory of the ledger, and of the files unless they are in a bucket."""
    bucket: BucketLocation | None = None

    @property
    def name(self) -> str:
        """The name of DEST in messages."""
        return str(self.work) if self.bucket is None else self.bucket.url

    @property
    def log(self) -> Path:
        """The log of its runs."""
        return self.work / ".stacpull" / "log.ndjson"

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that a run needs for a bucket: they are imported in the background."""
        return () if self.bucket is None else SCHEMES[self.bucket.scheme].dest_modules


def parse_dest(dest: str | PathLike[str], options: Options) -> DestAddress:
    """Parse DEST.

    Args:
        dest: A directory; the URL of a bucket; or the work directory of a mirror in a bucket.
        options: `work` and the options that start with `dest_` are used.

    Raises:
        UsageError: DEST contradicts the options or the work directory.
        DestinationError: The file that names the bucket is damaged.
    """
    url = bucket_url(dest)
    given = [
        flag
        for flag, value in (
            ("--dest-endpoint-url", options.dest_endpoint_url),
            ("--dest-profile", options.dest_profile),
            ("--dest-region", options.dest_region),
        )
        if value is not None
    ]
    if url is None:
        path = dest_path(dest)
        known = bucket_of(path)
        if options.work is not None and (known is None or options.work.absolute() != path.absolute()):
            what = "a directory" if known is None else "itself a work directory"
            raise UsageError(f"--work is for {_BUCKET}. {path} is {what}: leave --work out.")
        if known is None and given:
            raise UsageError(f"{given[0]} is for {_BUCKET}. {path} is a directory: leave {given[0]} out.")
        return DestAddress(path, None if known is None else _changed(path, known, options))
    if options.work is None:
        raise UsageError(
            f"DEST is the bucket {url.url}: add --work DIR, a directory on this machine for the ledger."
        )
    return DestAddress(options.work, _location(options.work, url, options))


def _location(work: Path, url: BucketLocation, options: Options) -> BucketLocation:
    """Return the bucket of a mirror. If the work directory already names one, it must be the same."""
    known = bucket_of(work)
    if ledger_path(work).exists():
        if known is None:
            raise UsageError(
                f"{work} is a mirror with its files in it: name another directory with --work for {url.url}."
            )
        if known.url != url.url:
            raise UsageError(
                f"{work} is the work directory of {known.url}: name another one with --work for {url.url}."
            )
    if known is not None and known.url == url.url:
        return _changed(work, known, options)
    return _changed(work, url, options)


def _changed(work: Path, known: BucketLocation, options: Options) -> BucketLocation:
    """Return a bucket with the settings of the options.

    Raises:
        UsageError: The mirror uses another endpoint, or the endpoint contains a password or a query.
    """
    endpoint = options.dest_endpoint_url and options.dest_endpoint_url.rstrip("/")
    parts = urlsplit(endpoint or "")
    if parts.username is not None:
        raise UsageError("--dest-endpoint-url must not contain a user or a password: use --dest-profile.")
    if parts.query or parts.fragment:
        raise UsageError("--dest-endpoint-url must not contain a query: give scheme, host and port.")
    is_another = endpoint != (known.endpoint_url or "").rstrip("/")
    if endpoint and is_another and ledger_path(work).exists():
        where = known.endpoint_url or "Amazon's endpoint"
        raise UsageError(
            f"{work} is the work directory of {known.url} at {where}: name another one with --work for "
            f"{endpoint}."
        )
    return replace(
        known,
        endpoint_url=endpoint or known.endpoint_url,
        region=options.dest_region or known.region,
        profile=options.dest_profile or known.profile,
        ca_bundle=str(options.ca_bundle.absolute()) if options.ca_bundle else known.ca_bundle,
    )
