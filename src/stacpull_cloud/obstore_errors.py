"""What obstore's errors mean. obstore has few classes of errors, so their text decides."""

from __future__ import annotations

import re

from obstore import exceptions

from stacpull.errors import CredentialsError, DestinationError
from stacpull.models import BucketLocation

MISSING = (exceptions.NotFoundError, FileNotFoundError)
STATUS = re.compile(r"\bstatus code: (304|[45][0-9]{2})\b")
"""What obstore's errors say about a response that is not a success."""
_CODE = re.compile(r"(?:<Code>|\(code: )([A-Za-z0-9]+)[<)]")
"""In the body of an error, and in what obstore says of an object that S3 does not remove."""
_REFUSED_KEYS = re.compile("AccessDenied|Authent|Authoriz|Token|AccessKeyId|Signature|InvalidSecurity")
"""Codes of errors that mean wrong keys, not that the keys do not allow something."""
NO_KEYS = "set GOOGLE_APPLICATION_CREDENTIALS, or use --aws-metadata (the identity of this machine)"
_UNTRUSTED = "InvalidCertificate"
"""What obstore's errors say of a TLS certificate that no authority here has issued."""
_ANOTHER_REGION = re.compile("redirect without LOCATION|the region '")
"""In obstore's error for a 301 of S3, and in the message of its 400: malformed keys have the same code."""
_PASSING = re.compile(
    r"\bstatus code: (408|409|429|50[0234])\b|invalid multipart response|"
    r"(<Code>|\(code: )(InternalError|SlowDown|NoSuchUpload|InvalidUploadId|RequestTimeout)[<)]"
)
"""What is repeated. An upload in parts can end with status 200 and any error, which obstore need not know."""


def as_stacpull_error(
    location: BucketLocation, doing: str, path: str, error: Exception
) -> DestinationError | CredentialsError:
    """Return the error to raise for one of obstore. `doing` is a verb, and `path` is below the prefix."""
    text = str(error)
    code, status = next(iter(_CODE.findall(text)), ""), STATUS.search(text)
    url, what = location.url, f"to {doing} {path or 'its objects'}"
    if _UNTRUSTED in text:
        return DestinationError(f"The TLS certificate of {url} is not trusted: --ca-bundle FILE trusts one.")
    if NO_KEYS in text:
        return CredentialsError(f"{url} needs credentials, and there are none: {NO_KEYS}.")
    if _ANOTHER_REGION.search(text):
        return DestinationError(f"{url} is in another region: name it with --dest-region.")
    if (status is not None and status[1] in {"401", "403"}) or _REFUSED_KEYS.search(code):
        remedy = "check the keys, and whether they may do this"
        return CredentialsError(
            f"{url} refuses the credentials {what} ({code or 'access denied'}): {remedy}."
        )
    if (
        code == "NoSuchBucket"
        or "ContainerNotFound" in text
        or (isinstance(error, MISSING) and doing in {"list", "write"})
    ):
        return DestinationError(f"There is no bucket {location.bucket}: create it first ({url}).")
    if "invalid path" in text:  # obstore lists no names with empty parts, `.` or `..`
        return DestinationError(f"{url} cannot be listed ({plain_reason(text)}): move that object away.")
    if reason := unreachable(text):
        return DestinationError(f"{url} {reason}. Check the address and the network.")
    return DestinationError(
        f"{url} failed {what} ({code or plain_reason(text)}): check the bucket and its endpoint, then run "
        "the same command again."
    )


def plain_reason(text: str) -> str:
    """Return what an error of obstore says to a reader."""
    reason = re.sub(r"\s+", " ", text.partition("Debug source:")[0]).strip()
    return re.sub(r"^Generic \w+ error: ", "", reason)[:300].rstrip(".")


def unreachable(text: str) -> str:
    """Return that there was no response, if an error of obstore says so, with the address and the reason."""
    address = re.search(r"Error performing \w+ (?:REDACTED|(https?://[^/\s]+))", text)
    if "HTTP error" not in text or address is None:
        return ""
    place = f" at {address[1]}" if address[1] else ""  # obstore hides URLs with a signature of Azure
    if "kind: Connect" not in text:
        return f"does not answer{place}"
    reason = "the name is not known" if "dns error" in text else "no connection"
    if "InvalidContentType" in text:
        reason = "its answer is not TLS (http:// may be right)"
    if message := re.search(r'kind: \w+,\s+message: "([^"]+)"', text):
        reason = message[1]
    return f"cannot be reached{place}: {reason}"


def is_passing(error: BaseException) -> bool:
    text = str(error)
    if not isinstance(error, exceptions.BaseError | OSError) or _UNTRUSTED in text:
        return False
    is_unanswered = isinstance(error, exceptions.GenericError) and "HTTP error" in text
    return _PASSING.search(text) is not None or (is_unanswered and STATUS.search(text) is None)
