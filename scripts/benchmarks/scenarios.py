"""The table of scenarios: mix, origin, round trip and destination."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.benchmarks.mixes import MIXES, Mix

BUCKETS = {
    "bucket": "into a bucket (radosgw)",
    "light-bucket": "into a bucket (a light server that verifies nothing)",
}
"""Destinations that are buckets."""


@dataclass(frozen=True)
class Scenario:
    """One row. `items` limits the items of the mix (None: all); `quick` marks the scenarios of --quick.

    `origin` is one of `origins.KINDS`. `destination` is one of `destinations.KINDS` or of `BUCKETS`: "bucket"
    is in the same radosgw if the origin is one. If `capped`, the origin limits the rate of each connection.
    """

    name: str
    mix: Mix
    origin: str
    rtt_ms: float = 0
    destination: str = "memory"
    items: int | None = None
    capped: bool = False
    quick: bool = False

    @property
    def about(self) -> str:
        """A description of the row."""
        ways = {
            "http": "HTTP, each file behind a redirect",
            "https": "HTTPS, each file behind a redirect",
            "s3-anonymous": "S3, unsigned",
            "s3-signed": "S3, signed (an origin that does not verify)",
            "s3-radosgw": "S3, signed and verified (radosgw)",
        }
        more = [
            "each connection capped" if self.capped else "",
            f"{self.rtt_ms:g} ms round trip" if self.rtt_ms else "",
            "new ext4" if self.destination == "ext4" else "",
            BUCKETS.get(self.destination, ""),
        ]
        return "; ".join([self.mix.about, ways[self.origin], *filter(None, more)])

    def items_of(self, *, quick: bool) -> int:
        """Return how many items are downloaded."""
        wanted = self.mix.items if self.items is None else self.items
        return min(wanted, self.mix.few) if quick else wanted


_BEN, _KB100, _B500, _KB8, _MB1, _MB64, _GB1, _MB256 = (
    MIXES[n] for n in ("ben", "100kb", "500b", "8kb", "1mb", "64mb", "1gb", "256mb")
)

SCENARIOS = (
    Scenario("ben-http", _BEN, "http", quick=True),
    Scenario("ben-https", _BEN, "https", quick=True),
    Scenario("ben-s3-anonymous", _BEN, "s3-anonymous"),
    Scenario("ben-s3-signed", _BEN, "s3-signed", quick=True),
    Scenario("ben-s3-radosgw", _BEN, "s3-radosgw", items=300),
    Scenario("ben-http-50ms", _BEN, "http", rtt_ms=50, items=300),
    Scenario("ben-s3-signed-50ms", _BEN, "s3-signed", rtt_ms=50, items=300),
    Scenario("ben-http-ext4", _BEN, "http", destination="ext4"),
    Scenario("100kb-http", _KB100, "http"),
    Scenario("100kb-https", _KB100, "https"),
    Scenario("100kb-s3-signed", _KB100, "s3-signed"),
    Scenario("500b-http", _B500, "http"),
    Scenario("500b-s3-signed", _B500, "s3-signed"),
    Scenario("500b-http-ext4", _B500, "http", destination="ext4"),
    Scenario("64mb-http", _MB64, "http", quick=True),
    Scenario("64mb-https", _MB64, "https"),
    Scenario("64mb-s3-signed", _MB64, "s3-signed"),
    Scenario("64mb-http-50ms", _MB64, "http", rtt_ms=50, items=4),
    Scenario("1gb-http", _GB1, "http"),
    Scenario("1gb-https", _GB1, "https"),
    Scenario("1gb-http-ext4", _GB1, "http", destination="ext4"),
    Scenario("ben-http-light", _BEN, "http", destination="light-bucket"),
    Scenario("8kb-http-bucket", _KB8, "http", destination="bucket"),
    Scenario("1mb-http-bucket", _MB1, "http", destination="bucket"),
    Scenario("64mb-http-bucket", _MB64, "http", destination="bucket", items=4),
    Scenario("256mb-http-bucket", _MB256, "http", destination="bucket", items=2),
    Scenario("256mb-http-capped", _MB256, "http", capped=True),
)
