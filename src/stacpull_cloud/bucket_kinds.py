"""The services of buckets that `stacpull` finds by its entry points, with all that is special to each.

If obstore finds no credentials, it requests them from the metadata service of a cloud machine. It may do so
only if the user allows it (`BucketLocation.metadata`); otherwise, requests without keys are not signed.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn, cast
from urllib.parse import urlsplit

from msgspec.structs import replace
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from stacpull.aws import AwsCredentials, AwsSettings
from stacpull.errors import CredentialsError, DestinationError, StacpullError, UsageError
from stacpull.hosts import never_allowed_reason
from stacpull.models import BucketLocation
from stacpull.proxies import proxy_of
from stacpull.redact import Secret
from stacpull.store.inspection import NO_NAMES, StoredFiles, WaitHooks
from stacpull.store.protocol import BucketLease, Store
from stacpull.store.staging import StagedParts
from stacpull.system import AWS_ENDPOINTS, expanded_or_none, with_active_endpoints
from stacpull_cloud.bucket_store import BucketFiles, BucketStore
from stacpull_cloud.cloud_source import CloudTransport, list_prefix
from stacpull_cloud.objects import Objects, plain_reason

_NO_KEYS = "set GOOGLE_APPLICATION_CREDENTIALS, or use --aws-metadata (the identity of this machine)"
_ACCOUNT_HOST = re.compile(r"([a-z0-9]{3,24})\.(?:blob|dfs)\.(.+)")
_CLOUDS = ("core.windows.net", "core.chinacloudapi.cn", "core.usgovcloudapi.net")
"""The domains of Azure's clouds, the usual one first. No URL leads to the account of another domain."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_ODD = re.compile(r"[\x00-\x1f\x7f?#]")
_RENEWED = timedelta(minutes=5)
_AWS_KEYS = ("access_key_id", "secret_access_key", "token")
_AWS = ThreadPoolExecutor(1, "stacpull-aws")
"""Reads credentials of AWS: `AwsCredentials` expects one loop, and other threads may run their own."""
_SECRET = (*_AWS_KEYS, "account_key", "sas_token", "client_secret")  # arguments of obstore's stores


def azure_setting(name: str, variable: str = "") -> str | None:
    """Return a field of AZURE_STORAGE_CONNECTION_STRING, or else a variable of the environment."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or ""
    fields = {field.partition("=")[0].strip(): field.partition("=")[2].strip() for field in text.split(";")}
    return fields.get(name) or os.environ.get(variable)


class Service:
    """The service of a bucket. Endpoint, credentials and authorities are read when `store` is used.

    The class itself is registered, in `stacpull.stores` (`StoreKind`) and `stacpull.schemes`.
    """

    scheme: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]
    key_variables: ClassVar[tuple[str, ...]] = ()  # as in `schemes.py: Scheme`
    missing_bucket: ClassVar[str] = "NoSuchBucket"  # in errors
    keys_advice: ClassVar[str] = "check the keys"
    errors: ClassVar[Mapping[str, tuple[type[StacpullError], str]]] = {}  # what to say, by a text in errors
    transport = classmethod(CloudTransport)
    list_prefix = staticmethod(list_prefix)

    @classmethod
    def split(cls, url: str) -> tuple[BucketLocation, str] | None:
        """Return the bucket and the path of a URL, or None. `is_signed`: the credentials here are for it."""
        bucket, _, path = url.partition(":")[2].removeprefix("/").removeprefix("/").partition("/")
        return BucketLocation(bucket, scheme=cls.scheme), path

    @classmethod
    def parse(cls, url: str) -> BucketLocation | None:
        if (parts := cls.split(url)) is None:
            return None
        location, path = parts
        prefix = path.strip("/")
        is_bucket = _NAME.fullmatch(location.bucket)
        if not is_bucket or (prefix and not NO_NAMES.isdisjoint(prefix.split("/"))) or _ODD.search(prefix):
            raise UsageError(
                f"DEST is not the URL of a bucket: use {cls.scheme}://bucket/prefix, without '?', '#', "
                "empty parts, '.' and '..'. A bucket has at least 3 characters. Keys are set as variables."
            )
        return replace(location, prefix=prefix, is_signed=True)  # the user names DEST

    @classmethod
    def resolved(cls, location: BucketLocation) -> BucketLocation:
        if location.profile or location.region:
            raise UsageError("--dest-profile and --dest-region are for s3:// only.")
        return location

    @classmethod
    def open_store(cls, staged: StagedParts, location: BucketLocation, hooks: WaitHooks) -> Store:
        return BucketStore(staged, Objects(location, hooks))

    @classmethod
    def open_files(cls, location: BucketLocation, hooks: WaitHooks) -> StoredFiles:
        return BucketFiles(Objects(location, hooks))

    @classmethod
    def lease(cls, store: Store) -> AbstractContextManager[BucketLease]:
        return cast("BucketStore", store).lease.held()

    def __init__(self, location: BucketLocation) -> None:
        self.location = location

    def settings(self) -> tuple[Any, str | None, dict[str, Any]]:
        """Return obstore's class of stores, the endpoint if the user gives one, and the store's arguments."""
        raise NotImplementedError

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The keys that requests are signed with now, to remove them from everything that is written."""
        arguments = self.settings()[2]
        return tuple(Secret(arguments[name]) for name in _SECRET if arguments.get(name))

    def abort_uploads(self, prefix: str, is_own: Callable[[str], bool]) -> None:
        """If the service keeps the parts of broken uploads, abort those whose key is our own."""

    @cached_property
    def store(self) -> Any:
        location = self.location
        store_class, endpoint, arguments = self.settings()
        host = urlsplit(endpoint or "").hostname
        with suppress(OSError):  # the request says so
            for *_, address in socket.getaddrinfo(host, None) if host else ():
                if (reason := never_allowed_reason(str(address[0]))) is not None:
                    raise UsageError(f"stacpull does not connect to {host}: this endpoint is {reason}.")
        url = arguments.get("endpoint") or arguments["base_url"]
        options: dict[str, Any] = {
            "allow_http": url.startswith("http:"),
            "timeout": timedelta(hours=1),
            "read_timeout": timedelta(seconds=min(location.read_timeout, 86_400)),
            "connect_timeout": timedelta(seconds=20),
        }
        if bundle := location.ca_bundle:
            try:
                ssl.create_default_context(cafile=bundle)  # obstore does not say what is wrong
                options["root_certificate"] = Path(bundle).read_text(encoding="ascii", errors="replace")
            except OSError as error:
                raise UsageError(f"{bundle} cannot be read: {error.strerror}.") from error
        if proxy := proxy_of(url):
            options["proxy_url"] = proxy.url
        given = {name: value for name, value in arguments.items() if value is not None}
        no_retries = {"max_retries": 0}
        try:
            return store_class(location.bucket, **given, client_options=options, retry_config=no_retries)
        except exceptions.BaseError as error:  # it reads keys
            why = plain_reason(str(error))
            raise CredentialsError(f"The credentials for {location.url} cannot be used: {why}.") from error


class AmazonS3(Service):
    scheme, variables = "s3", ("AWS_",)
    keys_advice = "check the keys (--dest-profile sets keys for DEST only)"
    errors: ClassVar = dict.fromkeys(
        ("redirect without LOCATION", "the region '", "the region is"),  # in a 301, and in a 400, as below
        (DestinationError, "is in another region: name it with --dest-region"),
    ) | {
        "HeaderMalformed": (CredentialsError, "refuses the signature: check --dest-region, then the keys"),
        "RequestTimeTooSkewed": (CredentialsError, "refuses the time of a request: correct the clock here"),
    }

    @cached_property
    def _aws(self) -> AwsCredentials:
        location = self.location
        settings = AwsSettings(location.region, location.endpoint_url, location.profile)
        return AwsCredentials(settings, allow_instance_metadata=location.metadata, flag="--dest-profile")

    def settings(self) -> tuple[Any, str | None, dict[str, Any]]:
        region = self.location.region or "us-east-1"
        top = "com.cn" if region.startswith("cn-") else "com"
        endpoint = self.location.endpoint_url or f"https://s3.{region}.amazonaws.{top}"
        arguments = {  # what is not given here would come from the environment
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "region": region,
            "virtual_hosted_style_request": False,
            "skip_signature": False,
            "checksum_algorithm": "SHA256",
            "credential_provider": lambda: {**self._keys(), "expires_at": datetime.now(UTC) + _RENEWED},
            **self._keys(),  # an error now, not in a thread of obstore
        }
        return S3Store, self.location.endpoint_url, arguments

    def _keys(self) -> dict[str, str | None]:
        keys = _AWS.submit(asyncio.run, self._aws.current()).result()
        if keys is None:
            raise CredentialsError(
                f"{self.location.url} needs credentials, and there are none: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or use --dest-profile or --aws-metadata (the role of this machine)."
            )
        return dict(zip(_AWS_KEYS, (keys.access_key, keys.secret_key, keys.token), strict=True))

    def abort_uploads(self, prefix: str, is_own: Callable[[str], bool]) -> None:
        from botocore.config import Config  # noqa: PLC0415 - 0.2 s, only after a failure
        from botocore.session import Session  # noqa: PLC0415 - see above

        with suppress(Exception):  # if the keys do not allow it, a rule of the bucket may remove them later
            arguments, bucket = self.settings()[2], self.location.bucket
            session = Session()
            session.set_credentials(*map(arguments.get, _AWS_KEYS))
            once = {"total_max_attempts": 1}
            # the mode "auto" would ask the metadata service for the region
            config = Config(s3={"addressing_style": "path"}, retries=once, defaults_mode="legacy")
            where = {"region_name": arguments["region"], "endpoint_url": arguments["endpoint"]}
            s3 = session.create_client("s3", **where, verify=self.location.ca_bundle, config=config)
            with closing(s3):
                pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
                for upload in pages.search("Uploads[]"):  # None for a page without any
                    if upload and is_own(key := upload["Key"]):
                        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])

    @classmethod
    def resolved(cls, location: BucketLocation) -> BucketLocation:
        endpoint_url = next(filter(None, map(with_active_endpoints(os.environ).get, AWS_ENDPOINTS)), None)
        given = AwsSettings(location.region, location.endpoint_url or endpoint_url, location.profile)
        settings = _AWS.submit(asyncio.run, AwsCredentials(given, flag="--dest-profile").settings()).result()
        endpoint_url = (settings.endpoint_url or "").rstrip("/") or None
        bundle = location.ca_bundle or os.environ.get("AWS_CA_BUNDLE")
        return replace(location, region=settings.region, endpoint_url=endpoint_url, ca_bundle=bundle)


class GoogleStorage(Service):
    scheme, variables = "gs", ("GOOGLE_", "STORAGE_EMULATOR_HOST")
    errors: ClassVar = {_NO_KEYS: (CredentialsError, f"needs credentials, and there are none: {_NO_KEYS}")}

    def settings(self) -> tuple[Any, str | None, dict[str, Any]]:
        get = os.environ.get
        endpoint = self.location.endpoint_url or get("STORAGE_EMULATOR_HOST")
        key_file = get("GOOGLE_APPLICATION_CREDENTIALS") or get("GOOGLE_SERVICE_ACCOUNT")
        gcloud_file = expanded_or_none("~/.config/gcloud/application_default_credentials.json")
        arguments: dict[str, Any] = {"base_url": endpoint or "https://storage.googleapis.com"}
        if key_file or (gcloud_file and gcloud_file.is_file()):  # obstore would also use an empty variable
            arguments["application_credentials"] = key_file or str(gcloud_file)
        elif not self.location.metadata:
            arguments |= {"skip_signature": True, "credential_provider": _no_google_credentials}
        return GCSStore, endpoint, arguments


def _no_google_credentials() -> NoReturn:  # obstore would sign writes with a token of a metadata service
    raise ValueError(_NO_KEYS)


def _account_at(address: str) -> tuple[str, str]:
    """Return the account and cloud of a host or endpoint. That of an emulator is `http://host:port/ACCOUNT`."""
    host, _, path = address.lower().rpartition("://")[2].partition("/")
    if found := _ACCOUNT_HOST.fullmatch(host):
        return found[1], found[2] if found[2] in _CLOUDS else ""
    return path.rstrip("/").rpartition("/")[2], ""


def _own_account() -> tuple[str, str]:
    """Return the account and the cloud for which the environment has credentials; "" if it does not say."""
    name, cloud = _account_at(azure_setting("BlobEndpoint") or "")
    name = azure_setting("AccountName") or name or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or ""
    return name.lower(), cloud or azure_setting("EndpointSuffix") or ""


class AzureBlobs(Service):
    """Also `abfs://container@ACCOUNT.dfs.SUFFIX`, and `https://ACCOUNT.blob.SUFFIX/container`."""

    scheme, variables = "az", ("AZURE_",)
    key_variables = tuple(
        f"AZURE_STORAGE_{name}" for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "SAS_TOKEN", "CONNECTION_STRING")
    )
    missing_bucket = "ContainerNotFound"

    @classmethod
    def split(cls, url: str) -> tuple[BucketLocation, str] | None:
        scheme, _, address = url.partition(":")
        host, _, path = address.removeprefix("/").removeprefix("/").partition("/")
        if scheme.lower() == "https":
            bucket, _, path = path.partition("/")
            if not _account_at(host)[1]:
                return None
        else:
            bucket, _, host = host.partition("@")
        if not host:
            return BucketLocation(bucket, scheme=cls.scheme), path
        name, cloud = _account_at(host)
        if not cloud:
            raise UsageError(f"An Azure URL names an account as ACCOUNT.dfs.SUFFIX ({', '.join(_CLOUDS)}).")
        own_name, own_cloud = _own_account()
        is_own = (name, cloud) == (own_name, own_cloud or _CLOUDS[0])
        return BucketLocation(bucket, scheme="abfs", server=f"{name}.dfs.{cloud}", is_signed=is_own), path

    @classmethod
    def resolved(cls, location: BucketLocation) -> BucketLocation:
        """Add the account and its endpoint, which a ledger records: another account has other files."""
        location = super().resolved(location)
        accounts = {_account_at(location.server)}
        if location.is_signed:
            accounts |= {_account_at(location.endpoint_url or ""), _own_account()}
        names = {name for name, _ in accounts if name}
        clouds = {cloud for _, cloud in accounts if cloud}
        if len(names) > 1 or len(clouds) > 1:
            raise UsageError(
                "DEST, --dest-endpoint-url and the variables AZURE_STORAGE_* name different accounts: "
                f"{', '.join([*sorted(names), *sorted(clouds)])}. Use the credentials of the account in DEST."
            )
        if not names:
            raise CredentialsError(f"{location.url} needs an account: set AZURE_STORAGE_ACCOUNT_NAME.")
        (name,) = names
        (cloud,) = clouds or _CLOUDS[:1]
        stated = location.is_signed and azure_setting("BlobEndpoint")
        endpoint = location.endpoint_url or stated or f"https://{name}.blob.{cloud}"
        return replace(location, account=name, endpoint_url=endpoint.rstrip("/"))

    def settings(self) -> tuple[Any, str | None, dict[str, Any]]:
        location = self.location
        key = azure_setting("AccountKey", "AZURE_STORAGE_ACCOUNT_KEY")
        sas = azure_setting("SharedAccessSignature", "AZURE_STORAGE_SAS_TOKEN")
        get, secret = os.environ.get, os.environ.get("AZURE_CLIENT_SECRET")
        has_secret = secret or get("AZURE_FEDERATED_TOKEN_FILE")
        is_client = get("AZURE_CLIENT_ID") and get("AZURE_TENANT_ID") and has_secret
        uses_cli = get("AZURE_USE_AZURE_CLI", "").lower() not in {"", "0", "false", "n", "no", "off"}
        can_sign = key or sas or is_client or uses_cli or location.metadata
        arguments = {
            "account_name": location.account,
            "endpoint": location.endpoint_url,
            "account_key": key,
            "sas_token": sas and sas.lstrip("?"),
            "client_secret": secret,  # obstore finds the others
            "use_azure_cli": uses_cli,
            "skip_signature": not (location.is_signed and can_sign),
        }
        return AzureStore, location.endpoint_url, arguments
