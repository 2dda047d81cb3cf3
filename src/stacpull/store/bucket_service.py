"""The service of a bucket as DEST: credentials, connections, repeated requests, translation of errors.

`BucketService.request` sends one request, and repeats it if the service fails or the bucket is in another
region. botocore finds the credentials, and the endpoints of Amazon that the AWS configuration asks for.
"""

from __future__ import annotations

import errno
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.aws_settings import StaticSetup, ca_bundle_variable, static_setup, without_unknown_home
from stacpull.errors import CredentialsError, DestinationError, StacpullError, UsageError
from stacpull.models import BucketLocation, Failure, FailureKind
from stacpull.net.notices import SILENT_AFTER
from stacpull.net.retry import RetryPolicy, RetryState, Wait, advance, decide
from stacpull.net.status import parse_retry_after
from stacpull.proxies import proxy_of
from stacpull.redact import Secret, Secrets
from stacpull.s3_document import read_document
from stacpull.s3_endpoint import DEFAULT_REGION, Endpoint, correction_of, endpoint_of
from stacpull.sigv4 import Credentials, silence_metadata
from stacpull.store.bucket_requests import (
    COPY,
    BotocoreRequests,
    BucketRequests,
    ObjectReply,
    ObjectRequest,
    Requests,
    authorities,
)

T = TypeVar("T")

ATTEMPTS = 8
_RETRIES = RetryPolicy(retries=ATTEMPTS - 1, base=1.0, cap=20.0, free_throttles=0, longest_wait=60.0)
_PATIENCE, _FAILING = 120.0, 60.0
"""Seconds for which a request is repeated; and, after a request has failed for good, for which none is
repeated."""
_UNAVAILABLE = frozenset({429, 500, 502, 503, 504})
_FIRST_ERROR = 300
NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
DENIALS = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
_REFUSED_KEYS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_MOST_OTHERS = 8
"""The most other buckets of the service with connections."""
_EXPRESS = "--x-s3"
"""The suffix of directory buckets."""


class S3RefusalError(Exception):
    """A request that the service refused, or (status 0) without a reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.status = status
        self.code = code
        self.message = message


class _locked_property(cached_property[T]):  # noqa: N801 - as its base class
    """A cached property that only one thread computes. Since Python 3.12, `cached_property` has no lock."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with instance.opening:
            return super().__get__(instance, owner)


class BucketService:
    """The service of DEST. It may have other buckets, from which it copies. Any thread may call any method.

    Methods that send requests take the location of one of its buckets.

    Attributes:
        opening: A lock for reading the AWS configuration, and for creating senders.
        failing_until: After a failure of the service, no request is repeated until then (`time.monotonic`). A
            normal reply resets it.
    """

    def __init__(self, location: BucketLocation, on_silent: Callable[[str], None] = lambda _: None) -> None:
        """Create the client; nothing is sent yet.

        Args:
            location: The location of DEST.
            on_silent: Called at most once, in a thread of its own, with a sentence for the user: the service
                has not answered for some seconds.
        """
        self._location = location
        self._on_silent = on_silent
        self._is_reported = False
        self.opening = threading.RLock()
        self._senders: dict[str, Requests] = {}
        """The senders to buckets, by name, the least recently used first."""
        self._regions: dict[str, str] = {}
        """The regions of buckets, as the service has named them."""
        self._is_closed = False
        self.failing_until = 0.0

    @_locked_property
    def session(self) -> Any:
        """The session of botocore."""
        return _session(self._location)

    @_locked_property
    def static(self) -> StaticSetup | None:
        """The AWS configuration, if it can be read without botocore; otherwise None."""
        return static_setup(self._location.profile, self._location.region)

    @_locked_property
    def credentials(self) -> Callable[[], Credentials] | None:
        """A function that returns the current credentials; None if there are none.

        It may block while it renews them.
        """
        if self.static is not None and (keys := self.static.credentials) is not None:
            return lambda: keys
        source = self.session.get_credentials()
        if source is None:
            return None

        def frozen() -> Credentials:
            found = source.get_frozen_credentials()
            return Credentials(found.access_key, found.secret_key, found.token)

        return frozen

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The credentials that requests are signed with now.

        Raises:
            CredentialsError: There are none.
        """
        now = self._keys()
        return tuple(Secret(key) for key in (now.access_key, now.secret_key, now.token) if key)

    def _keys(self) -> Credentials:
        """Return the current credentials.

        Raises:
            CredentialsError: There are none, or they cannot be renewed.
        """
        with _botocore_errors(self._location):
            credentials: Callable[[], Credentials] | None = self.credentials
            if credentials is not None:
                return credentials()
        raise _no_credentials(self._location, "there are none")

    def sender(self, location: BucketLocation) -> Requests:
        """Return the sender of requests to a bucket.

        A catalog may name any number of buckets. Only the most recently used ones keep their connections.
        """
        evicted = []
        with self.opening:
            if self._is_closed:
                raise DestinationError(f"{location.url} was closed.")
            name = location.bucket
            self._senders[name] = found = self._senders.pop(name, None) or self._new_sender(location)
            while len(self._senders) > 1 + _MOST_OTHERS:
                evicted.append(self._senders.pop(next(iter(self._senders))))
        for other in evicted:
            other.close()
        return found

    def _new_sender(self, location: BucketLocation) -> Requests:
        endpoint, bundle = self._place(location)
        if proxy_of(endpoint.origin) is not None:
            return self.reader(location)
        context = None
        if endpoint.origin.startswith("https:"):
            context = ssl.create_default_context(cafile=authorities(bundle))
        return BucketRequests(endpoint, self._keys, context, self._report_silence)

    def reader(self, location: BucketLocation) -> BotocoreRequests:
        """Return a sender that can read long bodies."""
        endpoint, bundle = self._place(location)
        proxy = proxy_of(endpoint.origin)
        if proxy is not None and proxy.problem is not None:
            raise DestinationError(proxy.problem)
        return BotocoreRequests(endpoint, self._keys, bundle, proxy)

    def _place(self, location: BucketLocation) -> tuple[Endpoint, str | None]:
        """Return the endpoint of a bucket, and the file with the authorities of certificates if it is set."""
        if location.bucket.endswith(_EXPRESS):
            raise DestinationError(
                f"{location.url} is in a directory bucket, which lists objects in no order, so it cannot "
                "hold a mirror: use another bucket."
            )
        self._keys()  # first, so that missing credentials are named
        named, static = self._regions.get(location.bucket), self.static
        if static is not None and static.credentials is not None:
            region = named or static.settings.region or DEFAULT_REGION
            endpoint = endpoint_of(location.bucket, region, location.endpoint_url)
            return endpoint, location.ca_bundle or ca_bundle_variable()
        with _botocore_errors(location):
            endpoint = _endpoint(self.session, replace(location, region=named or location.region))
            return endpoint, self.session.get_config_variable("ca_bundle")

    def _report_silence(self, what: str = "has not answered") -> None:
        if not self._is_reported:
            self._is_reported = True
            sentence = f"{self._location.url} {what} for {SILENT_AFTER:.0f} s; still waiting."
            threading.Thread(target=self._on_silent, args=(sentence,), daemon=True).start()  # it may block

    def close(self) -> None:
        """Close the connections."""
        with self.opening:
            self._is_closed = True
            senders, self._senders = list(self._senders.values()), {}
        for sender in senders:
            sender.close()

    def send(
        self, location: BucketLocation, requests: Sequence[ObjectRequest], sender: Requests | None = None
    ) -> Sequence[ObjectReply | None]:
        """Send requests once, many at once. Those without a good reply can be repeated by `request`.

        Args:
            location: The bucket.
            requests: The requests.
            sender: The sender; None for the usual one.
        """
        replies = (sender or self.sender(location)).send(requests)
        if self.failing_until and any(reply and reply.status not in _UNAVAILABLE for reply in replies):
            self.failing_until = 0.0
        return replies

    def request(
        self, location: BucketLocation, request: ObjectRequest, what: str, sender: Requests | None = None
    ) -> ObjectReply:
        """Send a request, repeat it if necessary, and return its successful reply.

        Once the service has failed for one request, others that it fails are not repeated for a minute. So a
        run ends soon, although it still aborts uploads and releases its lease.

        Args:
            location: The bucket.
            request: The request. It may have been sent before.
            what: What it does with the object, for messages.
            sender: The sender; None for the usual one.

        Raises:
            FileNotFoundError: There is no such object.
            CredentialsError: There are no credentials, or the service rejects them.
            DestinationError: The bucket denies the request, or cannot be reached.
        """
        state, began, is_corrected = RetryState(), 0.0, False
        while True:
            used = sender or self.sender(location)
            (reply,) = self.send(location, [request], used)
            if reply is not None and not _has_failed(request, reply):
                return reply
            began = began or time.monotonic()
            if reply is not None and not is_corrected and self._correct(location.bucket, reply, used):
                is_corrected = True
                continue
            failure, now = self._failure(reply, used), time.monotonic()
            if failure.retryable and now > began + SILENT_AFTER:
                self._report_silence(f"has replied {reply.status}" if reply else "has not answered")
            decision = decide(_RETRIES, state, failure, random.random())  # noqa: S311 - jitter
            if not isinstance(decision, Wait) or now > began + _PATIENCE or now < self.failing_until:
                break
            state = advance(state, failure, decision)
            time.sleep(decision.seconds)
        if failure.retryable:
            self.failing_until = time.monotonic() + _FAILING
        refusal = _refusal(reply)
        raise self._error(location, request.key, what, refusal, used) from refusal

    def _failure(self, reply: ObjectReply | None, sender: Requests) -> Failure:
        """Return the failure of a request, for the retry policy."""
        if reply is None:
            is_final = self._is_closed or _is_tls_error(sender.problem)
            return Failure(FailureKind.NETWORK, "", retryable=not is_final)
        wait = parse_retry_after(reply.headers.get("retry-after"), time.time())
        is_passing = reply.status in _UNAVAILABLE or reply.status < _FIRST_ERROR
        return Failure(FailureKind.SERVER, "", reply.status, retry_after=wait, retryable=is_passing)

    def _correct(self, name: str, reply: ObjectReply, sender: Requests) -> bool:
        """Send later requests to the region that a reply names; return False if it names no other one."""
        found = correction_of(reply.status, reply.headers, reply.body or b"", sender.endpoint.region)
        if found is None or found.region is None:
            return False
        with self.opening:
            self._regions[name] = found.region
            is_known = self._senders.get(name) is sender
            if is_known:
                del self._senders[name]
        if is_known:
            sender.close()
        return True

    def _error(
        self, location: BucketLocation, key: str, what: str, refusal: S3RefusalError, sender: Requests
    ) -> StacpullError | FileNotFoundError:
        """Return the error for a request that has failed for good."""
        if refusal.code in NOT_THERE:
            return FileNotFoundError(errno.ENOENT, "there is no such object", key)
        if refusal.status:
            error = _rejection(refusal, what, key, location)
            Secrets(self.secrets).scrub_error(error)  # a server may quote the request
            return error
        if _is_tls_error(sender.problem):
            return DestinationError(
                f"The certificate of {location.url} is not trusted: name its authority with --ca-bundle. "
                f"{sender.problem}"
            )
        proxy = proxy_of(sender.endpoint.origin)
        way = "" if proxy is None else f" through the proxy {proxy}"
        return DestinationError(
            f"{location.url} cannot be reached{way}: check the network and --dest-endpoint-url, "
            "then run `stacpull resume`."
        )


def _has_failed(request: ObjectRequest, reply: ObjectReply) -> bool:
    """Return True for an error. S3 may send one as the document of a copy or a completion that began well."""
    if reply.status >= _FIRST_ERROR:
        return True
    may_fail_late = request.method == "POST" or COPY in request.headers
    return may_fail_late and read_document(reply.body or b"").root == "Error"


def _is_tls_error(error: Exception | None) -> bool:
    """Return True if a connection failed because of TLS, such as a certificate that is not trusted."""
    if "botocore.exceptions" in sys.modules:
        from botocore.exceptions import SSLError  # noqa: PLC0415 - imported already

        return isinstance(error, ssl.SSLError | SSLError)
    return isinstance(error, ssl.SSLError)


def _refusal(reply: ObjectReply | None) -> S3RefusalError:
    """Return the status, the code and the message of an error."""
    if reply is None:
        return S3RefusalError(0, "", "there was no reply")
    stated = read_document(reply.body).fields if reply.body else {}
    return S3RefusalError(reply.status, stated.get("Code") or str(reply.status), stated.get("Message", ""))


def code_behind(error: BaseException) -> str:
    """Return the code of the refusal that an error was raised from, "" if there is none."""
    return error.__cause__.code if isinstance(error.__cause__, S3RefusalError) else ""


def _rejection(refusal: S3RefusalError, what: str, key: str, location: BucketLocation) -> StacpullError:
    """Return the error for a request that a bucket rejected."""
    code = refusal.code
    if code == "NoSuchBucket":
        return DestinationError(f"There is no bucket {location.bucket}: create it, or check its name.")
    if code in DENIALS:
        return DestinationError(
            f"{location.url} denies stacpull to {what} objects ({code}): it needs s3:ListBucket, "
            "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and "
            "s3:ListMultipartUploadParts. Check --dest-profile."
        )
    if code in _REFUSED_KEYS:
        return CredentialsError(
            f"{location.url} does not accept the credentials of {_keys_of(location)} ({code})."
        )
    place = location.url_of(key) if key else location.url
    message = refusal.message or code
    return DestinationError(
        f"{place} cannot be used: {message} ({code}). Run the command again later, or check DEST."
    )


def _keys_of(location: BucketLocation) -> str:
    """Return the source of the credentials, for messages."""
    if location.profile is not None:
        return f"the profile {location.profile} (--dest-profile)"
    return "the AWS environment (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"


def _no_credentials(location: BucketLocation, why: str) -> CredentialsError:
    return CredentialsError(
        f"{location.url} needs credentials, and those of {_keys_of(location)} cannot be used: "
        f"{why.rstrip('.')}. Check --dest-profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


def resolved_location(location: BucketLocation) -> BucketLocation:
    """Return a bucket with the endpoint and region of the current AWS configuration.

    They are stored with the mirror, so that a later run in another environment writes to the same place.

    Raises:
        CredentialsError: The profile does not exist.
        UsageError: The endpoint contains a password, which would be stored too.
    """
    static = static_setup(location.profile, location.region)
    if location.endpoint_url is not None and static is not None:
        return replace(location, region=static.settings.region)
    session = _session(location)
    with _botocore_errors(location):
        location = replace(location, region=location.region or session.get_config_variable("region"))
        if location.endpoint_url is not None:
            return location
        endpoint: str = _client(session, location).meta.endpoint_url.rstrip("/")
    if urlsplit(endpoint).username is not None:
        raise UsageError(
            "The endpoint of the AWS configuration must not contain a user or a password: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --dest-profile."
        )
    return location if ".amazonaws.com" in endpoint else replace(location, endpoint_url=endpoint)


@contextmanager
def _botocore_errors(location: BucketLocation) -> Iterator[None]:
    """Translate errors of botocore, which finds the credentials.

    Raises:
        CredentialsError: There are none, or they cannot be read or renewed.
    """
    try:
        yield
    except Exception as error:
        if "botocore.exceptions" in sys.modules:  # importing it takes 0.3 s
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see above

            if isinstance(error, BotoCoreError | ClientError):
                raise _no_credentials(location, str(error)) from error
        raise


def _session(location: BucketLocation) -> Any:
    """Return a session of botocore that never uses the metadata services of cloud machines.

    Raises:
        CredentialsError: The profile does not exist.
    """
    from botocore.exceptions import ProfileNotFound  # noqa: PLC0415 - 0.2 s
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=location.profile)
    if location.ca_bundle is not None:
        session.set_config_variable("ca_bundle", location.ca_bundle)
    try:
        without_unknown_home(session)
        silence_metadata(session, lambda: None)
    except ProfileNotFound as error:
        raise _no_credentials(location, str(error)) from error
    return session


def _region(session: Any, location: BucketLocation) -> str:
    """Return the region of a bucket."""
    return location.region or session.get_config_variable("region") or DEFAULT_REGION


def _endpoint(session: Any, location: BucketLocation) -> Endpoint:
    """Return the endpoint of a bucket: a FIPS, dual-stack or accelerated one if it is configured."""
    region = _region(session, location)
    s3 = session.get_config_variable("s3") or {}
    is_usual = location.endpoint_url is not None or not (
        session.get_config_variable("use_fips_endpoint")
        or session.get_config_variable("use_dualstack_endpoint")
        or s3.get("use_dualstack_endpoint")
        or s3.get("use_accelerate_endpoint")
    )
    if is_usual:
        return endpoint_of(location.bucket, region, location.endpoint_url)
    at = {"Bucket": location.bucket}
    client = _client(session, location, ignore_configured_endpoint_urls=True)
    url = urlsplit(client.generate_presigned_url("list_objects_v2", at))
    return Endpoint(f"{url.scheme}://{url.netloc}", url.netloc, f"{url.path.rstrip('/')}/", region)


def _client(session: Any, location: BucketLocation, **settings: bool) -> Any:
    """Return a client of botocore. It sends nothing, but knows the endpoints of Amazon."""
    from botocore.config import Config  # noqa: PLC0415 - 0.3 s

    config = Config(signature_version="s3v4", s3={"addressing_style": "virtual"}, **settings)
    return session.create_client("s3", region_name=_region(session, location), config=config)
