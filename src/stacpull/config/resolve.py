"""Resolves flags, environment and config file to the options of a run.

Precedence: flag, environment, config file, default. Lists replace each other and are never joined. A single
'' is the empty list, so `--exclude-asset ''` overrides a config file. For filters whose empty list selects
everything (`--ids`), '' is rejected unless it overrides a config file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import attrs
import msgspec

from stacpull import entry_points
from stacpull.config import credentials, toml
from stacpull.config.options import BY_NAME, OPTIONS, Option, Options, Output, S3Options
from stacpull.config.toml import Config, Setting
from stacpull.errors import similar
from stacpull.redact import Secret
from stacpull.selection import Selection
from stacpull.system import with_active_endpoints
from stacpull.urls import parts_of

_PREFIX = "STACPULL_"


class Resolved(msgspec.Struct, frozen=True):
    selection: Selection = msgspec.field(default_factory=Selection)
    options: Options = msgspec.field(default_factory=Options)
    output: Output = msgspec.field(default_factory=Output)
    others: Mapping[type, Any] = msgspec.field(default_factory=dict)
    """The options that a command of another package declares, by their class."""
    warnings: tuple[str, ...] = ()
    """One sentence for each setting that has no effect or is probably a mistake."""


def resolve(
    flags: Mapping[str, object],
    *,
    source: str | None = None,
    options: Sequence[Option] = OPTIONS,
    config: Config | None = None,
) -> Resolved:
    """Combine the flags with the environment, the config file and the defaults."""
    variables = with_active_endpoints(os.environ)
    config = toml.read_config(flags.get("config")) if config is None else config
    settings = {}
    values: dict[type, dict[str, Any]] = {Selection: {}, Options: {}, S3Options: {}, Output: {}}
    for option in options:
        group = values.setdefault(option.holder, {})
        if (setting := setting_of(option, flags, variables, config)) is not None:
            settings[option.name] = setting
            if option.name != "header":  # `_credentials` reads it
                group[option.target] = _read(option, setting)
    known = {**BY_NAME, **{option.name: option for option in options}}
    for name, written in config.options.items():
        # the text of others may mean something else on another machine
        is_fixed = known[name].load is None or not isinstance(written.value, str | list)
        if is_fixed and written is not settings.get(name) and name != "header":
            _read(known[name], written)
    credential_fields = _credentials(settings.get("header"), config, source, variables)
    s3 = S3Options(**values.pop(S3Options))
    transfer = Options(**values.pop(Options), **credential_fields, s3=s3)
    profile = settings.get("credentials")
    if profile is not None and profile.where != "AWS_PROFILE":  # this variable always names an AWS profile
        read_profile = entry_points.load("stacpull.profiles", "options")
        if read_profile is not None:
            s3 = attrs.evolve(s3, profile=variables.get("AWS_PROFILE") or None)
            without_profile = attrs.evolve(transfer, s3=s3)
            transfer = read_profile(without_profile, str(profile.value), variables) or transfer
    return Resolved(
        Selection(**values.pop(Selection)),
        transfer,
        Output(**values.pop(Output)),
        {holder: holder(**fields) for holder, fields in values.items()},
        tuple(_unknown_variables(variables)),
    )


def setting_of(
    option: Option, flags: Mapping[str, object], variables: Mapping[str, str], config: Config
) -> Setting | None:
    """Return the raw value of an option with the highest precedence; None if it is not set."""
    candidates = (
        Setting(flags.get(option.name), f"--{option.name}"),
        *(Setting(variables.get(name) or None, name) for name in option.variables),
        config.options.get(option.name),
    )
    first = next((s for s in candidates if s is not None and s.value not in (None, ())), None)
    if first is not None and first.value == ("",) and option.name in config.options:  # '' overrides its list
        return first._replace(value=())
    return first


def _read(option: Option, setting: Setting) -> object:
    def load(value: object) -> object:
        return option.load(value) if option.load is not None and isinstance(value, str) else value

    def read(value: object) -> object:
        if option.form != "repeated":
            return option.read(load(value))
        is_empty = value == "" or (isinstance(value, list | tuple) and "" in value)
        if is_empty and option.holder is Selection and "exclude" not in option.name:
            raise ValueError("must not be empty: leave it out to keep everything")
        loaded: list[object] = []
        for part in map(load, _elements(value)):  # a file may have several
            loaded += part if isinstance(part, tuple) else (part,)
        return option.read(loaded)

    return setting.read(read)


def _elements(value: object) -> list[object]:
    return [element for element in (value if isinstance(value, list | tuple) else [value]) if element != ""]


def _credentials(
    header: Setting | None, config: Config, source: str | None, variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields of `Options` for credentials.

    Parameters in SOURCE, and an Authorization from elsewhere, take precedence over the config file.
    """
    carried = parse_qs(parts_of(source or "").query, keep_blank_values=True)
    fields = [] if header is None else [Setting(value, header.where) for value in _elements(header.value)]
    headers = credentials.header_fields(fields, variables)
    is_replaced = header is not config.options.get("header") and any(
        field.name.lower() == "authorization" for field in headers
    )
    parameters = {} if is_replaced else config.query
    wanted = {name: setting for name, setting in parameters.items() if name not in carried}
    query = credentials.query_parameters(wanted, variables)
    return {
        "headers": {credential.name: credential.value for credential in headers},
        "query": {credential.name: credential.value for credential in query},
        "credential_names": tuple(dict.fromkeys(n for c in (*headers, *query) for n in c.sources)),
    }


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    read = {name.removeprefix(_PREFIX) for option in OPTIONS for name in option.variables}
    for name in sorted(variables):
        word = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and word not in read:
            near, flag = similar(word, read), word.lower().replace("_", "-")
            hint = f"; did you mean {_PREFIX}{near[0]}?" if near else "."
            hint = f": use --{flag}." if flag in BY_NAME else hint
            yield f"The environment variable {name} sets no option{hint}"


def with_environment(options: Options, source: str) -> Options:
    """Return the options of a Python program with unset fields taken from the environment.

    Only variables of services are used: those of AWS, and the key of a service that is known by its URL,
    unless `source` has a key. Fields that are set do not change.
    """
    variables = with_active_endpoints(os.environ)
    unset: dict[str, Any] = {}
    for option in OPTIONS:
        if option.holder is S3Options and option.environment and getattr(options.s3, option.target) is None:
            settings = (Setting(variables[v], v) for v in option.environment if variables.get(v))
            unset[option.target] = next((setting.read(option.read) for setting in settings), None)
    options = attrs.evolve(options, s3=attrs.evolve(options.s3, **unset))
    parts = parts_of(source)
    wanted, carried = credentials.wanted_variable(parts), parse_qs(parts.query, keep_blank_values=True)
    has_login = any(name.lower() == "authorization" for name in options.headers)
    if has_login or options.query or "key" in carried or wanted is None or not variables.get(wanted):
        return options
    names = (*options.credential_names, wanted)
    return attrs.evolve(options, query={"key": Secret(variables[wanted])}, credential_names=names)
