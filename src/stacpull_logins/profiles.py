"""Credential profiles, `--credentials NAME`: TOML files with logins for hosts.

NAME is a path that ends with `.toml`; else the file NAME.toml in `stacpull/providers` in the user's config
folder (`XDG_CONFIG_HOME`, `~/.config`); else a shipped profile (`configs/providers`). A profile contains no
secrets: its values contain variables, `${NAME}`, or it uses a netrc file. docs/credentials.md lists the keys;
the kinds of login declare them.

A login whose variables are not all set is left out: a profile may have several logins for a host, and the
first complete one is used. If none is complete, the error names the missing variables, but never a value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import msgspec

from stacpull import arguments, entry_points
from stacpull.arguments import CONTROL, ValueReader
from stacpull.config.options import BY_NAME, Options, S3Options
from stacpull.config.resolve import VARIABLE, replaced, variables_in
from stacpull.config.toml import Setting, TomlEntry, read_entries, shipped_config
from stacpull.errors import CredentialsError, UsageError, did_you_mean
from stacpull.hosts import host_of
from stacpull.redact import Secret
from stacpull.system import expand_user, expanded_or_none
from stacpull_logins.logins import (
    FilledProfile,
    HostLogin,
    HostPattern,
    HostPatterns,
    Key,
    Netrc,
    is_address,
    keys_of,
)

KINDS = "stacpull.logins"
_SUFFIX = ".toml"
_VARIABLES = re.compile(rf"{VARIABLE.pattern}(?:[^\w$]{{0,2}}{VARIABLE.pattern})*")
_LABELLED = re.compile(rf"(?:[A-Za-z-]{{1,20}}[ =] ?){{0,2}}{_VARIABLES.pattern}")
"""`Token ${T}`, `Token token=${T}`: the label is not a secret."""
_PAIRS = (("user", "password"), ("access-key", "secret-key"))
_SECRET_IN_FILE = "must not contain a secret: use only a variable, '${NAME}'"  # noqa: S105


class ProfileState(msgspec.Struct, frozen=True):
    """A profile in the list of profiles, without secrets."""

    name: str
    about: str = ""
    hosts: tuple[str, ...] = ()
    ready: bool = False
    """True if one of its logins is complete. `credentials check` tests whether a service accepts it."""
    needs: str = ""
    """What to set, for each of its logins."""
    path: str = ""
    problem: str = ""
    """Why it is unusable otherwise: the file cannot be read, or is not a valid profile."""


# --- lookup -----------------------------------------------------------------------------------------------


def find_profile(name: str, environ: Mapping[str, str]) -> tuple[ProfileState, FilledProfile] | None:
    """Return the profile with this name, or None if there is none: it may be an AWS profile."""
    path = expand_user(name) if name.endswith(_SUFFIX) else _paths(environ).get(name)
    return None if path is None else _read(path, environ)


def profile_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names of all profiles. A user's profile replaces a shipped one with the same name."""
    return list(_paths(environ))


def _paths(environ: Mapping[str, str]) -> dict[str, Path]:
    own = expanded_or_none(environ.get("XDG_CONFIG_HOME") or "~/.config")
    folders = [shipped_config("providers"), *([] if own is None else [own / "stacpull" / "providers"])]
    found = {path.stem: path for folder in folders for path in folder.glob(f"*{_SUFFIX}")}
    return dict(sorted(found.items()))


# --- reading ----------------------------------------------------------------------------------------------


def _read(path: Path, environ: Mapping[str, str]) -> tuple[ProfileState, FilledProfile]:
    entries, netrc = _known(read_entries(path), (*_PLAIN, "login", "s3")), Netrc(environ)
    tables = _inside(entries["login"]) if "login" in entries else []
    read = [_login(table, environ, netrc) for table in tables]
    hosts = [f"*.{one.host}" if one.any_below else one.host for patterns, _, _ in read for one in patterns]
    ways, logins = [needs for _, needs, _ in read], [login for *_, found in read for login in found]
    s3, is_ready = S3Options(), bool(logins)
    if "s3" in entries:
        s3, needs = _s3(entries["s3"], environ)
        hosts += [host_of(s3.endpoint_url)] if s3.endpoint_url else []
        ways.append(needs or ("AWS credentials, as the AWS tools find them",))
        is_ready = is_ready or all(map(environ.get, needs))
    if not ways:
        raise UsageError(f"{path}: a profile needs [login.NAME] or [s3].")
    plain = {name: entries[name].read(_PLAIN[name]) for name in _PLAIN if name in entries}
    state = ProfileState(
        path.stem,
        plain.get("about", ""),
        tuple(dict.fromkeys(hosts)),
        is_ready,
        "nothing" if () in ways else "set " + ", or ".join(dict.fromkeys(map(" and ".join, ways))),
        str(path),
    )
    return state, FilledProfile(path.stem, tuple(logins), plain.get("check", ()), s3, plain.get("per-host"))


def _login(
    table: TomlEntry, environ: Mapping[str, str], netrc: Netrc
) -> tuple[HostPatterns, tuple[str, ...], list[HostLogin]]:
    """Return its hosts, what to set, and the login if it is complete: one, or one for each netrc entry."""
    entries = {entry.name: entry for entry in _inside(table)}
    if "kind" not in entries or "hosts" not in entries:
        raise table.error("a login needs the keys kind and hosts")
    name = str(entries["kind"].value)
    if (cls := entry_points.load(KINDS, name)) is None:
        known = ", ".join(entry_points.names(KINDS))
        raise entries["kind"].error(f"must be one of {known}; other kinds need an additional package")
    keys = keys_of(cls)
    values, texts = _values(table, keys, "kind", "hosts")
    user, password = texts.get("user"), texts.get("password")
    if user and not password and not _VARIABLES.fullmatch(user):  # the user is the secret
        raise entries["user"].error(_SECRET_IN_FILE)
    hosts: HostPatterns = entries["hosts"].read(_hosts)
    needs = variables_in(*texts.values())
    if not all(map(environ.get, needs)):
        return hosts, needs, []
    for key, text in texts.items():
        value = replaced(text, environ)
        if CONTROL.search(value):
            raise entries[key].error("its value contains a line break or control character")
        values[key.replace("-", "_")] = Secret(value) if value or keys[key].required else None
    kind = cls(**values)
    if of_netrc := kind.netrc_hosts(hosts):
        found = [
            HostLogin(
                (host,) if of_netrc == hosts else hosts, attrs.evolve(kind, **entry), (str(netrc.path),)
            )
            for host, entry in netrc.entries(of_netrc).items()
        ]
        return hosts, needs or (netrc.problem or f"an entry of {of_netrc[0].host} in ~/.netrc",), found
    return hosts, needs, [HostLogin(hosts, kind, needs)]


def _s3(table: TomlEntry, environ: Mapping[str, str]) -> tuple[S3Options, tuple[str, ...]]:
    """Return the settings, with the keys if all their variables are set, and these variables."""
    values, found = _values(table, _S3)
    texts = [found.get(key, "") for key in ("access-key", "secret-key")]
    needs = variables_in(*texts)
    keys: Any = tuple(Secret(replaced(text, environ)) for text in texts)
    return S3Options(**values, keys=keys if needs and all(map(environ.get, needs)) else None), needs


def _values(table: TomlEntry, keys: Mapping[str, Key], *others: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read `keys`: plain values by field, and the texts with variables by key. The file has no secret."""
    entries = _known(_inside(table), (*others, *keys))
    values, texts = dict[str, Any](), dict[str, str]()
    for name, key in keys.items():
        entry = entries.get(name)
        if entry is None:
            if key.required:
                raise table.error(f"needs the key {name}")
            continue
        value = entry.value
        if key.read is not None:
            if VARIABLE.search(str(value)):
                raise entry.error("must not contain a variable")
            values[name.replace("-", "_")] = entry.read(key.read)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            texts[name], form = str(value), _LABELLED if key.labelled else _VARIABLES
            if key.secret and value and not form.fullmatch(texts[name]):
                raise entry.error(_SECRET_IN_FILE)
        else:
            raise entry.error("must be text in quotes")  # without the value, which may be a secret
    for one, other in _PAIRS:
        if (one in texts) != (other in texts):
            raise table.error(f"needs both {one} and {other}, or neither")
    return values, texts


def _inside(table: TomlEntry) -> list[TomlEntry]:
    if not isinstance(table.value, dict):
        raise table.error("must be a table")
    return table.children


def _known(entries: Iterable[TomlEntry], names: Collection[str]) -> dict[str, TomlEntry]:
    found: dict[str, TomlEntry] = {}
    for entry in entries:
        if entry.name not in names:
            raise entry.unknown_key_error(names)
        if entry.name in found:
            raise entry.error("is set twice")
        found[entry.name] = entry
    return found


def _texts(raw: object) -> list[str]:
    if not isinstance(raw, list) or not raw or not all(isinstance(element, str) for element in raw):
        raise ValueError('must be a list of texts, like ["data.example.org"]')
    return raw


def _hosts(raw: object) -> HostPatterns:
    return tuple(map(HostPattern.read, _texts(raw)))


def _checks(raw: object) -> tuple[str, ...]:
    if not all(is_address(url) for url in _texts(raw)):
        raise ValueError("must be a list of URLs, like https://host/path or s3://bucket/key")
    return tuple(_texts(raw))


_PLAIN: Mapping[str, ValueReader] = {
    "about": arguments.read_text,
    "per-host": arguments.integer(1),
    "check": _checks,
}
_S3: Mapping[str, Key] = {
    **{name: Key(BY_NAME[name].read) for name in ("endpoint-url", "region", "request-payer")},
    "buckets": Key(arguments.read_texts),
    **dict.fromkeys(("access-key", "secret-key"), Key(None, secret=True)),
}


# --- use --------------------------------------------------------------------------------------------------


def listed(environ: Mapping[str, str] | None = None) -> list[ProfileState]:
    variables, states = os.environ if environ is None else environ, list[ProfileState]()
    for path in _paths(variables).values():
        try:
            states.append(_read(path, variables)[0])
        except UsageError as problem:
            states.append(ProfileState(path.stem, path=str(path), problem=str(problem)))
    return states


def profile_options(options: Options, name: str, environ: Mapping[str, str] | None = None) -> Options:
    """Return `options` with the credential profile `name`, as `--credentials NAME` does.

    Args:
        options: The options, whose S3 settings take precedence.
        name: The name of a profile that `stacpull credentials list` shows, or the path of a TOML file.
        environ: The variables that the profile names; those of the process by default.

    Raises:
        UsageError: There is no such profile, or it is not valid.
        CredentialsError: Variables that it needs are not set.
    """
    options = arguments.or_default("options", Options, options)
    variables = os.environ if environ is None else environ
    profile = find_profile(Setting(name, "name").read(arguments.read_text), variables)
    if profile is None:
        known, aws = profile_names(variables), list(dict.fromkeys(_aws_profiles(variables)))
        raise UsageError(
            f"There is no credential profile {name}{did_you_mean(name, known + aws)} Profiles: "
            f"{', '.join(known)}. Profiles of the AWS tools: {', '.join(aws) or 'none'}."
        )
    (state, filled), unset = profile, (None, False, ())
    if not state.ready:
        raise CredentialsError(f"The credentials {state.name} are not complete: {state.needs}.")
    fields = attrs.asdict(filled.s3, recurse=False)
    s3 = {name: value for name, value in fields.items() if getattr(options.s3, name) in unset}
    return attrs.evolve(
        options,
        filled_profile=filled,
        s3=attrs.evolve(options.s3, **s3),
        per_host=min(options.per_host, filled.per_host or options.per_host),
        credential_names=(f"--credentials {name}", *options.credential_names),
    )


def chosen_profile(options: Options, name: str, environ: Mapping[str, str]) -> Options | None:
    """Return `options` with the profile that `--credentials` names; None for a profile of the AWS tools."""
    if find_profile(name, environ) is None and name in _aws_profiles(environ):
        return None
    return profile_options(options, name, environ)


def _aws_profiles(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the names in the AWS files. In the first one, other sections than profiles have a name, too."""
    files = (
        ("AWS_CONFIG_FILE", "~/.aws/config", r"(?:profile\s+|(?=default\]))"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", ""),
    )
    for variable, place, head in files:
        path = expanded_or_none(environ.get(variable) or place)
        with suppress(OSError, UnicodeDecodeError):
            text = "" if path is None else path.read_text(encoding="utf-8")
            yield from re.findall(rf"""^\s*\[\s*{head}["']?(.+?)["']?\s*\]""", text, re.MULTILINE)
