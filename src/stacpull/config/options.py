"""The options of transfers and output, and the table of all options. `selection` declares the filters."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import attrs
from attrs.converters import optional
from msgspec.structs import replace

from stacpull import arguments
from stacpull.errors import CredentialsError
from stacpull.option_fields import Option, as_option, declared_options, option, with_readers
from stacpull.redact import Secret
from stacpull.selection import Selection
from stacpull.suggestions import Arguments
from stacpull.system import AWS_ENDPOINTS

DEFAULT_LAYOUT = "{collection}/{item}/{key}{ext}"

_OF_SOURCE = "mirror plan headers resume retry collections classes"
_EVERY = f"{_OF_SOURCE} verify"
_RUNS = "mirror resume retry"
_TRANSFERS = f"{_RUNS} headers"
_WALKS = "mirror resume"
_IN_DEST = "mirror plan resume retry verify"
_read_concurrency = arguments.integer(1, arguments.MAX_CONCURRENCY, auto=True)


@attrs.frozen(repr=False, field_transformer=with_readers)
class S3Options(Arguments):
    """How to access S3; names as in the AWS CLI. Unset fields come from the AWS environment or profile.

    Attributes:
        no_sign_request: Send S3 requests without credentials.
        request_payer: Agree to pay for requests to requester-pays buckets.
        endpoint_url: Use this S3 endpoint instead of Amazon's.
        region: Use this S3 region.
        profile: Log in with this profile (see `stacpull credentials list`); for S3, it can be an AWS profile.
        buckets: Requests for these buckets are signed, also after a redirect.
        keys: Access key and secret key; None for the keys that the AWS tools find.
        aws_metadata: Use the credentials of this machine's role (EC2, ECS, EKS) or identity (Google, Azure).
    """

    no_sign_request: bool = option(False, basic=True)
    request_payer: bool = option(False)
    endpoint_url: str | None = option(None, "URL", read=arguments.read_web_address, environment=AWS_ENDPOINTS)
    region: str | None = option(None, "NAME", environment=("AWS_REGION", "AWS_DEFAULT_REGION"))
    profile: str | None = option(None, "NAME", name="credentials", basic=True, environment=("AWS_PROFILE",))
    buckets: tuple[str, ...] = attrs.field(default=(), converter=arguments.read_texts)
    keys: tuple[Secret, Secret] | None = attrs.field(default=None, converter=arguments.read_keys)
    aws_metadata: bool = option(False)


@attrs.frozen(repr=False, field_transformer=with_readers)
class Options(Arguments):
    """How to transfer.

    Times are in seconds, sizes in bytes, rates per second; a rate or a `stop_after` of 0 means no limit. Text
    is read as on the command line (`"50M"`, `"3h50m"`), but no file is read for it.

    Attributes:
        layout (str, default "{collection}/{item}/{key}{ext}"): Write new assets to this path in DEST.
        metadata ("item", "ndjson" or "none"): Write item documents as files, as NDJSON, or not at all.
        checksum ("sha256", "crc64nvme", "none" or None): Record this checksum of assets; crc64nvme is faster.
        missing ("fail", "known", "ok" or None): Exit with 1 if an asset is missing from the source
            (fail), only if it is newly missing (known), or never (ok).
        revalidate (bool): Check every file with the server, even if its item has not changed.
        items_parquet (bool or None): Keep an index of all items in DEST (items.parquet), also in later runs.
        prune (None, "list" or "remove"): List items in DEST that the source no longer has, or remove them.
        adopt (bool): Keep files already in DEST whose size and checksum (or date) match.
        work (path): The directory of the ledger and of unfinished files, if DEST is a bucket.
        dest_endpoint_url (str): Use this endpoint, if DEST is a bucket; S3-compatible services need one.
        dest_profile (str): Use this AWS profile, if DEST is a bucket.
        dest_region (str): Use this region, if DEST is a bucket.
        break_lock (bool): Remove a killed run's lock from a bucket. First make sure that no run is active.
        concurrency (int or None for auto): Send up to this many requests in parallel.
        per_host (int): Send each host at most this many requests in parallel.
        dask (str or int): Transfer on the workers of this Dask scheduler (address or file), or on N workers.
        retries (int): Retry an asset or a document up to N times after temporary errors.
        stall_timeout (float in seconds): Abort an attempt after this many seconds without data.
        min_rate (float or str, such as "10K"): Abort requests that stay slower than this for --stall-timeout.
        limit_rate (float or str, such as "50M"): Fetch at most this many bytes per second, over all hosts.
        requests_per_second (float): Send each host at most this many requests per second.
        stop_after (float or str): Stop after this time (3h50m, or seconds). Running transfers get 5 s
            more. The run can be resumed.
        max_failures (int or None): Stop if more than N assets fail; `mirror` counts only new failures.
        page_size (int or None for auto): Request this many items per page; auto requests fewer after errors.
        max_page_size (int or str, default "64M"): Read pages and JSON documents of at most this many bytes.
        headers (dict of str): Send this header to SOURCE's host only; ${NAME} is an environment variable.
        ca_bundle (path): Trust the certificate authorities in this PEM file.
        allow_private_hosts (bool): Follow links and redirects to private and loopback addresses.
        allow_local (str or list, such as "/data"): Also copy assets from this directory, if SOURCE is local.
        log_file (path): Log each request to this file: time, status and URL. Its directory is created.
        dashboard (int or str, such as 8080): Serve a web page that shows the run; port 0 selects a free port.
        dashboard_token (str): Show the dashboard only to browsers that send this token, or the content of
            @FILE; required if HOST is not a loopback address.
        query (dict of str): Query parameters (a key) that are sent only to the source's own host.
        s3 (S3Options): How to access S3.

    Raises:
        UsageError: An argument has a type that cannot be converted; the message names it.
    """

    layout: str = option(DEFAULT_LAYOUT, "TEMPLATE", group="Destination", fixed=True, basic=True)
    metadata: Literal["item", "ndjson", "none"] = option("item", fixed=True, commands="mirror")
    checksum: Literal["sha256", "crc64nvme", "none"] | None = option(
        None, shown="sha256", remembered=True, commands=_RUNS
    )
    missing: Literal["fail", "known", "ok"] | None = option(
        None, shown="fail", remembered=True, commands=_TRANSFERS, basic=True
    )
    revalidate: bool = option(False, remembered=True, commands=_WALKS)
    items_parquet: bool | None = option(None, remembered=True, commands="mirror")
    prune: Literal["list", "remove"] | None = option(
        None,
        "[=list|remove]",
        read=arguments.read_prune,
        bare_value="list",
        has_variable=False,  # it removes files: only a command or a config file says so
        remembered=True,
        commands=_WALKS,
        basic=True,
    )
    adopt: bool = option(False, remembered=True, commands=_RUNS)
    work: Path | None = attrs.field(
        default=None,
        converter=optional(arguments.read_path),
        metadata=as_option("DIR", commands=_IN_DEST, basic=True),
    )
    dest_endpoint_url: str | None = option(None, "URL", read=arguments.read_web_address, commands=_IN_DEST)
    dest_profile: str | None = option(None, "NAME", commands=_IN_DEST)
    dest_region: str | None = option(None, "NAME", commands=_IN_DEST)
    break_lock: bool = option(False, commands=_WALKS)
    concurrency: int | None = option(
        None, "N|auto", read=_read_concurrency, group="Transfer", commands=f"{_RUNS} plan headers", basic=True
    )
    per_host: int = option(64, "N", read=arguments.integer(1), commands=_TRANSFERS)
    dask: str | None = attrs.field(
        default=None,
        converter=optional(arguments.read_cluster),
        metadata=as_option("ADDRESS|FILE|N", load=arguments.read_cluster, commands=_RUNS),
    )
    retries: int = option(5, "N", read=arguments.integer(0), commands=_OF_SOURCE)
    stall_timeout: float = option(30.0, "SECONDS", read=arguments.read_seconds, commands=_OF_SOURCE)
    min_rate: float = option(
        100.0, "BYTES[K|M|G]", read=arguments.read_byte_rate, shown="100 bytes per second", commands=_RUNS
    )
    limit_rate: float = option(0.0, "BYTES[K|M|G]", read=arguments.read_byte_rate, commands=f"{_RUNS} verify")
    requests_per_second: float = option(
        0.0, "N", read=arguments.read_rate, commands=f"{_RUNS} plan headers classes"
    )
    stop_after: float = option(0.0, "TIME", read=arguments.read_duration, commands=_TRANSFERS, basic=True)
    max_failures: int | None = option(None, "N", read=arguments.integer(0), commands=_RUNS)
    page_size: int | None = option(
        None, "N|auto", read=arguments.integer(1, auto=True), commands="mirror plan headers resume classes"
    )
    max_page_size: int = option(64_000_000, read=arguments.read_byte_count, shown="64M", form="no_flag")
    headers: Mapping[str, Secret] = attrs.field(
        factory=dict,
        converter=arguments.read_header_fields,
        metadata=as_option("'K: V'|@FILE", group="Credentials and network", basic=True),
    )
    query: Mapping[str, Secret] = attrs.field(factory=dict, converter=arguments.read_secrets)
    s3: S3Options = attrs.field(factory=S3Options)
    ca_bundle: Path | None = attrs.field(
        default=None,
        converter=optional(arguments.read_path),
        metadata=as_option("FILE", load=arguments.load_file),
    )
    allow_private_hosts: bool = option(False)
    allow_local: tuple[str, ...] = attrs.field(
        default=(),
        converter=arguments.read_texts,
        metadata=as_option("DIR", load=arguments.load_directory, commands=f"{_IN_DEST} headers"),
    )
    log_file: Path | None = attrs.field(
        default=None, converter=optional(arguments.read_path), metadata=as_option("FILE", group="Output")
    )
    dashboard: tuple[str, int] | None = attrs.field(
        default=None,
        converter=optional(arguments.read_listen_address),
        metadata=as_option("[HOST:]PORT", commands=_RUNS),
    )
    dashboard_token: Secret | None = attrs.field(
        default=None,
        converter=optional(arguments.read_token),
        metadata=as_option(load=arguments.load_content, commands=_RUNS, form="no_flag"),
    )
    # stacpull sets the following, not a program
    credential_names: tuple[str, ...] = ()  # such as MLHUB_API_KEY: `resume` names those that are missing
    credentials_for: str | None = None  # the `source` of the config that has them: no other host gets them
    credential_error: CredentialsError | None = None  # to raise before SOURCE is opened
    filled_profile: Any = None  # `stacpull_logins.logins.FilledProfile`
    dask_client: Any = attrs.field(default=None, eq=False, repr=False)  # the `client` of `stacpull.mirror`

    @property
    def fixed(self) -> dict[str, Any]:
        """The values that a run keeps from its start to its end."""
        return {name: getattr(self, name) for name in _declared_as("fixed")}

    @property
    def remembered(self) -> dict[str, Any]:
        """The given values that `resume` uses again. A switch that is False is treated as not given."""
        given = {}
        for name, unset in _declared_as("remembered").items():
            value = getattr(self, name)
            if value != unset:
                given[name] = value
        return given

    def with_stored(self, stored: Mapping[str, Any]) -> Self:
        """Return these options with the values that a run has stored. Other values are ignored."""
        names = _declared_as("fixed") | _declared_as("remembered")
        return attrs.evolve(self, **{name: value for name, value in stored.items() if name in names})

    def without_secrets(self) -> Self:
        """Return these options without the fields whose types hold secrets."""
        s3 = attrs.evolve(self.s3, keys=None)
        without = attrs.evolve(self, headers={}, query={}, s3=s3)
        return attrs.evolve(without, filled_profile=None, dashboard_token=None)


def _declared_as(what: str) -> dict[str, Any]:
    fields = [field for field in attrs.fields(Options) if field.metadata.get(what)]
    return {field.name: field.default for field in fields}


@attrs.frozen(field_transformer=with_readers)
class Output:
    """What a command prints.

    Attributes:
        json: Print the result as JSON, on the last line of standard output.
        no_progress: Do not show progress.
        quiet: Print only errors, and the result if there are failures.
        verbose: Print more, such as each failure; -vv adds tracebacks.
    """

    json: bool = option(False, basic=True)
    no_progress: bool = option(False)
    quiet: bool = option(False, short="q", basic=True)
    verbose: int = option(0, short="v", read=arguments.integer(0), form="count", basic=True)


OPTIONS: tuple[Option, ...] = (
    *declared_options(Selection, "Selection", commands="mirror plan headers"),
    *declared_options(Options, "Destination", commands=_EVERY, has_variables=True),
    *declared_options(Output, "Output", commands=_EVERY),
)

BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


def options_of(command: str) -> Iterator[Option]:
    """Yield the options of a command. Some defaults are the values of the run that it continues."""
    of_runs = {"resume": {*_declared_as("remembered")}, "retry": {"checksum", "missing"}}
    for known in OPTIONS:
        if command in known.commands.split():
            is_of_run = known.field in of_runs.get(command, ())
            yield replace(known, default="as in the run") if is_of_run else known
