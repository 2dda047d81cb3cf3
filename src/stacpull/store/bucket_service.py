"""The service of a bucket as DEST: credentials, connections, repeated requests, translation of errors.

`BucketService.request` sends one request, and repeats it if the service fails or the bucket is in another
region, or the credentials have expired.
"""

from __future__ import annotations

import asyncio
import errno
import random
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.aws_credentials import AwsCredentials
from stacpull.aws_settings import AwsSettings, ca_bundle_variable, endpoint_variable, without_unknown_home
from stacpull.errors import CredentialsError, DestinationError, StacpullError, UsageError
from stacpull.models import BucketLocation, Failure, FailureKind
from stacpull.net.notices import SILENT_AFTER
from stacpull.net.retry import RetryPolicy, RetryState, Wait, advance, decide
from stacpull.net.status import parse_retry_after
from stacpull.proxies import proxy_of
from stacpull.redact import Secret, Secrets
from stacpull.s3_document import read_document
from stacpull.s3_endpoint import DEFAULT_REGION, Endpoint, correction_of, endpoint_of
from stacpull.sigv4 import Credentials
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
_CORRECTIONS = 2
"""The most corrections of a request: its region, and expired credentials."""
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


class BucketService:
    """The service of DEST. It may have other buckets, from which it copies. Any thread may call any method.

    Methods that send requests take the location of one of its buckets.

    Attributes:
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
        self._opening = threading.RLock()
        """Held while the AWS configuration is read, and while a sender is created."""
        self._aws = AwsCredentials(AwsSettings(location.region, location.endpoint_url, location.profile))
        self._senders: dict[str, Requests] = {}
        """The senders to buckets, by name, the least recently used first."""
        self._regions: dict[str, str] = {}
        """The regions of buckets, as the service has named them."""
        self._is_closed = False
        self.failing_until = 0.0

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
        known = self._aws.known(signing=True)
        if known is None:
            with self._opening:
                found = _resolved(self._location, self._aws.frozen())
        else:
            found = known[1]
        if found is None:
            raise _no_credentials(self._location, "there are none")
        return found

    def sender(self, location: BucketLocation) -> Requests:
        """Return the sender of requests to a bucket.

        A catalog may name any number of buckets. Only the most recently used ones keep their connections.
        """
        evicted = []
        with self._opening:
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
        proxy = proxy_of(endpoint.origin)
        if proxy is not None and proxy.problem is not None:
            raise DestinationError(proxy.problem)
        if proxy is not None:
            return BotocoreRequests(endpoint, self._keys, bundle, proxy)
        context = None
        if endpoint.origin.startswith("https:"):
            context = ssl.create_default_context(cafile=authorities(bundle))
        return BucketRequests(endpoint, self._keys, context, self._report_silence)

    def _place(self, location: BucketLocation) -> tuple[Endpoint, str | None]:
        """Return the endpoint of a bucket, and the file with the authorities of certificates if it is set."""
        if location.bucket.endswith(_EXPRESS):
            raise DestinationError(
                f"{location.url} is in a directory bucket, which lists objects in no order, so it cannot "
                "hold a mirror: use another bucket."
            )
        self._keys()  # first, so that missing credentials are named
        settings = _resolved(location, self._aws.settings())
        region = self._regions.get(location.bucket) or settings.region or DEFAULT_REGION
        bundle = location.ca_bundle or self._aws.variable("ca_bundle") or ca_bundle_variable()
        s3 = self._aws.variable("s3") or {}
        is_unusual = location.endpoint_url is None and (
            self._aws.variable("use_fips_endpoint")
            or self._aws.variable("use_dualstack_endpoint")
            or s3.get("use_dualstack_endpoint")
            or s3.get("use_accelerate_endpoint")
        )
        if is_unusual:
            return _configured_endpoint(location, region), bundle
        return endpoint_of(location.bucket, region, location.endpoint_url), bundle

    def _report_silence(self, what: str = "has not answered") -> None:
        if not self._is_reported:
            self._is_reported = True
            sentence = f"{self._location.url} {what} for {SILENT_AFTER:.0f} s; still waiting."
            threading.Thread(target=self._on_silent, args=(sentence,), daemon=True).start()  # it may block

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            self._is_closed = True
            senders, self._senders = list(self._senders.values()), {}
        for sender in senders:
            sender.close()

    def send(
        self, location: BucketLocation, requests: Sequence[ObjectRequest]
    ) -> Sequence[ObjectReply | None]:
        """Send requests to a bucket once, many at once. `request` can repeat those without a good reply."""
        replies = self.sender(location).send(requests)
        if self.failing_until and any(reply and reply.status not in _UNAVAILABLE for reply in replies):
            self.failing_until = 0.0
        return replies

    def request(self, location: BucketLocation, request: ObjectRequest, what: str) -> ObjectReply:
        """Send a request, repeat it if necessary, and return its successful reply.

        Once the service has failed for one request, others that it fails are not repeated for a minute. So a
        run ends soon, although it still aborts uploads and releases its lease.

        Args:
            location: The bucket.
            request: The request. It may have been sent before.
            what: What it does with the object, for messages.

        Raises:
            FileNotFoundError: There is no such object.
            CredentialsError: There are no credentials, or the service rejects them.
            DestinationError: The bucket denies the request, or cannot be reached.
        """
        state, began, corrections = RetryState(), 0.0, 0
        while True:
            sender, credentials = self.sender(location), self._keys()
            (reply,) = self.send(location, [request])
            if reply is not None and not _has_failed(request, reply):
                return reply
            began = began or time.monotonic()
            if (
                reply is not None
                and corrections < _CORRECTIONS
                and self._correct(location.bucket, reply, sender, credentials)
            ):
                corrections += 1
                continue
            failure, now = self._failure(reply, sender), time.monotonic()
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
        raise self._error(location, request.key, what, refusal, sender) from refusal

    def _failure(self, reply: ObjectReply | None, sender: Requests) -> Failure:
        """Return the failure of a request, for the retry policy."""
        if reply is None:
            is_final = self._is_closed or _is_untrusted(sender.problem)
            return Failure(FailureKind.NETWORK, "", retryable=not is_final)
        wait = parse_retry_after(reply.headers.get("retry-after"), time.time())
        is_passing = reply.status in _UNAVAILABLE or reply.status < _FIRST_ERROR
        return Failure(FailureKind.SERVER, "", reply.status, retry_after=wait, retryable=is_passing)

    def _correct(self, name: str, reply: ObjectReply, sender: Requests, credentials: Credentials) -> bool:
        """Correct the region or the credentials for later requests; return False if they are correct.

        Another request may have renewed `credentials` since they were used.
        """
        found = correction_of(reply.status, reply.headers, reply.body or b"", sender.endpoint.region)
        if found is not None and found.expired:
            with self._opening:
                return _resolved(self._location, self._aws.renew(credentials)) not in {None, credentials}
        if found is None or found.region is None:
            return False
        with self._opening:
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
        if _is_untrusted(sender.problem):
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


def _is_untrusted(error: Exception | None) -> bool:
    """Return True if a connection failed because a certificate is not trusted (for `ssl` and botocore)."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


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
    wanted = AwsSettings(location.region, location.endpoint_url or endpoint_variable(), location.profile)
    found = _resolved(location, AwsCredentials(wanted).settings())
    endpoint = (found.endpoint_url or "").rstrip("/")
    if urlsplit(endpoint).username is not None:
        raise UsageError(
            "The endpoint of the AWS configuration must not contain a user or a password: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --dest-profile."
        )
    is_amazon = not endpoint or (location.endpoint_url is None and ".amazonaws.com" in endpoint)
    return replace(location, region=found.region, endpoint_url=None if is_amazon else endpoint)


def _resolved(location: BucketLocation, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine of `AwsCredentials`. Blocks; this thread may have a loop of its own.

    Raises:
        CredentialsError: The credentials cannot be read or renewed.
    """
    try:
        with ThreadPoolExecutor(1, "stacpull-aws") as thread:
            return thread.submit(asyncio.run, work).result()
    except CredentialsError as error:
        raise _no_credentials(location, str(error.__cause__ or error)) from error


def _configured_endpoint(location: BucketLocation, region: str) -> Endpoint:
    """Return the endpoint of Amazon for a bucket, of the kind that the AWS configuration asks for."""
    from botocore.config import Config  # noqa: PLC0415 - imported already
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=location.profile)
    without_unknown_home(session)
    session.set_config_variable("defaults_mode", "legacy")  # "auto" asks the metadata service of the machine
    config = Config(
        signature_version="s3v4", ignore_configured_endpoint_urls=True, s3={"addressing_style": "virtual"}
    )
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}  # only the endpoint matters
    client = session.create_client("s3", region, config=config, **keys)
    url = urlsplit(client.generate_presigned_url("list_objects_v2", {"Bucket": location.bucket}))
    return Endpoint(f"{url.scheme}://{url.netloc}", url.netloc, f"{url.path.rstrip('/')}/", region)
