"""The transport for S3: it turns `s3://bucket/key` into an HTTP request to the right endpoint.

Each request needs three decisions. Each is a pure function here:

- The endpoint: `endpoint_of`. Path style is used for a custom endpoint and for names that cannot be host
  names; otherwise the bucket is part of the host. The region is the configured one until a response names the
  bucket's region, which is then remembered.
- The signature: `may_sign`. A bucket that a redirect names was not chosen by the user. Requests to it are
  signed (and charged to the user's account) only if the user configured the bucket, its endpoint or a
  profile.
- The correction: `s3_endpoint.correction_of`. The response to a wrong region is 301 without Location, or 400;
  the response to expired credentials is 400. Each is corrected once, and the request is sent again.

The message of a denied request says what to configure.

The signed request is sent unchanged: the URL is encoded here, once, and `host` is sent as signed. S3 servers
ignore `If-Range`, so it becomes `If-Match` (or `If-Unmodified-Since`), which they answer with 412.

Source: Amazon S3 API Reference, GetObject and "Error responses"; S3 User Guide, "Virtual hosting of buckets".
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.aws_credentials import AwsCredentials
from stacpull.aws_settings import AwsSettings
from stacpull.caches import Recent
from stacpull.clock import Clock
from stacpull.config.options import S3Options
from stacpull.hosts import default_port, origin_text
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.transport import (
    BufferedResponse,
    RenamedResponse,
    Request,
    Response,
    Rewritten,
    TransferError,
    Transport,
)
from stacpull.s3_document import read_document
from stacpull.s3_endpoint import (
    CORRECTABLE,
    DEFAULT_REGION,
    Endpoint,
    correction_of,
    endpoint_of,
)
from stacpull.sigv4 import Credentials, SignedFields, Signer, encode_key

_BUCKETS = 64
"""Buckets with prepared requests."""
_FORBIDDEN = 403


class _SentRequest(NamedTuple):
    """A request that the fast path has sent: its endpoint, credentials, and the context of its response."""

    endpoint: Endpoint
    credentials: Credentials | None
    context: AbstractAsyncContextManager[Response]


class _PlainGets:
    """Prepares GET requests for the objects of one bucket. Common parts are computed once per second.

    Args:
        endpoint: The endpoint of the bucket.
        credentials: The credentials; None for anonymous requests.
        fields: The fields to sign.
        signer: Signs the requests.
        now: Returns the time in the format of signatures.
        opened: See `Rewritten.opened`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        fields: dict[str, str],
        *,
        signer: Signer,
        now: Callable[[], str],
        opened: Callable[
            [Request, AbstractAsyncContextManager[Response]], AbstractAsyncContextManager[Response]
        ],
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self._fields = fields
        self._signer = signer
        self._now = now
        self._opened = opened
        self._date = ""
        self._signed: SignedFields

    def rewritten(self, key: str) -> Rewritten:
        """Return the request for an object."""
        endpoint, credentials = self.endpoint, self.credentials
        path = endpoint.path + encode_key(key)
        if credentials is None:
            return Rewritten(endpoint.origin + path, self._fields, "", self._opened)
        date = self._now()
        if date != self._date:
            self._date = date
            self._signed = self._signer.signed_fields(self._fields, credentials, endpoint.region, date=date)
        signed = self._signed
        return Rewritten(endpoint.origin + path, signed.headers, signed.authorize("GET", path), self._opened)


def split_s3_url(url: str, *, bare: bool = False) -> tuple[str, str]:
    """Split `s3://bucket/key`. The key is not decoded: `%`, `?` and `#` are ordinary characters.

    Raises:
        TransferError: SCHEME, if it is not Unicode, or if the bucket or the key is missing (with `bare` the
            bucket is enough).
    """
    bucket, _, key = url[len("s3://") :].partition("/")
    if not bucket or not (key or bare) or not _is_unicode(url):
        failure = Failure(
            FailureKind.SCHEME, f"The href {url} does not name an S3 object; it needs a bucket and a key."
        )
        raise TransferError(failure)
    return bucket, key


def _is_unicode(url: str) -> bool:
    """Return False for bytes that are not UTF-8, which a redirect may contain."""
    if url.isascii():
        return True
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return True


def may_sign(bucket: str, settings: AwsSettings, options: S3Options, *, redirected: bool) -> bool:
    """Return True if a request for `bucket` may be signed with the user's credentials (docs/meaning.md)."""
    if options.no_sign_request:
        return False
    configured = settings.endpoint_url is not None or settings.profile is not None
    return not redirected or configured or bucket in options.buckets


class S3Transport:
    """Sends requests for `s3://` URLs through another transport, signed or anonymous."""

    def __init__(
        self,
        http: Transport,
        credentials: AwsCredentials,
        options: S3Options,
        *,
        clock: Clock,
    ) -> None:
        """Create the transport. Nothing is sent before the first request.

        Args:
            http: the underlying transport; its owner closes it.
            credentials: the credentials and settings.
            options: the user's options for S3.
            clock: the time of signatures.
        """
        self._http = http
        self._credentials = credentials
        self._options = options
        self._clock = clock
        self._signer = Signer()
        self._endpoints = Recent[str, Endpoint]()
        self._gets = Recent[str, _PlainGets](_BUCKETS)
        self._date = (0, "")

    def ready(self, url: str, *, redirected: bool) -> Rewritten | None:
        """Return the request that `open` would send for a plain GET; None if it would have to wait."""
        bucket, _, key = url[len("s3://") :].partition("/")
        known = self._credentials.known(signing=False)
        if not bucket or not key or known is None or not _is_unicode(url):
            return None
        settings, credentials = known
        if may_sign(bucket, settings, self._options, redirected=redirected):
            known = self._credentials.known(signing=True)
            if known is None:
                return None
            credentials = known[1]
        endpoint = self._endpoint_of(bucket, settings)
        gets = self._gets.get(bucket)
        if gets is None or gets.endpoint is not endpoint or gets.credentials is not credentials:
            _, fields = self._fields({}, endpoint, credentials)
            opened = partial(self._opened, endpoint, credentials)
            gets = self._gets[bucket] = _PlainGets(
                endpoint, credentials, fields, signer=self._signer, now=self._now, opened=opened
            )
        return gets.rewritten(key)

    def _opened(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None,
        request: Request,
        context: AbstractAsyncContextManager[Response],
    ) -> AbstractAsyncContextManager[Response]:
        return self._exchange(request, _SentRequest(endpoint, credentials, context))

    def open(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send `request`, and again if the response names another region or the credentials were renewed.

        Raises:
            TransferError: as `Transport.open`; SCHEME if the URL names no object.
            CredentialsError: credentials are configured but cannot be loaded.
        """
        return self._exchange(request, None)

    @asynccontextmanager
    async def _exchange(self, request: Request, sent: _SentRequest | None) -> AsyncIterator[Response]:
        """Send `request`, unless the fast path has sent it, and repeat it after a correction.

        Raises:
            TransferError: as `Transport.open`; SCHEME if the URL names no object.
            CredentialsError: credentials are configured but cannot be loaded.
        """
        bucket, key = split_s3_url(request.url, bare=bool(request.query))
        settings = await self._credentials.settings()
        signing = may_sign(bucket, settings, self._options, redirected=request.redirected)
        if sent is not None:
            endpoint, credentials, sending = sent
        else:
            endpoint = self._endpoint_of(bucket, settings)
            credentials = await self._credentials.frozen() if signing else None
            sending = self._http.open(self._request(request, endpoint, key, credentials))
        for attempt in (1, 2, 3):
            is_answered = False
            try:
                async with sending as response:
                    is_answered = True
                    if response.status not in CORRECTABLE and response.status != _FORBIDDEN:
                        yield RenamedResponse(request.url, response)
                        return
                    refusal = await buffered(request.url, response)
            except TransferError as error:
                if is_answered:
                    raise
                raise _naming_endpoint_option(error, bucket, settings) from error
            correction = correction_of(refusal.status, refusal.headers, refusal.body, endpoint.region)
            if correction is None or attempt == 3:  # noqa: PLR2004 - one correction of each kind
                break
            if correction.region:
                endpoint = self._remember(bucket, settings, correction.region)
            elif credentials is not None:
                credentials = await self._credentials.renew(credentials)
            sending = self._http.open(self._request(request, endpoint, key, credentials))
        if refusal.status == _FORBIDDEN and _is_denial(refusal):
            advice = _advice(self._options, may_sign=signing, signed=credentials is not None)
            refusal = replace(refusal, body=advice.encode() or refusal.body)
        yield refusal

    def host_of(self, url: str) -> str:
        """Return the host for limits and counters: the common endpoint of all buckets, or the bucket.

        An endpoint of the profile is not known yet at this point; the bucket is used then.
        """
        endpoint = self._options.endpoint_url
        if endpoint is None:
            return origin_text(url)
        parts = urlsplit(endpoint)
        return f"{parts.hostname}:{parts.port or default_port(parts.scheme)}"

    async def close(self) -> None:
        """Do nothing: the owner of the underlying transport closes it."""

    def _remember(self, bucket: str, settings: AwsSettings, region: str) -> Endpoint:
        """Store the region of `bucket` and return its endpoint."""
        endpoint = endpoint_of(bucket, region, settings.endpoint_url, self._options.addressing_style)
        self._endpoints[bucket] = endpoint
        return endpoint

    def _endpoint_of(self, bucket: str, settings: AwsSettings) -> Endpoint:
        """Return the known endpoint of `bucket`."""
        return self._endpoints.get(bucket) or self._remember(
            bucket, settings, settings.region or DEFAULT_REGION
        )

    def _request(
        self, request: Request, endpoint: Endpoint, key: str, credentials: Credentials | None
    ) -> Request:
        path, query = endpoint.path + encode_key(key), request.query
        rest, fields = self._fields(request.headers, endpoint, credentials)
        if credentials is not None:
            fields = self._signer.sign(
                request.method, path, fields, credentials, endpoint.region, date=self._now(), query=query
            )
        url = f"{endpoint.origin}{path}?{query}" if query else endpoint.origin + path
        return request._replace(url=url, headers={**rest, **fields})

    def _fields(
        self, headers: Mapping[str, str], endpoint: Endpoint, credentials: Credentials | None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the header fields of a request: the unsigned and the signed ones."""
        rest, fields = _headers_for_s3(headers)
        fields["host"] = endpoint.host
        if credentials is not None and self._options.request_payer:
            fields["x-amz-request-payer"] = "requester"
        return rest, fields

    def _now(self) -> str:
        """Return the time in the format of signatures, computed once per second."""
        second = int(self._clock.time())
        if second != self._date[0]:
            self._date = (second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second)))
        return self._date[1]


def _naming_endpoint_option(error: TransferError, bucket: str, settings: AwsSettings) -> TransferError:
    """Return `error`; if Amazon could not be reached, with the option for another service."""
    if settings.endpoint_url is not None or error.failure.kind is not FailureKind.NETWORK:
        return error
    text = f"{error.failure.message} If the bucket {bucket} is at another service, set --endpoint-url."
    return TransferError(replace(error.failure, message=text))


def _headers_for_s3(headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split header fields into unsigned and signed ones, and translate them for S3."""
    rest: dict[str, str] = {}
    signed: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower == "if-range":
            # a date has a space, an entity tag does not (RFC 9110, 13.1.5)
            signed["if-unmodified-since" if " " in value else "if-match"] = value
        elif lower == "range" or lower.startswith(("if-", "x-amz-")):
            signed[lower] = value
        elif lower != "host":
            rest[name] = value
    if "range" not in signed:
        signed["x-amz-checksum-mode"] = "ENABLED"
    return rest, signed


def _advice(options: S3Options, *, may_sign: bool, signed: bool) -> str:
    """Return what to configure after a denial, to replace the server's reason; "" to keep the reason."""
    if signed:
        pays = "it denies access with these credentials; for a requester-pays bucket, use --request-payer"
        return "" if options.request_payer else pays
    refused = "it refuses anonymous requests"
    if options.no_sign_request:
        return f"{refused}; remove --no-sign-request and configure AWS credentials"
    if may_sign:
        return f"{refused}; configure AWS credentials (a profile, or AWS_ACCESS_KEY_ID and its secret)"
    return (
        f"{refused}. A redirect led there, so requests are signed only if it is configured: "
        "name the bucket, its --endpoint-url or a profile"
    )


def _is_denial(refusal: BufferedResponse) -> bool:
    """Return True if a rejection states no other reason than that access is denied."""
    return not refusal.body or read_document(refusal.body).fields.get("Code") == "AccessDenied"
