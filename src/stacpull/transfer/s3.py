"""S3: requests for `s3://bucket/key` become HTTP requests to the right endpoint; prefixes are listed.

A wrong region (301 without Location, or 400) and expired credentials (400) are corrected once. S3 servers
ignore `If-Range`, so `If-Match` or `If-Unmodified-Since` is sent: 412 means that the object has changed.
Source: Amazon S3 API Reference; S3 User Guide, "Virtual hosting of buckets".
"""

import re
import time
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree.ElementTree import Element, ParseError, fromstring

import attrs
from msgspec.structs import replace

from stacpull.aws import Authorize, AwsCredentials, AwsSettings, Credentials, encode_key, signed_fields
from stacpull.caches import BoundedCache
from stacpull.clock import Clock
from stacpull.config.options import S3Options
from stacpull.hosts import default_port
from stacpull.http1.http1_transport import CallbackTransport, Http1Transport, PreparedRequest
from stacpull.json_values import is_unicode
from stacpull.models import Failure, FailureKind, Headers
from stacpull.net.bodies import buffered
from stacpull.net.client import Client
from stacpull.net.fields import whole_number
from stacpull.net.status import FORBIDDEN
from stacpull.net.transport import GetResponse, Request, Response, TransferError, Transport
from stacpull.planning.prefixes import MAX_OBJECTS, ListedObject
from stacpull.schemes import TransportSetup

_ADVICE: Final = (
    b"the bucket denies access; check the AWS credentials, --request-payer and --no-sign-request; if a "
    b"redirect led to the bucket, name the bucket, its --endpoint-url or a profile"
)
_CORRECTABLE = frozenset({301, 307, 400})
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")  # a server may name it, and it becomes part of a host
_HOST_LIKE = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_MAX_PAGES = 2000  # of one prefix: S3 may leave some empty
_PAGE_LIMIT: Final = 8 << 20  # bytes of one page: a thousand keys of 1,024 bytes, each byte encoded


class Endpoint(NamedTuple):
    """The endpoint of a bucket: `origin` is scheme and authority, `path` precedes the key (with `/`)."""

    origin: str
    host: str
    path: str
    region: str


SigningContext = tuple[Endpoint, Credentials | None]
SignedFields = tuple[dict[str, str], Authorize]


def split_s3_url(url: str, *, bare: bool = False) -> tuple[str, str]:
    """Split `s3://bucket/key`. The key is not decoded: `%`, `?` and `#` are ordinary characters."""
    bucket, _, key = url[len("s3://") :].partition("/")
    if not bucket or not (key or bare) or not is_unicode(url):
        message = f"{url} does not name an S3 object; it needs a key, as in s3://bucket/catalog.json."
        raise TransferError(Failure(FailureKind.SCHEME, message))
    return bucket, key


def endpoint_of(bucket: str, region: str, endpoint_url: str | None) -> Endpoint:
    """Return the endpoint. Only AWS gets the bucket in the host, without dots, for TLS."""
    suffix = ".cn" if region.startswith("cn-") else ""
    scheme, host, path, _, _ = urlsplit(endpoint_url or f"https://s3.{region}.amazonaws.com{suffix}")
    host = host.rpartition("@")[2].lower().removesuffix(f":{default_port(scheme)}")
    key_prefix = path.rstrip("/") + "/"
    if endpoint_url is None and _HOST_LIKE.fullmatch(bucket):
        host = f"{bucket}.{host}"
    else:
        key_prefix += quote(bucket, safe="-_.~") + "/"
    return Endpoint(f"{scheme}://{host}", host, key_prefix, region)


def may_sign(bucket: str, settings: AwsSettings, options: S3Options, *, redirected: bool) -> bool:
    if options.no_sign_request:
        return False
    configured = settings.endpoint_url is not None or settings.profile is not None
    return not redirected or configured or bucket in options.buckets


def other_region(headers: Headers, error: Element, region: str) -> str:
    named = headers.get("x-amz-bucket-region") or text_in(error, "Region")
    return named if named != region and _REGION.fullmatch(named) else ""


def read_xml(data: bytes) -> Element:
    """Return the root of a document, or an element without name and content if it is not valid."""
    if b"<!DOCTYPE" not in data and b"\0" not in data:  # NUL: in UTF-16, a document type looks otherwise
        with suppress(ParseError, ValueError, LookupError):  # LookupError: an unknown encoding
            return fromstring(data)  # noqa: S314 -- without document types
    return Element("")


def text_in(element: Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


@attrs.define(eq=False)
class S3Transport(CallbackTransport):
    _http: Transport
    _credentials: AwsCredentials
    _options: S3Options
    _clock: Clock
    _endpoints: BoundedCache[str, Endpoint] = attrs.field(factory=BoundedCache, init=False)
    _signed_gets: BoundedCache[tuple[SigningContext, int], SignedFields] = attrs.field(
        factory=partial(BoundedCache, 64), init=False
    )
    """The fields of plain GETs sent within a second, and the function to sign them."""

    def prepare(self, request: Request) -> PreparedRequest | None:
        http = self._http
        aws = self._credentials
        settings = aws.known_settings
        bucket, _, key = request.url[len("s3://") :].partition("/")
        if not isinstance(http, Http1Transport) or settings is None or request.headers or request.query:
            return None
        if not bucket or not key or not is_unicode(request.url):
            return None
        is_signed = may_sign(bucket, settings, self._options, redirected=bool(request.redirected_from))
        if is_signed and not aws.are_current:
            return None
        endpoint = self._endpoint_of(bucket, settings)
        path = endpoint.path + encode_key(key)
        credentials = aws.credentials if is_signed else None
        context = endpoint, credentials
        key_in_cache = context, int(self._clock.time())
        signed_get = self._signed_gets.get(key_in_cache)
        if signed_get is None:
            signed_get = self._fields({}, *context)
            self._signed_gets[key_in_cache] = signed_get
        fields, authorize = signed_get
        prepared = http.prepare(Request(endpoint.origin + path, headers=fields), authorize("GET", path))
        if prepared is None:
            return None
        return PreparedRequest(prepared.host, prepared.request_bytes, partial(self._corrected, context))

    async def send(self, request: Request) -> Response:
        bucket, _ = split_s3_url(request.url, bare=bool(request.query))
        settings = await self._credentials.settings()
        is_signed = may_sign(bucket, settings, self._options, redirected=bool(request.redirected_from))
        credentials = await self._credentials.current() if is_signed else None
        context = self._endpoint_of(bucket, settings), credentials
        get_response = partial(self._http.send, self._request(request, *context))
        return await self._corrected(context, request, get_response)

    async def _corrected(
        self, context: SigningContext, request: Request, get_response: GetResponse
    ) -> Response:
        endpoint, credentials = context
        for attempt in (1, 2, 3):
            response = await get_response()
            if response.status not in _CORRECTABLE and response.status != FORBIDDEN:
                response.url = request.url  # an MD5 ETag counts, as its URL is s3://
                return response
            refusal = await buffered(request.url, response)
            error = read_xml(refusal.body)
            code = text_in(error, "Code")
            if attempt == 3 or refusal.status not in _CORRECTABLE:  # noqa: PLR2004 - one correction of each kind
                break
            if region := other_region(refusal.headers, error, endpoint.region):
                bucket, _ = split_s3_url(request.url, bare=True)
                endpoint = self._endpoint_of(bucket, await self._credentials.settings(), region)
            elif code == "ExpiredToken" and credentials is not None:
                credentials = await self._credentials.renew(credentials)
            else:
                break
            get_response = partial(self._http.send, self._request(request, endpoint, credentials))
        if refusal.status == FORBIDDEN and (not refusal.body or code == "AccessDenied"):
            refusal = replace(refusal, body=_ADVICE)
        return refusal

    async def close(self) -> None:
        """The owner of the transport underneath closes it."""

    def _endpoint_of(self, bucket: str, settings: AwsSettings, region: str = "") -> Endpoint:
        if region or bucket not in self._endpoints:
            region = region or settings.region or "us-east-1"
            self._endpoints[bucket] = endpoint_of(bucket, region, settings.endpoint_url)
        return self._endpoints[bucket]

    def _request(self, request: Request, endpoint: Endpoint, credentials: Credentials | None) -> Request:
        _, key = split_s3_url(request.url, bare=True)
        path = endpoint.path + encode_key(key)
        fields, authorize = self._fields(request.headers, endpoint, credentials)
        if authorization := authorize(request.method, path, request.query):
            fields["Authorization"] = authorization
        query = f"?{request.query}" if request.query else ""
        return replace(request, url=f"{endpoint.origin}{path}{query}", headers=fields)

    def _fields(self, headers: Headers, endpoint: Endpoint, credentials: Credentials | None) -> SignedFields:
        fields = {name.lower(): value for name, value in headers.items()}
        fields["host"] = endpoint.host
        if condition := fields.pop("if-range", ""):
            # a date has a space, an entity tag does not (RFC 9110, 13.1.5)
            name = "if-unmodified-since" if " " in condition else "if-match"
            fields[name] = condition
        if "range" not in fields:
            fields["x-amz-checksum-mode"] = "ENABLED"
        if credentials is None:
            return fields, lambda _method, _path, _query="": ""
        if self._options.request_payer:
            fields["x-amz-request-payer"] = "requester"
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock.time()))
        return signed_fields(fields, credentials, endpoint.region, now)


def transport(setup: TransportSetup) -> S3Transport:
    options = setup.options.s3
    keys = None if options.keys is None else Credentials(*(key.reveal() for key in options.keys))
    credentials = AwsCredentials(
        AwsSettings(options.region, options.endpoint_url, options.profile),
        credentials=keys,
        no_sign_request=options.no_sign_request,
        allow_instance_metadata=options.aws_metadata,
    )
    return S3Transport(setup.http, credentials, options, clock=setup.clock)


async def list_prefix(client: Client, url: str) -> tuple[ListedObject, ...]:
    """Return the objects whose URLs begin with `url`, without placeholders for directories."""
    bucket, prefix = split_s3_url(url, bare=True)

    def unlistable(why: str) -> TransferError:
        message = f"The prefix s3://{bucket}/{prefix} cannot be mirrored: {why}."
        return TransferError(Failure(FailureKind.PREFIX, message, host=f"s3://{bucket}"))

    sizes: dict[str, int] = {}
    token = ""
    for _ in range(_MAX_PAGES):
        # keys are requested encoded, because XML 1.0 cannot represent all characters of a key
        query = f"encoding-type=url&list-type=2&prefix={quote(prefix, safe='-_.~')}"
        if token:
            query = f"continuation-token={quote(token, safe='-_.~')}&{query}"
        async with client.stream(Request(f"s3://{bucket}/", query=query, purpose="document")) as response:
            page = listed_page(await response.read(_PAGE_LIMIT))
        if page is None:
            raise unlistable("the answer is not a listing")
        objects, token = page
        for name, size in objects:
            if not name.startswith(prefix):
                raise unlistable("its listing has objects that are not under it")
            if name != prefix and (size or not name.endswith("/")):
                sizes[name[len(prefix) :]] = size
        if len(sizes) > MAX_OBJECTS:
            raise unlistable(f"it has more than {MAX_OBJECTS:,} objects")
        if not token:
            break
    else:
        raise unlistable(f"its listing has more than {_MAX_PAGES:,} pages")
    if not sizes:
        raise unlistable("nothing is there")
    return tuple(ListedObject(name, size) for name, size in sizes.items())


def listed_page(document: bytes) -> tuple[list[ListedObject], str] | None:
    root = read_xml(document)
    if root.tag.rpartition("}")[2] != "ListBucketResult":
        return None
    is_encoded = text_in(root, "EncodingType") == "url"  # a server that ignores `encoding-type` says nothing
    objects = []
    for contents in root.iterfind("{*}Contents"):
        name = text_in(contents, "Key")
        size = whole_number(text_in(contents, "Size").strip())
        if is_encoded:
            name = unquote_plus(name)
        if not name or size is None:
            return None
        objects.append(ListedObject(name, size))
    if text_in(root, "IsTruncated").strip().lower() != "true":
        return objects, ""
    token = text_in(root, "NextContinuationToken").strip()
    return (objects, token) if token else None
