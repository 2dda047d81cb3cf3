"""Resolves DEST: a directory, or a bucket with a work directory, whose ledger it reads. Creates nothing."""

import os
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from stacpull import entry_points
from stacpull.config.options import Options
from stacpull.errors import CredentialsError, StacpullError, UsageError, reject_variable
from stacpull.hosts import HOST_AND_PORT
from stacpull.ledger import meta, runs
from stacpull.ledger.database import ledger_errors, ledger_path, open_reader
from stacpull.models import BucketLocation
from stacpull.redact import public_url
from stacpull.schemes import bucket_prefixes, scheme_named
from stacpull.store.protocol import StoreKind, store_kind


class DestAddress(msgspec.Struct, frozen=True):
    work: Path  # the directory of the ledger, and of the files unless they are in a bucket
    bucket: BucketLocation | None = None

    @property
    def shown(self) -> str:
        return str(self.work) if self.bucket is None else self.bucket.url

    @property
    def work_of_bucket(self) -> str | None:
        return None if self.bucket is None else str(self.work)


def resolve_dest(dest: str | os.PathLike[str], options: Options, *, only_work: bool = False) -> DestAddress:
    """Return what DEST is. The bucket that a ledger names only serves to reject another bucket."""
    if (bucket := bucket_location(dest)) is None:
        return _parse_directory(dest, options)
    work = options.work
    if work is None or bucket_location(work) is not None:
        raise UsageError(f"DEST is the bucket {bucket.url}: add --work DIR, a local directory for a ledger.")
    has_mirror, recorded = _recorded_bucket(work)
    location = _with_options(bucket, options)
    try:
        location = store_kind(location).resolved(location)
    except CredentialsError:
        if not only_work:  # otherwise the bucket is not asked, and its endpoint is that in the ledger
            raise
        location = replace(location, endpoint_url=location.endpoint_url or (recorded and recorded[1]))
    parts = urlsplit(location.endpoint_url or "")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("The endpoint of DEST must be a scheme, host and port: keys go to --dest-profile.")
    if recorded is not None:
        url, endpoint, mirror, epoch = recorded
        other = bucket_location(url) or BucketLocation("")
        is_same = store_kind(other) is store_kind(location) and other.bucket == location.bucket
        given = location.endpoint_url or ""
        if not is_same or (other.prefix, endpoint) != (location.prefix, given):
            option = f"with --dest-endpoint-url {endpoint}" if endpoint else "without --dest-endpoint-url"
            other_dest = url if endpoint == given else f"{url} {option}"
            raise UsageError(f"{work} is the work directory of {other_dest}: use that, or another --work.")
        location = replace(location, mirror=mirror, epoch=epoch)
    elif has_mirror:
        raise UsageError(f"{work} contains a mirror of its own: use another --work for {bucket.url}.")
    return DestAddress(work, location)


def _parse_directory(dest: str | os.PathLike[str], options: Options) -> DestAddress:
    use = f"the directory of the mirror, or a bucket ({bucket_prefixes()})"
    path = local_path("DEST", dest, f"{use}. In `stacpull mirror`, DEST comes after SOURCE")
    if ".." in path.parts and not os.access(path.parent, os.F_OK):  # `new/../m` is `m` once `new` is created
        path = Path(os.path.realpath(path))
    for name in ("work", "dest_endpoint_url", "dest_profile", "dest_region", "break_lock"):
        if getattr(options, name) not in {None, False}:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for a bucket as DEST (s3://bucket/prefix): leave it out.")
    if (recorded := _recorded_bucket(path)[1]) is not None:
        url = recorded[0]
        raise UsageError(f"{path} is the work directory of {url}: use {url} as DEST, with --work {path}.")
    return DestAddress(path)


def _recorded_bucket(work: Path) -> tuple[bool, tuple[str, str, str, int] | None]:
    """Return whether `work` has a readable ledger with a run, and the bucket that its ledger records."""
    try:
        with closing(open_reader(work)) as db, ledger_errors(ledger_path(work)):
            bucket = meta.recorded_bucket(db)
            if bucket is None:
                runs.load(db)  # raises an error if no run has begun
            return True, bucket
    except StacpullError:
        return False, None


def _with_options(location: BucketLocation, options: Options) -> BucketLocation:
    return replace(
        location,
        endpoint_url=options.dest_endpoint_url and options.dest_endpoint_url.rstrip("/"),
        region=options.dest_region,
        profile=options.dest_profile,
        ca_bundle=options.ca_bundle and str(options.ca_bundle.absolute()),
        metadata=options.s3.aws_metadata,
        break_lock=options.break_lock,
        adopt=options.adopt,
    )


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.@-]+):/")  # one slash: `Path` turns `s3://bucket` into `s3:/bucket`


def bucket_location(dest: str | os.PathLike[str]) -> BucketLocation | None:
    text = str(dest).strip()
    if (match := _URL.match(text)) is None:
        return None
    name = match[1].lower()
    kind: StoreKind | None = entry_points.load("stacpull.stores", name)
    if kind is None and scheme_named(name).is_object_store:
        entry_points.require("stacpull.stores", name, f"{name}:// as DEST")
    try:
        return None if kind is None else kind.parse(text)
    except UsageError as error:
        raise UsageError(f"{error} You gave {public_url(text)[:200]}.") from error


def local_path(what: str, path: object, use: str) -> Path:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError(f"{what} must be a path, not {type(path).__name__}.")
    if "\0" in text:
        raise UsageError(f"{what} must be a path, and no path has a NUL character.")
    if text.strip() in {"", "-"}:
        raise UsageError(f"{what} is {text.strip() or 'empty'}: use {use}.")
    shown = public_url(text)[:200]
    reject_variable(what, shown)
    if _URL.match(text) or (what == "DEST" and HOST_AND_PORT.match(text)):
        raise UsageError(f"{what} is a URL ({shown}): use {use}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{what} is {shown}, and there is no such home directory.") from error
