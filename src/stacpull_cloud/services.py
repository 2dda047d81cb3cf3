"""obstore's stores: endpoints, credentials, regions and authorities.

obstore would request credentials from the metadata service of a cloud machine if it finds none. It is only
given a store without keys if the user allowed that (`BucketLocation.metadata`). Otherwise requests without
keys are not signed.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from stacpull.aws import AwsCredentials, AwsSettings, Credentials
from stacpull.errors import CredentialsError, DestinationError
from stacpull.hosts import refused_always
from stacpull.models import BucketLocation
from stacpull.proxies import proxy_of
from stacpull.redact import Secret

_REQUEST = timedelta(hours=1)
"""The most time of a request; `_SILENT` ends a silent one."""
_SILENT = timedelta(seconds=60)
_RENEWED = timedelta(minutes=5)
_REGION_HEAD = 10.0
DEFAULT_REGION = "us-east-1"
AZURE_HOST = ".blob.core.windows.net"


class Service:
    """The service of a bucket. Nothing is sent or read before `store` is used.

    Requests are not signed if `is_signed` is False (Google and Azure).
    """

    def __init__(self, location: BucketLocation, *, is_signed: bool = True) -> None:
        self._location = location
        self._is_signed = is_signed
        self._making = threading.Lock()
        self._aws = AwsCredentials(
            AwsSettings(location.region, location.endpoint_url, location.profile),
            allow_instance_metadata=location.metadata,
        )

    @property
    def store(self) -> Any:
        """Obstore's store of the bucket."""
        with self._making:
            return self._store

    @cached_property
    def _store(self) -> Any:
        made = {"s3": self._s3, "gs": self._google, "az": self._azure}[self._location.scheme]
        if self._location.endpoint_url:
            _refuse_address(self._location)
        return made()

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The keys that requests are signed with now, to remove them from everything that is written."""
        if self._location.scheme == "s3":
            now = self._keys()
            return tuple(Secret(key) for key in (now.access_key, now.secret_key, now.token) if key)
        found = map(os.environ.get, _AZURE_KEYS) if self._location.scheme == "az" else ()
        return tuple(Secret(value) for value in found if value)

    def _client(self) -> Any:
        location = self._location
        url = location.endpoint_url or "https://s3.amazonaws.com"
        options: dict[str, Any] = {
            "allow_http": url.startswith("http:"),
            "timeout": _REQUEST,
            "read_timeout": _SILENT,
            "connect_timeout": timedelta(seconds=20),
        }
        bundle = os.environ.get("AWS_CA_BUNDLE") if location.scheme == "s3" else None
        if bundle := location.ca_bundle or bundle:
            try:
                options["root_certificate"] = Path(bundle).read_text(encoding="ascii", errors="replace")
            except OSError as error:
                raise DestinationError(f"{bundle} cannot be read: {error.strerror}.") from error
        if proxy := proxy_of(url):
            options["proxy_url"] = proxy.url
        return options

    # --- Amazon S3 and compatible services ---------------------------------------------------------------

    def _s3(self) -> Any:
        location = self._location
        keys = self._keys()  # an error now, not in a thread of obstore
        region = location.region or self._region()
        top = "com.cn" if region.startswith("cn-") else "com"
        endpoint = location.endpoint_url or f"https://s3.{region}.amazonaws.{top}"
        return S3Store(  # what is not given here would come from the environment
            location.bucket,
            endpoint=endpoint,
            aws_endpoint_url_s3=endpoint,
            region=region,
            virtual_hosted_style_request=False,
            skip_signature=False,
            access_key_id=keys.access_key,
            secret_access_key=keys.secret_key,
            checksum_algorithm="SHA256",
            credential_provider=self._provide,
            client_options=self._client(),
            retry_config={"max_retries": 0},
        )

    def _provide(self) -> Any:
        now = self._keys()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _RENEWED,
        }

    def _keys(self) -> Credentials:
        """Return the current AWS credentials (blocks)."""
        known = self._aws.known(signing=True)
        if known is not None:
            found = known[1]
        else:
            with ThreadPoolExecutor(1, "stacpull-aws") as thread:  # this thread may have a loop
                found = thread.submit(asyncio.run, self._aws.frozen()).result()
        if found is None:
            raise CredentialsError(
                f"{self._location.url} needs credentials, and there are none: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or use --dest-profile."
            )
        return found

    def _region(self) -> str:
        """Return the region of a bucket of Amazon, which an anonymous request tells.

        object_store cannot follow a redirect to another region.
        """
        if self._location.endpoint_url is not None or proxy_of("https://s3.amazonaws.com") is not None:
            return DEFAULT_REGION
        connection = http.client.HTTPSConnection(
            "s3.amazonaws.com",
            timeout=_REGION_HEAD,
            context=ssl.create_default_context(cafile=self._location.ca_bundle),
        )
        try:
            connection.request("HEAD", f"/{self._location.bucket}")
            return connection.getresponse().getheader("x-amz-bucket-region") or DEFAULT_REGION
        except OSError:
            return DEFAULT_REGION
        finally:
            connection.close()

    # --- Google Cloud Storage ----------------------------------------------------------------------------

    def _google(self) -> Any:
        location = self._location
        how: dict[str, Any] = {} if self._is_signed else {"skip_signature": True}
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or os.environ.get("GOOGLE_SERVICE_ACCOUNT")
        usual = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
        if how:
            pass  # anonymous
        elif named:
            how["application_credentials"] = named
        elif usual.is_file():
            how["application_credentials"] = str(usual)
        elif not location.metadata:
            how["skip_signature"] = True
        if location.endpoint_url:
            how["base_url"] = location.endpoint_url
        return GCSStore(
            location.bucket, **how, client_options=self._client(), retry_config={"max_retries": 0}
        )

    # --- Azure Blob Storage ------------------------------------------------------------------------------

    def _azure(self) -> Any:
        location = self._location
        connection = connection_string()
        account = (
            location.account or connection.get("AccountName") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        )
        if not account:
            raise CredentialsError(
                f"{location.url} needs the name of its storage account: set AZURE_STORAGE_ACCOUNT_NAME, or "
                "use DEST as https://ACCOUNT.blob.core.windows.net/container/prefix."
            )
        how: dict[str, Any] = {"account_name": account}
        key = connection.get("AccountKey") or os.environ.get("AZURE_STORAGE_ACCOUNT_KEY")
        sas = connection.get("SharedAccessSignature") or os.environ.get("AZURE_STORAGE_SAS_TOKEN")
        client = {
            name: value
            for name in ("client_id", "client_secret", "tenant_id", "federated_token_file")
            if (value := os.environ.get(f"AZURE_{name.upper()}"))
        }
        if not self._is_signed:
            how["skip_signature"] = True
        elif key:
            how["account_key"] = key
        elif sas:
            how["sas_token"] = sas.lstrip("?")
        elif {"client_id", "tenant_id"} < client.keys():  # else obstore asks for metadata
            how.update(client)
        elif os.environ.get("AZURE_USE_AZURE_CLI"):
            how["use_azure_cli"] = True
        elif not location.metadata:
            how["skip_signature"] = True
        own = connection.get("BlobEndpoint") if self._is_signed else None
        if endpoint := location.endpoint_url or own:
            how["endpoint"] = endpoint
        return AzureStore(
            container_name=location.bucket,
            **how,
            client_options=self._client(),
            retry_config={"max_retries": 0},
        )


_AZURE_KEYS = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_CONNECTION_STRING",
)


def connection_string() -> dict[str, str]:
    """Return the fields of AZURE_STORAGE_CONNECTION_STRING."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or ""
    fields = (field.partition("=") for field in text.split(";") if "=" in field)
    return {name.strip(): value.strip() for name, _, value in fields}


def _refuse_address(location: BucketLocation) -> None:
    """Look up the endpoint, and refuse an address that is never connected to."""
    host = urlsplit(location.endpoint_url or "").hostname or ""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return  # the request says so
    for address in found:
        if (reason := refused_always(address)) is not None:
            raise DestinationError(
                f"The endpoint of {location.url} is {host}, which is never connected to: it is {reason}."
            )
