"""The kinds of buckets that `stacpull` finds by its entry points (`stacpull.stores`)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.aws import AwsCredentials, AwsSettings
from stacpull.errors import UsageError
from stacpull.models import BucketLocation
from stacpull.store.inspection import IsStopped, StoredFiles, never
from stacpull.store.protocol import BucketLease, Store
from stacpull.system import with_active_endpoints

if TYPE_CHECKING:
    from stacpull_cloud.bucket_store import BucketStore

T = TypeVar("T")
ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_AZURE_HOST, _LAKE_HOST = ".blob.core.windows.net", ".dfs.core.windows.net"
_AZURE_VARIABLES = {
    "AccountName": "AZURE_STORAGE_ACCOUNT_NAME",
    "AccountKey": "AZURE_STORAGE_ACCOUNT_KEY",
    "SharedAccessSignature": "AZURE_STORAGE_SAS_TOKEN",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_LONGEST_PREFIX = 512  # the most bytes of a prefix: keys have at most 1,024
_ODD = re.compile(r"[\x00-\x1f\x7f?#]")


def awaited_apart(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in another thread: this one may run a loop."""
    with ThreadPoolExecutor(1, "stacpull-aws") as thread:
        result: T = thread.submit(asyncio.run, work).result()
        return result


class Buckets:
    """Buckets of one service (`store/protocol.py: StoreKind`)."""

    scheme: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]

    def split(self, url: str) -> tuple[str, str, str | None] | None:
        """Return bucket, path and account of a URL; None if it is not of this service."""
        bucket, _, path = url.partition(":")[2].lstrip("/").partition("/")
        return bucket, path, None

    def own_account(self) -> str | None:
        """Return the account of the environment, empty if it names none; None if there are no accounts."""
        return None

    def parse(self, url: str) -> BucketLocation | None:
        if (parts := self.split(url)) is None:
            return None
        bucket, path, account = parts
        prefix = path.strip("/")
        names = prefix.split("/") if prefix else []
        is_odd = not {"", ".", ".."}.isdisjoint(names) or _ODD.search(prefix)
        if not _NAME.fullmatch(bucket) or (account is not None and not ACCOUNT.fullmatch(account)):
            form = f"{self.scheme}://bucket/prefix, with at least 3 characters in the bucket's name"
            raise UsageError(f"DEST is not the URL of a bucket: use {form}.")
        if is_odd or len(prefix.encode("utf-8", "replace")) > _LONGEST_PREFIX:
            raise UsageError(
                f"DEST is in {self.scheme}://{bucket}: a prefix must have at most {_LONGEST_PREFIX} bytes, "
                "without '?', '#' and control characters, and no part of it may be empty, '.' or '..'."
            )
        return BucketLocation(bucket, prefix, scheme=self.scheme, account=account)

    def resolved(self, location: BucketLocation) -> BucketLocation:
        if location.profile or location.region:
            raise UsageError("--dest-profile and --dest-region are for s3:// only.")
        return location

    def open_store(
        self,
        work: Path,
        location: BucketLocation,
        on_silent: Callable[[str], None],
        worker_parts: str = "",
        is_stopped: IsStopped = never,
    ) -> Store:
        from stacpull_cloud.bucket_store import BucketStore  # noqa: PLC0415 - obstore
        from stacpull_cloud.objects import Objects  # noqa: PLC0415 - obstore

        return BucketStore(work, Objects(location, on_silent, is_stopped), worker_parts)

    def open_files(
        self, location: BucketLocation, on_silent: Callable[[str], None], is_stopped: IsStopped = never
    ) -> StoredFiles:
        from stacpull_cloud.bucket_store import BucketFiles  # noqa: PLC0415 - obstore
        from stacpull_cloud.objects import Objects  # noqa: PLC0415 - obstore

        return BucketFiles(Objects(location, on_silent, is_stopped))

    def lease(self, store: Store) -> AbstractContextManager[BucketLease]:
        from stacpull_cloud.lease import Lease  # noqa: PLC0415 - obstore

        objects = cast("BucketStore", store).objects
        return Lease(objects, store.staged.work, store.staged.path.stat().st_ino)


class S3Buckets(Buckets):
    scheme, variables = "s3", ("AWS_",)

    def resolved(self, location: BucketLocation) -> BucketLocation:
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


class GoogleBuckets(Buckets):
    scheme, variables = "gs", ("GOOGLE_", "STORAGE_EMULATOR_HOST")


class AzureContainers(Buckets):
    """Also `abfs://container@account…`, and `https://account.blob.core.windows.net/container`."""

    scheme, variables = "az", ("AZURE_",)

    def own_account(self) -> str | None:
        return azure_setting("AccountName") or ""

    def split(self, url: str) -> tuple[str, str, str | None] | None:
        scheme, _, rest = url.partition(":")
        bucket, _, path = rest.lstrip("/").partition("/")
        account: str | None
        if scheme.lower() == "https":
            account = bucket.lower().removesuffix(_AZURE_HOST)
            if account == bucket.lower():
                return None
            bucket, _, path = path.partition("/")
        else:
            bucket, _, server = bucket.partition("@")
            account = server.lower().removesuffix(_LAKE_HOST).removesuffix(_AZURE_HOST) or None
        return bucket, path, account


def azure_setting(name: str) -> str | None:
    """Return a field of AZURE_STORAGE_CONNECTION_STRING, or else its variable of the environment."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or ""
    fields = {field.partition("=")[0].strip(): field.partition("=")[2].strip() for field in text.split(";")}
    return fields.get(name) or os.environ.get(_AZURE_VARIABLES.get(name, ""))


S3, GOOGLE, AZURE = S3Buckets(), GoogleBuckets(), AzureContainers()
