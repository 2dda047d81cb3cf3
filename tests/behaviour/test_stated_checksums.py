"""`file:checksum` of every algorithm, on every way that bytes are compared with it."""

import hashlib
from typing import Any

import pytest
from tests.items import feature
from tests.net.memory import Answer, Fault
from tests.security.sources import Source

from stacpull import Options
from stacpull.sync import failures, mirror

PREFIXES = {
    "md5": "d50110",
    "sha1": "1114",
    "sha256": "1220",
    "sha384": "2030",
    "sha512": "1340",
    "sha3_224": "171c",
    "sha3_256": "1620",
    "sha3_384": "1530",
    "sha3_512": "1440",
    **{f"blake2b_{size * 8}": f"{0x80 | size:x}e402{size:02x}" for size in (1, 16, 32, 64)},
}
"""By algorithm, the code and length of a multihash (github.com/multiformats/multicodec)."""
SHORT, LONG = b"a short body", bytes(1_100_000)  # bodies of more than 1 MiB are written to a part


def multihash(algorithm: str, body: bytes) -> str:
    if algorithm.startswith("blake2b_"):
        size = int(algorithm.removeprefix("blake2b_")) // 8
        return PREFIXES[algorithm] + hashlib.blake2b(body, digest_size=size).hexdigest()
    return PREFIXES[algorithm] + hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()


class Host:
    """Serves one body at every path, with an ETag. With `interrupts`, each first response is cut off."""

    def __init__(self, body: bytes, *, interrupts: bool) -> None:
        self.body = body
        self.interrupts = interrupts
        self.statuses: dict[str, list[int]] = {}

    def answer(self, request: Any) -> Answer:
        statuses = self.statuses.setdefault(request.url, [])
        answer = Answer(200, self.body, {"ETag": '"v"', "Content-Type": "image/tiff"})
        if self.interrupts and not statuses:
            answer = Answer(200, self.body, answer.headers, Fault.TRUNCATED)
        elif "if-none-match" in request.headers:
            answer = Answer(304, b"", answer.headers)
        elif "range" in request.headers:
            start = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
            content_range = {"Content-Range": f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"}
            answer = Answer(206, self.body[start:], {**answer.headers, **content_range})
        statuses.append(answer.status)
        return answer


@pytest.mark.parametrize(
    ("way", "body", "statuses"),
    [
        ("memory", SHORT, [200]),
        ("part", LONG, [200]),
        ("resumed part", LONG, [200, 206]),
        ("adopted file", SHORT, None),
        ("unchanged file", SHORT, [200, 304]),
    ],
)
def test_content_is_compared_with_checksums_of_every_algorithm(tmp_path, way, body, statuses):
    host = Host(body, interrupts=way == "resumed part")
    stated = {f"right-{algorithm}": multihash(algorithm, body) for algorithm in PREFIXES}
    stated |= {f"wrong-{algorithm}": multihash(algorithm, b"another body") for algorithm in PREFIXES}
    if way == "adopted file":
        (tmp_path / "c/i").mkdir(parents=True)
        for key in stated:
            (tmp_path / "c/i" / f"{key}.tif").write_bytes(body)
    with Source(others=host.answer) as source:
        hrefs = {key: source.url(f"/assets/{key}.tif") for key in stated}
        source.features = [item] = [feature("i", hrefs)]
        options = Options(retries=1, adopt=way == "adopted file", checksum="none")  # a request must decide
        if way == "unchanged file":  # the checksums are stated later
            assert mirror(source.api, tmp_path, options=options).assets_failed == 0
        for key, checksum in stated.items():
            item["assets"][key]["file:checksum"] = checksum
        item["properties"]["updated"] = "2020-01-02T00:00:00Z"
        report = mirror(source.api, tmp_path, options=options)
    messages = {failure.key: failure.message for failure in failures(tmp_path)}
    assert (report.state, messages.keys()) == ("complete", {key for key in stated if key.startswith("wrong")})
    for algorithm in PREFIXES:
        assert (tmp_path / f"c/i/right-{algorithm}.tif").read_bytes() == body
        assert host.statuses.get(f"/assets/right-{algorithm}.tif") == statuses
        assert f"{algorithm} is" in messages[f"wrong-{algorithm}"]
