import orjson
import pytest
from tests.trace.hub.desk import COLLECTION, TILE

from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull_trace.hub.hub_errors import HubService, RequestTarget, ServiceError, parse_error, refusal

STATISTICS = RequestTarget(HubService.STATISTICS, COLLECTION)
CATALOG = RequestTarget(HubService.CATALOG, COLLECTION)
TILE_TARGET = RequestTarget(HubService.BYOC, COLLECTION, TILE)
FILE_TARGET = RequestTarget(HubService.BYOC, COLLECTION, TILE, "qa.tif")


def wrapped(**members: object) -> bytes:
    return orjson.dumps({"error": members})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (wrapped(status=400, reason="Bad", message="No.", code="X"), "X", "No"),
        (orjson.dumps({"message": "Slow", "code": "RATE_LIMIT_EXCEEDED"}), "RATE_LIMIT_EXCEEDED", "Slow"),
        (wrapped(reason="Forbidden"), "", "Forbidden"),
        (wrapped(message="Two\n\tlines\x07"), "", "Two lines"),
        (wrapped(message="No", errors=[{"violation": "x"}]), "", 'No; [{"violation":"x"}]'),
        (wrapped(errors=["x"]), "", '["x"]'),
        (wrapped(message="No", errors=[{"violation": "No"}]), "", "No"),
        (orjson.dumps({"error": "COMMON_BAD_PAYLOAD"}), "", "COMMON_BAD_PAYLOAD"),
        (b"<html>gateway</html>", "", ""),
        (b"upstream is gone", "", "upstream is gone"),
        (b"", "", ""),
        (b"[1]", "", "[1]"),
    ],
)  # fmt: skip
def test_the_message_of_an_error(body: bytes, code: str, message: str) -> None:
    assert parse_error(400, body) == ServiceError(400, code, message)


QUOTA = ServiceError(
    403,
    "ACCESS_INSUFFICIENT_PROCESSING_UNITS",
    "Insufficient processing units or requests available in your account",
)
FORBIDDEN = ServiceError(
    403, "COMMON_INSUFFICIENT_PERMISSIONS", "You are not authorized to perform this action"
)


@pytest.mark.parametrize(
    ("error", "target", "kind", "words"),
    [
        (QUOTA, STATISTICS, SourceError, "units of your account at h are spent.*when they are renewed"),
        (QUOTA, TILE_TARGET, SourceError, "are spent"),
        (ServiceError(403, "", "Your quota is exceeded"), CATALOG, SourceError, "are spent"),
        (FORBIDDEN, TILE_TARGET, CredentialsError, f"owner .*{COLLECTION} is not yours.*not authorized"),
        (FORBIDDEN, FILE_TARGET, CredentialsError, "only to the owner"),
        (FORBIDDEN, STATISTICS, CredentialsError, f"does not let you read the collection {COLLECTION}"),
        (ServiceError(403, "", ""), CATALOG, CredentialsError, "read .*: ask its owner"),
        (ServiceError(403, "COMMON_SENTINEL_ACCOUNT_EXPIRED", ""), CATALOG, CredentialsError, "has expired"),
        (
            ServiceError(400, "RENDERER_EXCEPTION", "Failed to evaluate script! evalscript.js:9: no x"),
            STATISTICS,
            UsageError,
            "because of its evalscript: Failed to evaluate script! evalscript.js:9: no x",
        ),
        (ServiceError(400, "COMMON_BAD_PAYLOAD", "bbox"), CATALOG, UsageError, "rejects the request: bbox"),
        (ServiceError(400, "COMMON_BAD_PAYLOAD", ""), CATALOG, UsageError, "request: COMMON_BAD_PAYLOAD"),
        (ServiceError(404, "COMMON_NOT_FOUND", "No"), CATALOG, UsageError, f"collection {COLLECTION} .No."),
        (ServiceError(404, "", ""), STATISTICS, UsageError, "has no collection .*: check its id"),
        (ServiceError(409, "", "busy"), CATALOG, SourceError, "answered 409 .busy.: try again"),
    ],
)  # fmt: skip
def test_refusals_are_translated_to_exceptions(error, target, kind, words):
    raised = refusal(error, "h", target)
    assert type(raised) is kind
    with pytest.raises(kind, match=words):
        raise raised
