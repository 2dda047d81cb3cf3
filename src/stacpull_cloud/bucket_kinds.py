"""The kinds of buckets that `stacpull` finds by its entry points (`stacpull.stores`)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.aws import AwsCredentials, AwsSettings
from stacpull.errors import UsageError
from stacpull.models import BucketLocation
from stacpull.store.inspection import StoredFiles
from stacpull.store.protocol import BucketLease, Store
from stacpull.system import with_active_endpoints

if TYPE_CHECKING:
    from stacpull_cloud.bucket_store import BucketStore

T = TypeVar("T")
AZURE_HOST, LAKE_HOST = ".blob.core.windows.net", ".dfs.core.windows.net"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_LONGEST_PREFIX = 512  # the most bytes of a prefix: keys have at most 1,024
_ODD = re.compile(r"[\x00-\x1f\x7f?#]")


def awaited_apart(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in another thread: this one may run a loop."""
    with ThreadPoolExecutor(1, "stacpull-aws") as thread:
        result: T = thread.submit(asyncio.run, work).result()
        return result


class Buckets(NamedTuple):
    scheme: str
    variables: tuple[str, ...]
    modules: tuple[str, ...] = ("stacpull_cloud.bucket_store", "stacpull_cloud.lease")

    def parse(self, url: str) -> BucketLocation | None:
        scheme, _, rest = url.partition(":")
        host, _, path = rest.lstrip("/").partition("/")
        account = None
        if scheme.lower() == "https":
            if not host.lower().endswith(AZURE_HOST):
                return None
            account = host[: -len(AZURE_HOST)]
            host, _, path = path.partition("/")
        elif scheme.lower() in {"abfs", "abfss"}:
            host, _, server = host.partition("@")
            if server:
                account = server.lower().removesuffix(LAKE_HOST).removesuffix(AZURE_HOST)
        prefix = path.strip("/")
        parts = prefix.split("/") if prefix else []
        is_odd = not {"", ".", ".."}.isdisjoint(parts) or _ODD.search(prefix)
        if not _NAME.fullmatch(host) or (account is not None and not account.isalnum()):
            raise UsageError(f"DEST is not the URL of a bucket: use {self.scheme}://bucket/prefix.")
        if is_odd or len(prefix.encode("utf-8", "replace")) > _LONGEST_PREFIX:
            raise UsageError(
                f"DEST is in {self.scheme}://{host}: a prefix must have at most {_LONGEST_PREFIX} bytes, "
                "without '?', '#' and control characters, and no part of it may be empty, '.' or '..'."
            )
        return BucketLocation(host, prefix, scheme=self.scheme, account=account)

    def resolved(self, location: BucketLocation) -> BucketLocation:
        if location.scheme != "s3":
            if location.profile or location.region:
                raise UsageError("--dest-profile and --dest-region are for s3:// only.")
            return location
        variables = with_active_endpoints(os.environ)
        named = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL")
        wanted = AwsSettings(location.region, location.endpoint_url or named, location.profile)
        found = awaited_apart(AwsCredentials(wanted).settings())
        endpoint = (found.endpoint_url or "").rstrip("/")
        if urlsplit(endpoint).username is not None:
            raise UsageError(
                "The endpoint of the AWS configuration must not contain a user or a password: set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --dest-profile."
            )
        is_amazon = not endpoint or (location.endpoint_url is None and ".amazonaws.com" in endpoint)
        return replace(location, region=found.region, endpoint_url=None if is_amazon else endpoint)

    def open_store(
        self, work: Path, location: BucketLocation, on_silent: Callable[[str], None], worker_parts: str = ""
    ) -> Store:
        from stacpull_cloud.bucket_store import BucketStore  # noqa: PLC0415 - obstore

        return BucketStore(work, location, on_silent, worker_parts)

    def open_files(self, location: BucketLocation, on_silent: Callable[[str], None]) -> StoredFiles:
        from stacpull_cloud.bucket_store import BucketFiles  # noqa: PLC0415 - obstore

        return BucketFiles(location, on_silent)

    def lease(self, store: Store) -> AbstractContextManager[BucketLease]:
        from stacpull_cloud.lease import Lease  # noqa: PLC0415 - obstore

        objects = cast("BucketStore", store).objects
        return Lease(objects, store.staged.work, store.staged.path.stat().st_ino)


S3 = Buckets("s3", ("AWS_",))
GOOGLE = Buckets("gs", ("GOOGLE_",))
AZURE = Buckets("az", ("AZURE_",))
