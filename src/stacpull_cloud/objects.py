"""The objects of one prefix of a bucket, through obstore.

Every request goes through `Objects._send`, which repeats it while the service fails. obstore itself repeats
nothing: it would not repeat uploads, and its patience is not ours. It would request credentials from the
metadata service of a cloud machine if it finds none, so it is only given a store without keys if the user
allowed that (`BucketLocation.metadata`); otherwise requests without keys are not signed.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from stacpull.aws import AwsCredentials, AwsSettings, Credentials
from stacpull.errors import CredentialsError, DestinationError, UsageError
from stacpull.hosts import refused_always
from stacpull.models import BucketLocation
from stacpull.proxies import proxy_of
from stacpull.redact import Secret
from stacpull_cloud.bucket_kinds import awaited_apart

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

_MISSING = (exceptions.NotFoundError, FileNotFoundError)

THREADS = 32  # simultaneous requests of a process
_PATIENCE = 120.0  # seconds for which requests are repeated
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds, at most
_SILENT_AFTER = 4  # attempts, after which a sentence says so
_SINGLE_PUT = 8 << 20  # bytes: longer files are sent in parts
_PARTS_AT_ONCE = 4
_MEDIUM, _MEDIUM_AT_ONCE, _LONG_AT_ONCE = 1 << 20, 8, 2
"""Bytes from which few bodies are sent at once: that many, and that many in parts. They are in memory."""
PIECE = 4 << 20  # bytes that are read at once
_MOST_PARTS = 9_000  # S3 and GCS allow 10,000
_SHORTEST_PART = 8 << 20
_FIRST_ERROR = 300
STATUS = re.compile(r"\bstatus code: (304|[45][0-9]{2})\b")
"""What obstore's errors say of a response that is not a success."""
_CODE = re.compile(r"(?:<Code>|\(code: )([A-Za-z0-9]+)[<)]")
"""In the body of an error, and in what obstore says of an object that S3 does not remove."""
_REFUSED_KEYS = re.compile("AccessDenied|Authent|Authoriz|Token|AccessKeyId|Signature|InvalidSecurity")
"""Codes of errors for which the keys are to blame, not what they allow."""
_REPEATED_CODES = frozenset(
    {"NoSuchUpload", "OperationAborted", "ConditionalRequestConflict", "InvalidUploadId", "RequestTimeout"}
)
_NO_KEYS = "set GOOGLE_APPLICATION_CREDENTIALS"
_UNTRUSTED = "InvalidCertificate"
"""What obstore's errors say of a TLS certificate that no authority here has issued."""
_ANOTHER_REGION = re.compile("redirect without LOCATION|the region '")
"""In obstore's error for a 301 of S3, and in the message of its 400: malformed keys have the same code."""
_REPEATED = frozenset({"408", "409", "429", "500", "502", "503", "504"})
_REQUEST = timedelta(hours=1)  # the most time of a request; `_SILENT` ends a silent one
_SILENT = timedelta(seconds=60)
_CONNECT = timedelta(seconds=20)
_RENEWED = timedelta(minutes=5)
DEFAULT_REGION = "us-east-1"


class Found(NamedTuple):
    path: str  # relative to the prefix
    size: int
    modified: datetime
    etag: str | None
    attributes: Mapping[str, str] = {}  # metadata, by name without the service's prefix


class Objects:
    """The objects below a prefix. Any thread may call any method.

    Every method raises `CredentialsError` if there are no credentials or the service refuses them,
    `UsageError` if its address or `ca_bundle` cannot be used, and `DestinationError` if it fails.
    """

    def __init__(self, location: BucketLocation, on_silent: Callable[[str], None] = lambda _: None) -> None:
        self.location = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._on_silent: Callable[[str], None] | None = on_silent
        self._failing_since: float | None = None
        """When requests began to fail, if none has succeeded since: their patience ends together."""
        self.service = Service(location)
        self._medium = threading.BoundedSemaphore(_MEDIUM_AT_ONCE)
        self._long = threading.BoundedSemaphore(_LONG_AT_ONCE)

    def key(self, path: str) -> str:
        return self._prefix + path

    # --- reading -----------------------------------------------------------------------------------------

    def find(self, path: str) -> Found | None:
        def head(store: Any) -> Found:
            found = obstore.get(store, self.key(path), options={"head": True})
            return self._found(cast("Mapping[str, Any]", found.meta), found.attributes)

        return self._send("look at", path, head, missing_ok=True)

    def read(self, path: str, longest: int) -> tuple[Found, bytes | None] | None:
        """Return an object, without its content if that is longer than `longest` bytes."""

        def get(store: Any) -> tuple[Found, bytes | None]:
            reply = obstore.get(store, self.key(path))
            found = self._found(cast("Mapping[str, Any]", reply.meta), reply.attributes)
            return found, bytes(reply.bytes()) if found.size <= longest else None

        return self._send("read", path, get, missing_ok=True)

    def read_range(self, found: Found, start: int, length: int) -> bytes:
        def get(store: Any) -> bytes:
            options: Any = {"range": (start, start + length)}
            if found.etag is not None:
                options["if_match"] = found.etag
            return bytes(obstore.get(store, self.key(found.path), options=options).bytes())

        data = self._send("read", found.path, get)
        if data is None or len(data) != length:
            url = self.location.url
            raise DestinationError(f"{url}/{found.path} was replaced or removed while it was read.")
        return data

    def open(self, found: Found) -> BinaryIO:
        """Open an object, which is read in pieces, and must not be replaced until its end."""
        return cast("BinaryIO", io.BufferedReader(_ObjectFile(self, found), PIECE))

    def pages(self, directory: str = "") -> Iterator[list[Found]]:
        prefix = self.key(directory + "/" if directory else "")
        listing: list[Iterator[Any]] = []
        last = ""

        def page(store: Any) -> Any:
            if not listing:  # again from the start after a failure: Azure has no listing after a key
                listing.append(iter(obstore.list(store, prefix or None, chunk_size=1000)))
            try:
                return next(listing[0], ())
            except BaseException:
                listing.clear()
                raise

        while listed := self._send("list", directory, page):
            new = [one for one in listed if one["path"] > last]
            last = max(last, listed[-1]["path"])
            if new:
                yield [self._found(one) for one in new if not one["path"].endswith("/")]

    def names(self, directory: str) -> list[str]:
        prefix = self.key(directory + "/" if directory else "")
        listed: Any = self._send(
            "list", directory, lambda store: obstore.list_with_delimiter(store, prefix or None)
        )
        paths = [*(one["path"] for one in listed["objects"]), *listed["common_prefixes"]]
        return [name for path in paths if (name := path[len(prefix) :].rstrip("/"))]

    # --- writing -----------------------------------------------------------------------------------------

    def put(
        self, path: str, body: bytes | memoryview | Path, attributes: Mapping[str, str], *, create: bool
    ) -> bool:
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        is_long = size > _SINGLE_PUT
        part = max(_SHORTEST_PART, -(-size // _MOST_PARTS >> 20) << 20)  # whole mebibytes, as maps need pages

        def send(store: Any) -> bool:
            if is_long and create and self.find(path) is not None:  # parts have no condition
                return False
            sent: Any = body
            if isinstance(body, Path):
                sent = _mapped(body, size, part) if is_long else body.read_bytes()
            try:
                obstore.put(
                    store,
                    self.key(path),
                    sent,
                    attributes=cast("Any", dict(attributes)),
                    mode="create" if create and not is_long else "overwrite",
                    use_multipart=is_long,
                    chunk_size=part,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                if " 409 " in str(error) and self.find(path) is None:  # two writers at once; S3 says: repeat
                    raise
                return False
            return True

        with self._long if is_long else self._medium if size > _MEDIUM else nullcontext():
            return bool(self._send("write", path, send))

    def remove(self, path: str) -> None:
        self._send("remove", path, lambda store: obstore.delete(store, self.key(path)), missing_ok=True)

    # --- requests ----------------------------------------------------------------------------------------

    def _found(self, meta: Mapping[str, Any], attributes: Mapping[Any, Any] | None = None) -> Found:
        path = str(meta["path"])[len(self._prefix) :]
        named = {str(name).lower(): str(value) for name, value in (attributes or {}).items()}
        return Found(path, int(meta["size"]), meta["last_modified"], meta.get("e_tag"), named)

    def _send(self, doing: str, path: str, call: Callable[[Any], T], *, missing_ok: bool = False) -> T | None:
        def attempt() -> T:
            return call(self.service.store)

        answer: T | None = None
        try:
            try:
                answer = attempt()
            except (exceptions.BaseError, OSError) as error:
                if not _is_passing(error):
                    raise
                answer = self._repeat(attempt)
        except (exceptions.BaseError, OSError) as error:
            if not missing_ok or not isinstance(error, _MISSING):
                raise self._translated(doing, path, error) from error
        self._failing_since = None
        return answer

    def _repeat(self, attempt: Callable[[], T]) -> T:
        from tenacity import (  # noqa: PLC0415 - 20 ms, and most runs repeat nothing
            Retrying,
            retry_if_exception,
            wait_random_exponential,
        )

        since = self._failing_since = self._failing_since or time.monotonic()
        return Retrying(
            retry=retry_if_exception(_is_passing),
            stop=lambda state: time.monotonic() + state.upcoming_sleep - since >= _PATIENCE,
            wait=wait_random_exponential(_FIRST_PAUSE, _LONGEST_PAUSE),
            before_sleep=self._note_silence,
            reraise=True,
        )(attempt)

    def _note_silence(self, state: RetryCallState) -> None:
        if state.attempt_number == _SILENT_AFTER and self._on_silent is not None:
            on_silent, self._on_silent = self._on_silent, None
            why = unreachable(str(state.outcome and state.outcome.exception())) or "does not answer"
            on_silent(f"{self.location.url} {why}; still trying.")

    def _translated(self, doing: str, path: str, error: Exception) -> DestinationError | CredentialsError:
        text = str(error)
        code, status = next(iter(_CODE.findall(text)), ""), STATUS.search(text)
        url = self.location.url
        if _UNTRUSTED in text:
            return DestinationError(
                f"The TLS certificate of {url} is not trusted: --ca-bundle FILE trusts one."
            )
        if _NO_KEYS in text:
            return CredentialsError(f"{url} needs credentials, and there are none: {_NO_KEYS}.")
        if _ANOTHER_REGION.search(text):
            return DestinationError(f"{url} is in another region: name it with --dest-region.")
        if (status is not None and status[1] in {"401", "403"}) or _REFUSED_KEYS.search(code):
            what = f"to {doing} {path or 'its objects'}"
            return CredentialsError(f"{url} refuses the credentials {what} ({code or 'access denied'}).")
        if (
            code == "NoSuchBucket"
            or "ContainerNotFound" in text
            or (isinstance(error, _MISSING) and doing in {"list", "write"})
        ):
            return DestinationError(f"There is no bucket {self.location.bucket}: create it first ({url}).")
        if reason := unreachable(text):
            return DestinationError(f"{url} {reason}. Check the address and the network.")
        return DestinationError(
            f"{url} failed to {doing} {path or 'its objects'} ({code or plain_reason(text)}): check the "
            "bucket, then `stacpull resume`."
        )


class _ObjectFile(io.RawIOBase):
    def __init__(self, objects: Objects, found: Found) -> None:
        super().__init__()
        self._objects, self._found, self._at = objects, found, 0

    def readable(self) -> bool:
        return True

    seekable = readable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._found.size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # any writable buffer
        length = min(len(buffer), self._found.size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._objects.read_range(self._found, self._at, length)
        self._at += length
        return length


def _mapped(file: Path, size: int, part: int) -> Iterator[memoryview]:
    """Yield the parts of a long file, which are sent from the page cache: obstore would copy a path twice."""
    with file.open("rb") as opened:
        for at in range(0, size, part):
            length = min(part, size - at)
            yield memoryview(mmap.mmap(opened.fileno(), length, access=mmap.ACCESS_READ, offset=at))


def plain_reason(text: str) -> str:
    """Return what an error of obstore says to a reader."""
    said = re.sub(r"\s+", " ", text.partition("Debug source:")[0]).strip()
    return re.sub(r"^Generic \w+ error: ", "", said)[:_FIRST_ERROR].rstrip(".")


def unreachable(text: str) -> str:
    """Return that there was no response, if an error of obstore says so, with the address and the reason."""
    address = re.search(r"Error performing \w+ (?:REDACTED|(https?://[^/\s]+))", text)
    if "HTTP error" not in text or address is None:
        return ""
    at = f" at {address[1]}" if address[1] else ""  # obstore hides URLs with a signature of Azure
    if "kind: Connect" not in text:
        return f"does not answer{at}"
    reason = "the name is not known" if "dns error" in text else "no connection"
    if "InvalidContentType" in text:
        reason = "its answer is not TLS (http:// may be right)"
    if found := re.search(r'kind: \w+,\s+message: "([^"]+)"', text):
        reason = found[1]
    return f"cannot be reached{at}: {reason}"


def _is_passing(error: BaseException) -> bool:
    text = str(error)
    if not isinstance(error, exceptions.BaseError | OSError):
        return False
    if not _REPEATED_CODES.isdisjoint(_CODE.findall(text)):
        return True
    if (status := STATUS.search(text)) is not None:
        return status[1] in _REPEATED
    return isinstance(error, exceptions.GenericError) and "HTTP error" in text and _UNTRUSTED not in text


# --- obstore ----------------------------------------------------------------------------------------------


class Service:
    """The service of a bucket: endpoint, credentials, region and authorities, used when `store` is.

    Requests are not signed if `is_signed` is False (Google and Azure).
    """

    def __init__(self, location: BucketLocation, *, is_signed: bool = True) -> None:
        self._location = location
        self._is_signed = is_signed
        self._aws = AwsCredentials(
            AwsSettings(location.region, location.endpoint_url, location.profile),
            allow_instance_metadata=location.metadata,
        )
        self._reading = threading.Lock()  # `AwsCredentials` expects one loop, and each thread runs its own

    @cached_property
    def store(self) -> Any:
        location = self._location
        host = urlsplit(location.endpoint_url or "").hostname
        with suppress(OSError):  # the request says so
            for *_, address in socket.getaddrinfo(host, None) if host else ():
                if (reason := refused_always(str(address[0]))) is not None:
                    raise UsageError(
                        f"The endpoint of {location.url} is {host}, which is never connected to: it is "
                        f"{reason}."
                    )
        made, how = {"s3": self._s3, "gs": self._google, "az": self._azure}[location.scheme]()
        url = str(how.get("endpoint") or how.get("base_url") or "https://")
        options, once = self._client(url), {"max_retries": 0}
        try:
            return made(location.bucket, **how, client_options=options, retry_config=once)
        except exceptions.BaseError as error:  # it reads keys
            why = plain_reason(str(error))
            raise CredentialsError(f"The credentials for {location.url} cannot be used: {why}.") from error

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The keys that requests are signed with now, to remove them from everything that is written."""
        if self._location.scheme == "s3":
            now = self._keys()
            return tuple(Secret(key) for key in (now.access_key, now.secret_key, now.token) if key)
        how = self._azure()[1] if self._location.scheme == "az" else {}
        found = how.get("account_key"), how.get("sas_token"), os.environ.get("AZURE_CLIENT_SECRET")
        return tuple(Secret(value) for value in found if value)

    def _client(self, url: str) -> Any:
        location = self._location
        options: dict[str, Any] = {
            "allow_http": url.startswith("http:"),
            "timeout": _REQUEST,
            "read_timeout": _SILENT,
            "connect_timeout": _CONNECT,
        }
        bundle = os.environ.get("AWS_CA_BUNDLE") if location.scheme == "s3" else None
        if bundle := location.ca_bundle or bundle:
            try:
                ssl.create_default_context(cafile=bundle)  # obstore does not say what is wrong
                options["root_certificate"] = Path(bundle).read_text(encoding="ascii", errors="replace")
            except OSError as error:
                raise UsageError(f"{bundle} cannot be read: {error.strerror}.") from error
        if proxy := proxy_of(url):
            options["proxy_url"] = proxy.url
        return options

    # --- Amazon S3 and compatible services ---------------------------------------------------------------

    def _s3(self) -> tuple[Any, dict[str, Any]]:
        location = self._location
        keys = self._keys()  # an error now, not in a thread of obstore
        region = location.region or DEFAULT_REGION
        top = "com.cn" if region.startswith("cn-") else "com"
        endpoint = location.endpoint_url or f"https://s3.{region}.amazonaws.{top}"
        return S3Store, {  # what is not given here would come from the environment
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "region": region,
            "virtual_hosted_style_request": False,
            "skip_signature": False,
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "checksum_algorithm": "SHA256",
            "credential_provider": self._provide,
        }

    def _provide(self) -> Any:
        now = self._keys()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _RENEWED,
        }

    def _keys(self) -> Credentials:
        with self._reading:
            known = self._aws.known(signing=True)
            found = awaited_apart(self._aws.frozen()) if known is None else known[1]
        if found is None:
            raise CredentialsError(
                f"{self._location.url} needs credentials, and there are none: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or use --dest-profile."
            )
        return found

    def abort_uploads(self, prefix: str) -> None:
        """Abort what a killed run left on S3: the parts of an upload stay, and cost money."""
        location = self._location
        if location.scheme != "s3":
            return
        from botocore.config import Config  # noqa: PLC0415 - 0.2 s, only after a kill
        from botocore.session import Session  # noqa: PLC0415 - see above

        with suppress(Exception):  # the keys may not allow it; a rule of the bucket removes them later
            keys = self._keys()
            s3 = Session().create_client(
                "s3",
                location.region or DEFAULT_REGION,
                endpoint_url=location.endpoint_url,
                verify=location.ca_bundle,
                aws_access_key_id=keys.access_key,
                aws_secret_access_key=keys.secret_key,
                aws_session_token=keys.token,
                config=Config(
                    s3={"addressing_style": "path"},
                    defaults_mode="legacy",  # "auto" would ask the metadata service for the region
                    read_timeout=_SILENT.total_seconds(),
                    retries={"total_max_attempts": 1},
                ),
            )
            with closing(s3):
                pages = s3.get_paginator("list_multipart_uploads").paginate(
                    Bucket=location.bucket, Prefix=prefix
                )
                for one in (upload for page in pages for upload in page.get("Uploads", ())):
                    s3.abort_multipart_upload(
                        Bucket=location.bucket, Key=one["Key"], UploadId=one["UploadId"]
                    )

    # --- Google Cloud Storage ----------------------------------------------------------------------------

    def _google(self) -> tuple[Any, dict[str, Any]]:
        location = self._location
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or os.environ.get("GOOGLE_SERVICE_ACCOUNT")
        usual = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
        how: dict[str, Any] = {}
        if not self._is_signed:
            how["skip_signature"] = True
        elif named or usual.is_file():
            how["application_credentials"] = named or str(usual)
        elif not location.metadata:
            how = {"skip_signature": True, "credential_provider": _no_google_credentials}
        if location.endpoint_url:
            how["base_url"] = location.endpoint_url
        return GCSStore, how

    # --- Azure Blob Storage ------------------------------------------------------------------------------

    def _azure(self) -> tuple[Any, dict[str, Any]]:
        location = self._location
        account = location.account or azure_setting("AccountName")
        if not account:
            raise CredentialsError(
                f"{location.url} needs the name of its storage account: set AZURE_STORAGE_ACCOUNT_NAME, or "
                "use DEST as https://ACCOUNT.blob.core.windows.net/container/prefix."
            )
        how: dict[str, Any] = {"account_name": account}
        client = map(os.environ.get, ("AZURE_CLIENT_ID", "AZURE_TENANT_ID"))
        proof = map(os.environ.get, ("AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"))
        if not self._is_signed:
            how["skip_signature"] = True
        elif key := azure_setting("AccountKey"):
            how["account_key"] = key
        elif sas := azure_setting("SharedAccessSignature"):
            how["sas_token"] = sas.lstrip("?")
        elif all(client) and any(proof):
            pass  # obstore finds them; without one of them it would ask for metadata
        elif os.environ.get("AZURE_USE_AZURE_CLI"):
            how["use_azure_cli"] = True
        elif not location.metadata:
            how["skip_signature"] = True
        if endpoint := location.endpoint_url or (self._is_signed and azure_setting("BlobEndpoint")):
            how["endpoint"] = endpoint
        return AzureStore, how


def _no_google_credentials() -> NoReturn:
    """Refuse: obstore signs writes even with `skip_signature`, with a token of the metadata service."""
    raise ValueError(_NO_KEYS)


_AZURE_VARIABLES = {
    "AccountName": "AZURE_STORAGE_ACCOUNT_NAME",
    "AccountKey": "AZURE_STORAGE_ACCOUNT_KEY",
    "SharedAccessSignature": "AZURE_STORAGE_SAS_TOKEN",
}


def azure_setting(name: str) -> str | None:
    """Return a field of AZURE_STORAGE_CONNECTION_STRING, or else its variable of the environment."""
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or ""
    fields = {field.partition("=")[0].strip(): field.partition("=")[2].strip() for field in text.split(";")}
    return fields.get(name) or os.environ.get(_AZURE_VARIABLES.get(name, ""))
