"""The table of scenarios (mix, origin and destination): the rows of docs/performance.md, and a few more."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.benchmarks.mixes import MIXES, Mix

_WAYS = {
    "http": "HTTP, each file behind a redirect",
    "https": "HTTPS, each file behind a redirect",
    "s3-signed": "S3, signed (an origin that does not verify)",
}


@dataclass(frozen=True)
class Scenario:
    """One row. `items` limits the items of the mix (None: all); `quick` marks the scenarios of --quick.

    `origin` is one of `_WAYS`. The destination is a directory, or `into_bucket` one of radosgw.
    """

    name: str
    mix: Mix
    origin: str
    items: int | None = None
    into_bucket: bool = False
    quick: bool = False

    @property
    def about(self) -> str:
        """A description of the row."""
        end = "; into a bucket (radosgw)" if self.into_bucket else ""
        return f"{self.mix.about}; {_WAYS[self.origin]}{end}"

    def items_of(self, *, quick: bool) -> int:
        """Return how many items are downloaded."""
        wanted = self.mix.items if self.items is None else self.items
        return min(wanted, self.mix.few) if quick else wanted


SCENARIOS = (
    Scenario("ben-http", MIXES["ben"], "http", quick=True),
    Scenario("ben-https", MIXES["ben"], "https", quick=True),
    Scenario("ben-s3-signed", MIXES["ben"], "s3-signed", quick=True),
    Scenario("100kb-http", MIXES["100kb"], "http"),
    Scenario("500b-http", MIXES["500b"], "http"),
    Scenario("64mb-http", MIXES["64mb"], "http", quick=True),
    Scenario("256mb-http", MIXES["256mb"], "http"),
    Scenario("1gb-http", MIXES["1gb"], "http"),
    Scenario("one-http", MIXES["500b"], "http", items=1),
    Scenario("8kb-s3-signed", MIXES["8kb"], "s3-signed", items=800),
    Scenario("8kb-http-bucket", MIXES["8kb"], "http", into_bucket=True),
    Scenario("1mb-http-bucket", MIXES["1mb"], "http", into_bucket=True),
    Scenario("64mb-http-bucket", MIXES["64mb"], "http", items=4, into_bucket=True),
    Scenario("256mb-http-bucket", MIXES["256mb"], "http", items=2, into_bucket=True),
)
