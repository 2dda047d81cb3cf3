"""The options of transfers and output, and the table of all options.

Each field declares its command-line option, config key, variable and help (`arguments.option`). The command
line, the readers of TOML and the environment, and the reference pages are generated from `OPTIONS`.
(`stacpull.selection.Selection` declares which assets to transfer.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import attrs
import msgspec
from attrs.converters import optional

from stacpull import arguments
from stacpull.arguments import Held, ReadArgument, declaration, option
from stacpull.net.logins.profile import FilledProfile
from stacpull.redact import Secret
from stacpull.selection import Selection

DEFAULT_LAYOUT = "{collection}/{item}/{key}{ext}"

_EVERY = "mirror plan headers resume retry verify collections classes"
_FETCHING = "mirror headers resume retry verify"
_RUNS = "mirror resume retry"
_IN_DEST = "mirror plan resume retry verify"
"""Commands, for `Option.commands`."""

_dest = partial(option, group="Destination")
_network = partial(option, group="Credentials and network")
_dest_declaration = partial(declaration, group="Destination")
_network_declaration = partial(declaration, group="Credentials and network")
_output_declaration = partial(declaration, group="Output")


@attrs.frozen(field_transformer=arguments.named)
class S3Options:
    """How to access S3; names as in the AWS CLI. Unset fields come from the AWS environment or profile."""

    no_sign_request: bool = _network(False, "Send S3 requests without credentials.", brief=True)
    request_payer: bool = _network(False, "Agree to pay for requests to requester-pays buckets.")
    endpoint_url: str | None = _network(
        None,
        "Use this S3 endpoint instead of Amazon's.",
        metavar="URL",
        read=arguments.web_address,
        environment=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    )
    region: str | None = _network(
        None, "S3 region.", metavar="NAME", environment=("AWS_REGION", "AWS_DEFAULT_REGION")
    )
    profile: str | None = _network(
        None,
        "Log in with this profile of `stacpull credentials list`, or with this AWS profile for S3.",
        name="credentials",
        metavar="NAME",
        brief=True,
        environment=("AWS_PROFILE",),
    )
    buckets: tuple[str, ...] = attrs.field(default=(), converter=arguments.texts)
    """Of a credential profile: buckets for which requests are also signed when a redirect leads to them."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    keys: tuple[Secret, Secret] | None = None
    """Access key and secret key of a credential profile; None for those that the AWS tools find."""
    aws_metadata: bool = _network(
        False, "Let roles of EC2, ECS and EKS (and identities of other clouds' machines) give credentials."
    )


@arguments.documented
@attrs.frozen(field_transformer=arguments.named)
class Options:
    """How to transfer.

    Times are in seconds, sizes in bytes, rates per second; a rate or a `stop_after` of 0 means no limit. Text
    is read as on the command line (`"50M"`, `"3h50m"`), but no file is read for it.

    Attributes:
        headers: Header fields that are sent only to the source's own host.
        query: Query parameters (a key) that are sent only to the source's own host.
        credential_names: Where the credentials came from (for example `MLHUB_API_KEY`), to name the missing
            ones when a run is resumed.
        filled_profile: The logins of a credential profile (`profile_options`).
        s3: How to access S3.

    Raises:
        UsageError: An argument has a type that cannot be converted; the message names it.
    """

    layout: str = _dest(
        DEFAULT_LAYOUT,
        "Path of assets in DEST.",
        metavar="TEMPLATE",
        fixed=True,
        brief=True,
    )
    metadata: Literal["item", "ndjson", "none"] = _dest(
        "item",
        "Write item documents as one file each, as NDJSON, or not at all.",
        fixed=True,
        commands="mirror",
    )
    concurrency: int | None = option(
        None,
        "Simultaneous transfers.",
        metavar="N|auto",
        read=arguments.whole(1, arguments.MOST_AT_ONCE, auto=True),
        shown="auto",
        commands=f"{_FETCHING} plan",
        brief=True,
    )
    per_host: int = option(64, "Simultaneous requests per host.", metavar="N", read=arguments.whole(1))
    dask: str | None = attrs.field(
        default=None,
        converter=optional(arguments.cluster),
        metadata=declaration(
            "Transfer on the workers of a Dask cluster: a scheduler's address or file, or N workers here.",
            metavar="ADDRESS|FILE|N",
            load=arguments.cluster,
            commands=_RUNS,
        ),
    )
    retries: int = option(
        5,
        "Retries of each asset, and of each request for a document, before it fails.",
        metavar="N",
        read=arguments.whole(0),
    )
    stall_timeout: float = option(
        30.0,
        "Abort an attempt after this many seconds without data.",
        metavar="SECONDS",
        read=arguments.seconds,
        commands=_FETCHING,
    )
    min_rate: float = option(
        100.0,
        "Abort an attempt that stays slower than this for --stall-timeout.",
        metavar="BYTES[K|M|G]",
        read=arguments.byte_rate,
        shown="100 bytes per second",
        commands=_FETCHING,
    )
    limit_rate: float = option(
        0.0,
        "Fetch at most this many bytes per second, over all hosts.",
        metavar="BYTES[K|M|G]",
        read=arguments.byte_rate,
        shown="no limit",
        commands=_FETCHING,
        brief=True,
    )
    requests_per_second: float = option(
        0.0,
        "Send each host at most this many requests per second.",
        metavar="N",
        read=arguments.rate,
        shown="no limit",
    )
    stop_after: float = option(
        0.0,
        "Stop after this time, as Ctrl-C would; the run can be resumed. For example 3h50m.",
        metavar="TIME",
        read=arguments.duration,
        shown="no limit",
        commands=f"{_RUNS} headers",
        brief=True,
    )
    max_failures: int | None = option(
        None,
        "Stop when more assets than this have failed; the rest stays pending.",
        metavar="N",
        read=arguments.whole(0),
        commands=f"{_RUNS} headers",
    )
    page_size: int | None = option(
        None,
        "Items per page to request; auto starts large and shrinks after errors.",
        metavar="N|auto",
        read=arguments.whole(1, auto=True),
        shown="auto",
        commands="mirror plan headers resume classes",
    )
    max_page_size: int = option(
        64_000_000,
        "Bytes of the largest page or JSON document to read, for services that ignore --page-size.",
        metavar="BYTES[K|M|G]",
        read=arguments.byte_count,
        shown="64M",
        flag=False,
    )
    headers: Mapping[str, Secret] = attrs.field(
        factory=dict,
        converter=arguments.header_fields,
        metadata=_network_declaration(
            "Send this header to SOURCE's host only; ${NAME} is an environment variable.",
            name="header",
            metavar="'K: V'|@FILE",
            brief=True,
        ),
    )
    query: Mapping[str, Secret] = attrs.field(factory=dict, converter=arguments.secrets)
    credential_names: tuple[str, ...] = ()
    filled_profile: FilledProfile | None = None
    s3: S3Options = attrs.field(factory=S3Options)
    ca_bundle: Path | None = attrs.field(
        default=None,
        converter=optional(arguments.file_path),
        metadata=_network_declaration(
            "Trust the certificate authorities in this PEM file.",
            metavar="FILE",
            load=arguments.existing_file,
        ),
    )
    checksum: Literal["sha256", "crc64nvme", "none"] = _dest(
        "sha256",
        "Checksum to record for every asset; crc64nvme is faster for large files.",
        kept=True,
        commands="mirror retry",
    )
    missing: Literal["fail", "known", "ok"] = _dest(
        "fail",
        "Exit with 1 if the source lists assets that it does not have; known: only for those that are newly "
        "gone; ok: never.",
        commands=f"{_RUNS} headers",
        brief=True,
    )
    revalidate: bool = _dest(
        False,
        "Re-check every local asset with the server, not only those whose item was updated.",
        kept=True,
        commands="mirror",
    )
    items_parquet: bool | None = _dest(
        None,
        "From this run on, keep items.parquet in DEST: an index of all items (stac-geoparquet).",
        commands="mirror",
    )
    prune: Literal["list", "remove"] | None = _dest(
        None,
        "List the items in DEST that the source no longer has; with =remove, remove them.",
        metavar="[=remove]",
        read=arguments.prune,
        bare="list",
        kept=True,
        commands="mirror",
        brief=True,
    )
    work: Path | None = attrs.field(
        default=None,
        converter=optional(arguments.file_path),
        metadata=_dest_declaration(
            "With a bucket as DEST: the directory for the ledger and unfinished files.",
            metavar="DIR",
            load=arguments.directory,
            commands=_IN_DEST,
            brief=True,
        ),
    )
    break_lock: bool = _dest(
        False,
        "Take over a bucket from a run that cannot end its lease. No other may be active.",
        commands="mirror resume",
    )
    dest_endpoint_url: str | None = _dest(
        None,
        "With a bucket as DEST: use this endpoint for it.",
        metavar="URL",
        read=arguments.web_address,
        commands=_IN_DEST,
    )
    dest_profile: str | None = _dest(
        None,
        "With a bucket as DEST: use the credentials of this AWS profile for it.",
        metavar="NAME",
        commands=_IN_DEST,
    )
    dest_region: str | None = _dest(
        None, "With a bucket as DEST: its region.", metavar="NAME", commands=_IN_DEST
    )
    adopt: bool = _dest(
        False,
        "Reuse existing files if size and checksum (or date) match.",
        kept=True,
        commands="mirror retry",
    )
    allow_private_hosts: bool = _network(
        False, "Follow links and redirects to private and loopback addresses."
    )
    allow_local: tuple[str, ...] = attrs.field(
        default=(),
        converter=arguments.texts,
        metadata=_network_declaration(
            "With a SOURCE on disk: also copy assets from this directory.", metavar="DIR"
        ),
    )
    log_file: Path | None = attrs.field(
        default=None,
        converter=optional(arguments.file_path),
        metadata=_output_declaration(
            "Append a line per request to this file: time, method, status, bytes, milliseconds, URL.",
            metavar="FILE",
        ),
    )
    dashboard: tuple[str, int] | None = attrs.field(
        default=None,
        converter=optional(arguments.listen_address),
        metadata=_output_declaration(
            "Serve a web page that shows the run; port 0 selects a free port.",
            metavar="[HOST:]PORT",
            commands=_RUNS,
        ),
    )
    dashboard_token: Secret | None = attrs.field(
        default=None,
        converter=optional(arguments.token),
        metadata=_output_declaration(
            "Of --dashboard: ask browsers for this token, or the content of @FILE; required if HOST is not a "
            "loopback address.",
            load=arguments.content,
            commands=_RUNS,
            flag=False,
        ),
    )
    dask_client: Any = attrs.field(default=None, eq=False, repr=False)
    """The `client` of `stacpull.mirror`: a `distributed.Client` whose workers transfer."""

    @property
    def fixed(self) -> dict[str, Any]:
        """The values that a run keeps from its start to its end."""
        return {name: getattr(self, name) for name, _ in _declared_as("fixed")}

    @property
    def kept(self) -> dict[str, Any]:
        """The values other than defaults that `resume` uses again."""
        values = ((name, getattr(self, name), default) for name, default in _declared_as("kept"))
        return {name: value for name, value, default in values if value != default}

    def of_run(self, stored: Mapping[str, Any]) -> Options:
        """Return these options with the values that a run has stored. Other values are ignored."""
        names = dict([*_declared_as("fixed"), *_declared_as("kept")])
        return attrs.evolve(self, **{name: value for name, value in stored.items() if name in names})

    @property
    def uses_dask(self) -> bool:
        """True if the workers of a Dask cluster transfer."""
        return self.dask is not None or self.dask_client is not None

    @property
    def recorded_checksum(self) -> str | None:
        """The algorithm of the digests that are recorded, or None for none."""
        return None if self.checksum == "none" else self.checksum


def _declared_as(what: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and defaults of the fields of `Options` that are declared `fixed` or `kept`."""
    for field in attrs.fields(Options):
        if field.metadata.get("option", {}).get(what):
            yield field.name, field.default


def without_secret_fields(held: Held) -> Held:
    """Return `Options`, or a part of them, with the defaults of the fields whose types hold secrets."""
    given: Any = held
    kind: Any = type(held)
    plain, changed = kind(), {}
    for name, hint in arguments.hints(kind).items():
        if attrs.has(hint):
            changed[name] = without_secret_fields(getattr(given, name))
        elif _holds_secrets(hint):
            changed[name] = getattr(plain, name)
    bare: Held = attrs.evolve(given, **changed)
    return bare


def _holds_secrets(hint: Any) -> bool:
    return hint in (Secret, FilledProfile) or any(map(_holds_secrets, get_args(hint)))


@attrs.frozen(field_transformer=arguments.named)
class Output:
    """What a command prints."""

    json: bool = option(False, "Print one JSON object as the last line.", brief=True)
    no_progress: bool = option(False, "Show no progress.")
    quiet: bool = option(
        False,
        "Print errors only, and the first line of the result if the exit code is not 0.",
        short="q",
        brief=True,
    )
    verbose: int = option(0, "Verbose; -vv adds tracebacks.", short="v", counted=True, brief=True)


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option, as its field declares it (`arguments.declaration`), with what follows from the field."""

    help: str
    holder: type
    """The class of values that it belongs to: `Selection`, `Options`, `Output`, or that of a neighbour."""
    name: str
    """In kebab case."""
    target: str
    """The field that declares it (`s3.region`)."""
    read: ReadArgument
    group: str
    default: str
    """For help pages and the reference, as `help`, `group` and `metavar`."""
    commands: str
    """The commands that have it, separated by spaces: those in which it can do something."""
    brief: bool = False
    """True if `--help` shows it. `--help all` shows every option."""
    flag: bool = True
    """False if only config files, variables and Python set it."""
    short: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    load: Callable[[str], object] | None = None
    """Returns what text means on this machine: the content of a file, or the task of a job array. Then the
    field's reader reads it. Not used for values of Python."""
    environment: tuple[str, ...] = ()
    """Variables of other programs that set it, after its own STACPULL_ variable."""
    many: bool = False
    """True if it may be repeated: the field is a tuple, and a single '' means an empty one."""
    single: bool = False
    """True if a tuple is given as one value (`s3,https`), not by repeating the flag."""
    switch: bool = False
    """True if it takes no value on the command line; `opposite` if there is also a switch --no-NAME."""
    opposite: bool = False
    counted: bool = False
    """True if the flag takes no value: how often it is given is counted (-vv)."""
    bare: str = ""
    """The value of the flag alone. Another one is given as `--NAME=VALUE`."""
    narrows: bool = False
    """True if an empty list means no filter. So `''` is an error, unless a config file sets the option."""
    of_assets: bool = False
    """True if it decides which assets of an item are fetched (`Selection.asset_filters`)."""
    fixed: bool = False
    """True if a run keeps the value from its start to its end: the commands that continue it, or fetch again
    what it has planned, use the value and refuse another. JSON has such a value."""
    kept: bool = False
    """True if `resume` uses the value again, unless another one than the default is given. JSON has such a
    value."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that set it, by precedence. Only transfer options with a single value have any."""
        if self.many or self.holder is not Options:
            return ()
        return (f"STACPULL_{self.name.replace('-', '_').upper()}", *self.environment)


def declared(holder: type, title: str, part: type | None = None) -> Iterator[Option]:
    """Yield the options that the fields of a class declare, including those of `s3`.

    Args:
        holder: The class.
        title: The group on help pages, for options that name none.
        part: The class of a field of `holder`, whose options are wanted.
    """
    kind = part or holder
    for field in attrs.fields(kind):
        if field.name == "s3":
            yield from declared(holder, title, S3Options)
        elif given := dict(field.metadata.get("option", {})):
            hint = arguments.hints(kind)[field.name]
            plain = next((one for one in get_args(hint) if NoneType in get_args(hint)), hint)
            many = plain is hint and get_origin(hint) in (tuple, Mapping) and not given.get("single")
            name = given.pop("name", field.name.replace("_", "-"))
            help_ = given.pop("help") + (" May be repeated." if many else "")
            default = given.pop("shown", "" if given.get("counted") else _shown(name, field.default))
            group = given.pop("group", title)
            usual = "mirror plan headers" if holder is Selection else _EVERY
            commands = given.pop("commands", "mirror plan" if given.get("fixed") else usual)
            yield Option(
                **given,
                help=help_,
                group=group,
                commands=commands,
                default=default,
                holder=holder,
                name=name,
                target=f"s3.{field.name}" if part else field.name,
                read=arguments.readers(kind)[field.name],
                many=many,
                switch=plain is bool,
                opposite=plain is bool and field.default is not False,
                choices=get_args(plain) if get_origin(plain) is Literal else (),
            )


def _shown(name: str, default: object) -> str:
    """Return a default as written on the command line; empty for one that means "not set"."""
    if isinstance(default, bool):
        return name if default else ""
    return f"{default:g}" if isinstance(default, int | float) else default if isinstance(default, str) else ""


OPTIONS: tuple[Option, ...] = (
    *declared(Selection, "Selection"),
    *declared(Options, "Transfer"),
    *declared(Output, "Output"),
)
"""Every option of the core, in the order of the help pages."""

BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(option.group for option in OPTIONS))
"""Titles of the groups of options, in the order of help pages."""

REMOVED = {
    "sign-bucket": "use --credentials NAME: a profile has `buckets` in its table `s3`",
}
"""Options of earlier versions, and what to use instead."""


def options_of(command: str) -> Iterator[Option]:
    """Yield the options of a command."""
    return (option for option in OPTIONS if command in option.commands.split())
