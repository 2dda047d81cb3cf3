"""S3 behind the transport seam: `s3://bucket/key` in, an HTTP request to the right endpoint out.

Three questions are answered for each request, and each answer is a pure function here:

- where: `endpoint_of`. Path style for a custom endpoint and for names that no host can have, else the bucket
  is the host. The region is the configured one until the bucket names another, which is then remembered.
- as whom: `may_sign`. A bucket that a redirect led to was not chosen by the user: it gets a signature (and
  pays its requests from the user's account) only if the user configured it, its endpoint or a profile.
- what to correct: `lesson_of`. A wrong region is answered by 301 without Location or by 400, expired
  credentials by 400. Each is corrected once, and the request is sent again.

A request that is denied says, as its reason, what to configure.

What is signed is what is sent: the URL is encoded here, once, and `host` is sent as it was signed. Servers of
S3 ignore `If-Range`, so it becomes `If-Match` (or `If-Unmodified-Since`), which they answer with 412.

Source: Amazon S3 API Reference, GetObject and "Error responses"; S3 User Guide, "Virtual hosting of buckets".
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.caches import Recent
from stacpull.clock import Clock
from stacpull.config.options import S3Options
from stacpull.hosts import default_port, head_of
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import (
    BufferedResponse,
    RenamedResponse,
    Request,
    Response,
    Rewritten,
    TransferError,
    Transport,
    buffered,
)
from stacpull.s3_endpoint import Endpoint, endpoint_of
from stacpull.sigv4 import Credentials, SignedFields, Signer, encode_key
from stacpull.transfer.aws import AwsSettings

_DEFAULT_REGION = "us-east-1"
_REGION = re.compile(r"[a-z0-9-]{1,64}")
"""What may be a region: it becomes a part of the host's name, and it is a server that says it."""
_BUCKETS = 64
"""Buckets whose requests are prepared."""
_TEACHING = frozenset({301, 307, 400})
_FORBIDDEN = 403


class Credentialed(Protocol):
    """Where credentials and settings come from: `transfer.aws.AwsCredentials`."""

    async def settings(self) -> AwsSettings:
        """Return region, endpoint and profile in force."""
        ...

    async def frozen(self) -> Credentials | None:
        """Return the credentials as of now, None to ask anonymously."""
        ...

    def known(self, *, signing: bool) -> tuple[AwsSettings, Credentials | None] | None:
        """Return settings and credentials (none unless `signing`), if that needs no waiting."""
        ...

    async def renew(self, expired: Credentials) -> Credentials | None:
        """Return credentials other than `expired`, if there are any."""
        ...


class _Begun(NamedTuple):
    """A request that was sent elsewhere (`fastpath`): where to, as whom, and what gives its response."""

    endpoint: Endpoint
    identity: Credentials | None
    context: AbstractAsyncContextManager[Response]


class _PlainGets:
    """Prepares GET requests for the objects of one bucket: what is the same for a second is made once.

    Args:
        place: Where the bucket is.
        identity: Who signs; None: nobody does.
        fields: The fields to sign.
        signer: Signs them.
        now: Returns the time as signatures have it.
        resume: As `Rewritten.resume`.
    """

    def __init__(
        self,
        place: Endpoint,
        identity: Credentials | None,
        fields: dict[str, str],
        *,
        signer: Signer,
        now: Callable[[], str],
        resume: Callable[
            [Request, AbstractAsyncContextManager[Response]], AbstractAsyncContextManager[Response]
        ],
    ) -> None:
        self.place = place
        self.identity = identity
        self._fields = fields
        self._signer = signer
        self._now = now
        self._resume = resume
        self._date = ""
        self._signed: SignedFields

    def rewritten(self, key: str) -> Rewritten:
        """Return the request for an object."""
        place, identity = self.place, self.identity
        path = place.path + encode_key(key)
        if identity is None:
            return Rewritten(place.origin + path, self._fields, "", self._resume)
        date = self._now()
        if date != self._date:
            self._date = date
            self._signed = self._signer.signed_fields(self._fields, identity, place.region, date=date)
        signed = self._signed
        return Rewritten(place.origin + path, signed.headers, signed.authorize("GET", path), self._resume)


class Lesson(NamedTuple):
    """What a refusal teaches: another region, or that the credentials have expired."""

    region: str | None = None
    expired: bool = False


def split_s3_url(url: str, *, bare: bool = False) -> tuple[str, str]:
    """Split `s3://bucket/key`. A key is taken as it stands: `%`, `?` and `#` in it are characters of its own.

    Raises:
        TransferError: SCHEME, if no bucket or no key is named (with `bare` the bucket is enough).
    """
    bucket, _, key = url[len("s3://") :].partition("/")
    if not bucket or not (key or bare):
        failure = Failure(
            FailureKind.SCHEME, f"The href {url} names no S3 object; it needs a bucket and a key."
        )
        raise TransferError(failure)
    return bucket, key


def may_sign(bucket: str, settings: AwsSettings, options: S3Options, *, redirected: bool) -> bool:
    """Tell if a request for `bucket` may carry the user's signature (docs/meaning.md)."""
    if options.no_sign_request:
        return False
    configured = settings.endpoint_url is not None or settings.profile is not None
    return not redirected or configured or bucket in options.buckets


def lesson_of(status: int, headers: Mapping[str, str], body: bytes, region: str) -> Lesson | None:
    """Return what a response teaches about the request that was sent to `region`, or None: it stands."""
    if status not in _TEACHING:
        return None
    named = headers.get("x-amz-bucket-region") or _element(body, b"Region")
    if named != region and _REGION.fullmatch(named):
        return Lesson(region=named)
    return Lesson(expired=True) if _element(body, b"Code") == "ExpiredToken" else None


def _element(body: bytes, name: bytes) -> str:
    """Return the text of the first `name` element of S3's small error documents, or ""."""
    _, found, rest = body.partition(b"<" + name + b">")
    return rest.partition(b"<")[0].decode("ascii", "replace").strip() if found else ""


class S3Transport:
    """Sends requests for `s3://` URLs over another transport, signed or anonymous."""

    def __init__(
        self,
        http: Transport,
        credentials: Credentialed,
        options: S3Options,
        *,
        clock: Clock,
        regions: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Prepare; nothing is asked of AWS before the first request.

        Args:
            http: what sends; closing it stays with its owner.
            credentials: who signs, and the settings in force.
            options: what the user said about S3.
            clock: Gives the time that signatures carry.
            regions: of buckets (`s3://name`), as items state them; read when a bucket is first asked.
        """
        self._http = http
        self._credentials = credentials
        self._options = options
        self._clock = clock
        self._regions = regions
        self._signer = Signer()
        self._places = Recent[str, Endpoint]()
        self._gets = Recent[str, _PlainGets](_BUCKETS)
        self._date = (0, "")

    def ready(self, url: str, *, redirected: bool) -> Rewritten | None:
        """Return what `open` would send for a plain GET; None if it would have to wait for something."""
        bucket, _, key = url[len("s3://") :].partition("/")
        known = self._credentials.known(signing=False)
        if not bucket or not key or known is None:
            return None
        settings, identity = known
        if may_sign(bucket, settings, self._options, redirected=redirected):
            known = self._credentials.known(signing=True)
            if known is None:
                return None
            identity = known[1]
        place = self._place(bucket, settings)
        gets = self._gets.get(bucket)
        if gets is None or gets.place is not place or gets.identity is not identity:
            _, fields = self._fields({}, place, identity)
            resume = partial(self._resume, place, identity)
            gets = self._gets[bucket] = _PlainGets(
                place, identity, fields, signer=self._signer, now=self._now, resume=resume
            )
        return gets.rewritten(key)

    async def prepare(self, url: str) -> None:
        """Resolve settings and credentials for `ready`.

        Raises:
            CredentialsError: credentials are configured but cannot be loaded.
        """
        bucket = url[len("s3://") :].partition("/")[0]
        settings = await self._credentials.settings()
        if may_sign(bucket, settings, self._options, redirected=False):
            await self._credentials.frozen()

    def _resume(
        self,
        place: Endpoint,
        identity: Credentials | None,
        request: Request,
        context: AbstractAsyncContextManager[Response],
    ) -> AbstractAsyncContextManager[Response]:
        return self._exchange(request, _Begun(place, identity, context))

    def open(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send `request`; once more if the first answer names another region or fresh credentials help.

        Raises:
            TransferError: as `Transport.open`; SCHEME if the URL names no object.
            CredentialsError: credentials are configured but cannot be loaded.
        """
        return self._exchange(request, None)

    @asynccontextmanager
    async def _exchange(self, request: Request, begun: _Begun | None) -> AsyncIterator[Response]:
        """Send `request`, unless that was begun elsewhere, and do what its response teaches.

        Raises:
            TransferError: as `Transport.open`; SCHEME if the URL names no object.
            CredentialsError: credentials are configured but cannot be loaded.
        """
        bucket, key = split_s3_url(request.url, bare=bool(request.query))
        settings = await self._credentials.settings()
        signing = may_sign(bucket, settings, self._options, redirected=request.redirected)
        if begun is not None:
            place, identity, sending = begun
        else:
            place = self._place(bucket, settings)
            identity = await self._credentials.frozen() if signing else None
            sending = self._http.open(self._request(request, place, key, identity))
        for attempt in (1, 2, 3):
            is_answered = False
            try:
                async with sending as response:
                    is_answered = True
                    if response.status not in _TEACHING and response.status != _FORBIDDEN:
                        yield RenamedResponse(request.url, response)
                        return
                    refusal = await buffered(request.url, response)
            except TransferError as error:
                if is_answered:
                    raise
                raise _looked_for_at_amazon(error, bucket, settings) from error
            lesson = lesson_of(refusal.status, refusal.headers, refusal.body, place.region)
            if lesson is None or attempt == 3:  # noqa: PLR2004 - one lesson of each kind, then the answer stands
                break
            if lesson.region:
                place = self._remember(bucket, settings, lesson.region)
            elif identity is not None:
                identity = await self._credentials.renew(identity)
            sending = self._http.open(self._request(request, place, key, identity))
        if refusal.status == _FORBIDDEN and _is_denial(refusal):
            advice = _advice(self._options, may_sign=signing, signed=identity is not None)
            refusal = replace(refusal, body=advice.encode() or refusal.body)
        yield refusal

    def host_of(self, url: str) -> str:
        """Return who is asked, to be limited and counted: the endpoint of all buckets, or the bucket.

        An endpoint that only the profile names is not known yet when this is asked; the bucket is then.
        """
        endpoint = self._options.endpoint_url
        if endpoint is None:
            return head_of(url)
        parts = urlsplit(endpoint)
        return f"{parts.hostname}:{parts.port or default_port(parts.scheme)}"

    async def close(self) -> None:
        """Nothing is held here; the transport underneath is closed by its owner."""

    def _first(self, bucket: str, settings: AwsSettings) -> str:
        """Return the region in which `bucket` is looked for first: as configured, else as items hint."""
        hint = self._regions.get(f"s3://{bucket}", "")
        return settings.region or (hint if _REGION.fullmatch(hint) else _DEFAULT_REGION)

    def _remember(self, bucket: str, settings: AwsSettings, region: str) -> Endpoint:
        """Remember where `bucket` is."""
        place = endpoint_of(bucket, region, settings.endpoint_url, self._options.addressing_style)
        self._places[bucket] = place
        return place

    def _place(self, bucket: str, settings: AwsSettings) -> Endpoint:
        """Return where `bucket` is as far as is known."""
        return self._places.get(bucket) or self._remember(bucket, settings, self._first(bucket, settings))

    def _request(self, request: Request, place: Endpoint, key: str, identity: Credentials | None) -> Request:
        path, query = place.path + encode_key(key), request.query
        rest, fields = self._fields(request.headers, place, identity)
        if identity is not None:
            fields = self._signer.sign(
                request.method, path, fields, identity, place.region, date=self._now(), query=query
            )
        url = f"{place.origin}{path}?{query}" if query else place.origin + path
        return request._replace(url=url, headers={**rest, **fields})

    def _fields(
        self, headers: Mapping[str, str], place: Endpoint, identity: Credentials | None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the fields of a request: those that are sent as they are, and those to be signed."""
        rest, fields = _headers_for_s3(headers)
        fields["host"] = place.host
        if identity is not None and self._options.request_payer:
            fields["x-amz-request-payer"] = "requester"
        return rest, fields

    def _now(self) -> str:
        """Return the time as signatures have it; made once a second."""
        second = int(self._clock.time())
        if second != self._date[0]:
            self._date = (second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second)))
        return self._date[1]


def _looked_for_at_amazon(error: TransferError, bucket: str, settings: AwsSettings) -> TransferError:
    """Return `error`; where there is no connection to Amazon, it names the option for another service."""
    if settings.endpoint_url is not None or error.failure.kind is not FailureKind.NETWORK:
        return error
    text = f"{error.failure.message} If the bucket {bucket} is at another service, set --endpoint-url."
    return TransferError(replace(error.failure, message=text))


def _headers_for_s3(headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split header fields into those that go along and those to be signed, in S3's own terms."""
    rest: dict[str, str] = {}
    signed: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower == "if-range":
            # an entity tag has no space, a date has (RFC 9110, 13.1.5)
            signed["if-unmodified-since" if " " in value else "if-match"] = value
        elif lower == "range" or lower.startswith(("if-", "x-amz-")):
            signed[lower] = value
        elif lower != "host":
            rest[name] = value
    if "range" not in signed:
        signed["x-amz-checksum-mode"] = "ENABLED"
    return rest, signed


def _advice(options: S3Options, *, may_sign: bool, signed: bool) -> str:
    """Say what could change that access is denied, in place of the server's reason; "" to leave that."""
    if signed:
        pays = "it denies access with these credentials; if its requesters pay, give --request-payer"
        return "" if options.request_payer else pays
    refused = "it refuses anonymous requests"
    if options.no_sign_request:
        return f"{refused}; leave out --no-sign-request and configure AWS credentials"
    if may_sign:
        return f"{refused}; configure AWS credentials (a profile, or AWS_ACCESS_KEY_ID and its secret)"
    return (
        f"{refused}, and as a redirect led there it is signed for only if configured: "
        "name the bucket, its --endpoint-url or a profile"
    )


def _is_denial(refusal: BufferedResponse) -> bool:
    """Return True if it gives no other reason than that access is denied."""
    return not refusal.body or _element(refusal.body, b"Code") == "AccessDenied"
