"""How to transfer, as opposed to what (`stacpull.models.Selection`): a resumed run may have other options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import attrs

from stacpull import arguments
from stacpull.config.provider import Provider
from stacpull.redact import Secret

__all__ = ["DEFAULT_LAYOUT", "Options", "S3Options", "TraceOptions"]

DEFAULT_LAYOUT = "{collection}/{item}/{key}{ext}"


@attrs.frozen(field_transformer=arguments.named)
class S3Options:
    """How S3 is spoken to; names as in the AWS CLI. Unset: AWS environment, profile."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    no_sign_request: bool = False
    request_payer: bool = False
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    buckets: tuple[str, ...] = attrs.field(default=(), converter=arguments.texts)
    """Buckets that may be signed for even when reached by a redirect."""
    keys: tuple[Secret, Secret] | None = None
    """Access key and secret key of a credential profile; None: what the AWS tools find."""
    allow_instance_metadata: bool = False
    """True to ask the machine's own metadata service (link-local) for credentials, as on EC2."""


@attrs.frozen(field_transformer=arguments.named)
class Options:
    """Everything about a run that is not its selection. Durations in seconds, sizes in bytes."""

    concurrency: arguments.AtOnce | None = attrs.field(default=None, converter=arguments.whole)
    """Transfers at once over all hosts; None: decided while running."""
    per_host: arguments.Positive = 64
    processes: arguments.Positive = 1
    """Processes that transfer; more than one are worker processes beside this one, from 1 on."""
    retries: arguments.NotNegative = 5
    stall_timeout: float = 30.0
    min_rate: float = 100.0
    """Bytes a second below which a transfer is given up, judged over `stall_timeout`; 0: never."""
    limit_rate: float = 0.0
    """Bytes a second that the whole run may fetch, over all hosts and processes; 0: no limit."""
    requests_per_second: float = 0.0
    """Requests a second to each host, over all processes; 0: no limit."""
    stop_after: float | None = attrs.field(default=None, converter=arguments.ratio)
    """Seconds after which the run stops as if it were interrupted; it can be resumed."""
    max_failures: arguments.NotNegative | None = attrs.field(default=None, converter=arguments.whole)
    """The run stops when more assets than that have failed in it; the rest stays pending."""
    layout: str = DEFAULT_LAYOUT
    metadata: Literal["item", "ndjson", "none"] = "item"
    checksum: Literal["sha256", "crc64nvme", "none"] = "sha256"
    """What is recorded of the content of every asset, for `verify` to check."""
    missing: Literal["fail", "ok"] = "fail"
    adopt: bool = False
    """True to take files that the ledger does not know where size and a checksum or validator agree."""
    revalidate: bool = False
    """True to ask about every asset that is done if it has changed."""
    prune: bool = False
    """True to tell, after the walk, which items are gone upstream; with `yes` they are removed."""
    yes: bool = False
    page_size: arguments.Positive | None = attrs.field(default=None, converter=arguments.whole)
    """Items a page; None: decided while walking."""
    max_page_size: int = 64 * 1024 * 1024
    """The largest page, or other JSON document of a source, in bytes, decoded."""
    headers: Mapping[str, Secret] = attrs.field(factory=dict, converter=arguments.secrets)
    """Header fields sent to the source's own host only."""
    query: Mapping[str, Secret] = attrs.field(factory=dict, converter=arguments.secrets)
    """Query parameters (a key) sent to the source's own host only."""
    credential_names: tuple[str, ...] = ()
    """Where the credentials came from (for example `MLHUB_API_KEY`), to name what is missing on resume."""
    provider: Provider | None = None
    """Logins for other hosts than the source's own, of a credential profile (`config.profiles`)."""
    s3: S3Options = attrs.field(factory=S3Options)
    transport: Literal["auto", "aiohttp"] = "auto"
    """What sends plain requests: `auto` the lean transport (half the processor time), or aiohttp for all."""
    ca_bundle: Path | None = attrs.field(default=None, converter=arguments.file_path)
    allow_private_hosts: bool = False

    @property
    def recorded_checksum(self) -> str | None:
        """The algorithm of the digests that are recorded, or None for none."""
        return None if self.checksum == "none" else self.checksum


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What to trace, beside its place and time (`stacpull.trace`)."""

    geometry: str | None = None
    """GeoJSON, or the path of a file of it."""
    resolution: float = 3.0
    """Metres a pixel."""
    index: str | None = None
    evalscript: Path | None = None
    method: Literal["mode", "median"] = "mode"
    base_url: str | None = None
