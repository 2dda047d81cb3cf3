"""Credential profiles, `--credentials NAME`: TOML files with logins for hosts.

NAME is a path that ends with `.toml`; else the file NAME.toml in `stacpull/providers` in the user's config
folder (`XDG_CONFIG_HOME`, `~/.config`); else a shipped profile (`configs/providers`). A profile contains no
secrets: its values contain variables, `${NAME}`, or it uses a netrc file. docs/credentials.md lists the keys;
the kinds of login declare them.

A profile is first read without secrets (`Profile`), so that it can be listed, and then filled in (`filled`).
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
from msgspec.structs import replace

from stacpull import arguments
from stacpull.arguments import ReadArgument
from stacpull.config.credentials import CONTROL, VARIABLE, replaced, variables_in
from stacpull.config.options import Options, S3Options
from stacpull.config.toml import TomlEntry, nearest, read_entries, shipped_config
from stacpull.errors import CredentialsError, UsageError
from stacpull.hosts import host_of
from stacpull.redact import Secret
from stacpull.system import expanded, usual_file
from stacpull_logins.logins import (
    FilledProfile,
    HostLogin,
    HostPattern,
    HostPatterns,
    LoginKind,
    Netrc,
    is_address,
    keys_of,
    kind_class,
    kind_names,
)

_SUFFIX = ".toml"
_VARIABLES = re.compile(rf"{VARIABLE.pattern}(?:[^\w$]{{0,2}}{VARIABLE.pattern})*")
_LABELLED = re.compile(rf"(?:[A-Za-z-]{{1,20}}[ =] ?){{0,2}}{_VARIABLES.pattern}")
"""`Token ${T}`, `Token token=${T}`: the label is not a secret."""
_SECRET_IN_FILE = "must not contain a secret: use only a variable, '${NAME}'"  # noqa: S105


class LoginTable(msgspec.Struct, frozen=True):
    name: str
    kind: type[LoginKind]
    hosts: HostPatterns
    where: str
    """File, line and name, for messages."""
    values: Mapping[str, str]

    @property
    def variables(self) -> tuple[str, ...]:
        spare = {name for name, key in keys_of(self.kind).items() if key.spare}
        return variables_in(*(text for name, text in self.values.items() if name not in spare))

    @property
    def netrc_hosts(self) -> HostPatterns:
        return self.kind.netrc_hosts(self.values, self.hosts)


class Profile(msgspec.Struct, frozen=True):
    name: str
    path: Path
    about: str = ""
    per_host: int | None = None
    """The most requests at once that its service accepts."""
    check: tuple[str, ...] = ()
    logins: tuple[LoginTable, ...] = ()
    s3: Mapping[str, object] | None = None
    """Fields of `S3Options`."""
    s3_keys: tuple[str, ...] = ()
    """The names of the variables for the access key and the secret key."""


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


def find_profile(name: str, environ: Mapping[str, str]) -> Profile | None:
    """Return the profile with this name, or None if there is none: it may be an AWS profile."""
    if name.endswith(_SUFFIX):
        return _read(expanded(name))
    path = _paths(environ).get(name)
    return None if path is None else _read(path)


def profile_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names of all profiles. A user's profile replaces a shipped one with the same name."""
    return list(_paths(environ))


def _paths(environ: Mapping[str, str]) -> dict[str, Path]:
    own = usual_file(environ.get("XDG_CONFIG_HOME") or "~/.config")
    folders = [shipped_config("providers"), *([] if own is None else [own / "stacpull" / "providers"])]
    found = {path.stem: path for folder in folders for path in folder.glob(f"*{_SUFFIX}")}
    return dict(sorted(found.items()))


# --- reading ----------------------------------------------------------------------------------------------


def _read(path: Path) -> Profile:
    entries = _known(read_entries(path), (*_PLAIN, "login", "s3"))
    logins = tuple(map(_login, _inside(entries["login"]))) if "login" in entries else ()
    s3, s3_keys = _s3(entries["s3"]) if "s3" in entries else (None, ())
    if not logins and s3 is None:
        raise UsageError(f"{path}: a profile has [login.NAME] or [s3].")
    plain = {name.replace("-", "_"): entries[name].read(_PLAIN[name]) for name in _PLAIN if name in entries}
    return Profile(path.stem, path, logins=logins, s3=s3, s3_keys=s3_keys, **plain)


def _login(table: TomlEntry) -> LoginTable:
    """Read a `[login.NAME]`: no variable in a value that is not secret, and no secret in the file."""
    entries = {entry.name: entry for entry in _inside(table)}
    if "kind" not in entries or "hosts" not in entries:
        raise table.wrong("a login needs the keys kind and hosts")
    name, cls = str(entries["kind"].value), kind_class(str(entries["kind"].value))
    if cls is None:
        known = ", ".join(kind_names())
        raise entries["kind"].wrong(f"must be one of {known}; others need a package that is not installed")
    keys = keys_of(cls)
    _known(_inside(table), ("kind", "hosts", *keys))
    values: dict[str, str] = {}
    for key, one in keys.items():
        entry = entries.get(key)
        if entry is None:
            if one.required:
                raise table.wrong(f"a login of the kind {name} needs the key {key}")
            continue
        written = entry.read(_written)
        if not one.has_variables:
            if VARIABLE.search(written):
                raise entry.wrong("must not contain a variable")
            entry.read(one.read)
        form = _LABELLED if one.labelled else _VARIABLES
        if one.secret and written and not form.fullmatch(written):
            raise entry.wrong(_SECRET_IN_FILE)
        values[key] = written
    user, password = values.get("user"), values.get("password")
    if (user is None) != (password is None):
        raise table.wrong("has user and password, or neither")
    if user and not password and not _VARIABLES.fullmatch(user):  # the user is the secret
        raise entries["user"].wrong(_SECRET_IN_FILE)
    if (problem := cls.problem(values)) is not None:
        raise table.wrong(problem)
    return LoginTable(table.key, cls, entries["hosts"].read(_hosts), table.where, values)


def _s3(table: TomlEntry) -> tuple[Mapping[str, object], tuple[str, ...]]:
    entries = _known(_inside(table), (*_S3_OPTIONS, *_S3_KEYS))
    keys = [entries[name] for name in _S3_KEYS if name in entries]
    if len(keys) == 1:
        raise table.wrong(f"has {' and '.join(_S3_KEYS)}, or neither")
    for entry in keys:
        if not VARIABLE.fullmatch(entry.read(_written)):
            raise entry.wrong("must name a variable, '${NAME}'")
    options = {
        name.replace("-", "_"): entries[name].read(read)
        for name, read in _S3_OPTIONS.items()
        if name in entries
    }
    return options, tuple(VARIABLE.findall(entry.value)[0] for entry in keys)


def _inside(table: TomlEntry) -> list[TomlEntry]:
    if not isinstance(table.value, dict):
        raise table.wrong("must be a table")
    return table.children


def _known(entries: Iterable[TomlEntry], names: Collection[str]) -> dict[str, TomlEntry]:
    found: dict[str, TomlEntry] = {}
    for entry in entries:
        if entry.name not in names:
            raise entry.wrong(f"there is no such key{nearest(entry.name, names)}")
        if entry.name in found:
            raise entry.wrong("is set twice")
        found[entry.name] = entry
    return found


def _written(raw: object) -> str:
    if isinstance(raw, str | int | float) and not isinstance(raw, bool):
        return str(raw)
    raise ValueError("must be text in quotes")


def _texts(raw: object) -> list[str]:
    if not isinstance(raw, list) or not raw or not all(isinstance(element, str) for element in raw):
        raise ValueError('must be a list of texts, like ["data.example.org"]')
    return raw


def _hosts(raw: object) -> HostPatterns:
    return tuple(map(HostPattern.read, _texts(raw)))


def _checks(raw: object) -> tuple[str, ...]:
    if not all(is_address(url, web=False) for url in _texts(raw)):
        raise ValueError("must be a list of URLs, like https://host/path or s3://bucket/key")
    return tuple(_texts(raw))


_PLAIN: Mapping[str, ReadArgument] = {
    "about": arguments.text,
    "per-host": arguments.whole(1),
    "check": _checks,
}
_S3_OPTIONS: Mapping[str, ReadArgument] = {
    name.replace("_", "-"): arguments.readers(S3Options)[name]
    for name in ("endpoint_url", "region", "request_payer", "buckets")
}
_S3_KEYS = ("access-key", "secret-key")


# --- secrets ----------------------------------------------------------------------------------------------


def filled(profile: Profile, environ: Mapping[str, str]) -> FilledProfile:
    netrc = Netrc(environ)
    logins = tuple(login for table in profile.logins for login in _logins(table, environ, netrc))
    has_s3 = profile.s3 is not None and all(map(environ.get, profile.s3_keys))
    if not logins and not has_s3:
        if netrc.problem:
            raise UsageError(netrc.problem)
        raise CredentialsError(f"The credentials {profile.name} are not complete: {missing(profile)}.")
    return FilledProfile(profile.name, logins, profile.check)


def _logins(table: LoginTable, environ: Mapping[str, str], netrc: Netrc) -> Iterator[HostLogin]:
    """Yield the logins of a table if it is complete: one, or one for each host in the netrc file."""
    if any(not environ.get(name) for name in table.variables):
        return
    texts = {key: replaced(text, environ) for key, text in table.values.items()}
    for key, filled_in in texts.items():
        if CONTROL.search(filled_in):
            raise UsageError(f"{table.where}, {key}: its value contains a line break or control character.")
    keys = keys_of(table.kind)
    given = {key.replace("-", "_"): text for key, text in texts.items() if text or keys[key].required}
    from_netrc = table.netrc_hosts
    for host, entry in netrc.entries(from_netrc).items():
        hosts = (host,) if from_netrc == table.hosts else table.hosts
        yield HostLogin(table.name, hosts, table.kind(**given, **entry), (str(netrc.path),))
    if not from_netrc:
        yield HostLogin(table.name, table.hosts, table.kind(**given), variables_in(*table.values.values()))


def missing(profile: Profile) -> str:
    """Return what to set for each login of the profile. No values are read."""
    ways = [
        table.variables or tuple(f"an entry of {one.host} in ~/.netrc" for one in table.netrc_hosts[:1])
        for table in profile.logins
    ]
    if profile.s3 is not None:
        ways.append(profile.s3_keys or ("AWS credentials, as the AWS tools find them",))
    if () in ways:
        return "nothing"
    return "set " + ", or ".join(dict.fromkeys(" and ".join(way) for way in ways))


def listed(environ: Mapping[str, str] | None = None) -> list[ProfileState]:
    variables = os.environ if environ is None else environ
    return [_state(path, variables) for path in _paths(variables).values()]


def _state(path: Path, environ: Mapping[str, str]) -> ProfileState:
    try:
        profile = _read(path)
    except UsageError as problem:
        return ProfileState(path.stem, path=str(path), problem=str(problem))
    hosts = [(f"*.{p.host}" if p.any_below else p.host) for login in profile.logins for p in login.hosts]
    if profile.s3 is not None and (endpoint := profile.s3.get("endpoint_url")):
        hosts.append(host_of(str(endpoint)))
    named = tuple(dict.fromkeys(hosts))
    state = ProfileState(profile.name, profile.about, named, needs=missing(profile), path=str(path))
    try:
        filled(profile, environ)
    except CredentialsError:
        return state
    except UsageError as problem:
        return replace(state, problem=str(problem))
    return replace(state, ready=True)


# --- use --------------------------------------------------------------------------------------------------


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
    variables = os.environ if environ is None else environ
    profile = find_profile(name, variables)
    if profile is None:
        known = ", ".join(profile_names(variables))
        raise UsageError(f"There is no credential profile {name}; there are: {known}.")
    unset = (None, False, (), "auto")
    s3: dict[str, Any] = {
        name: value for name, value in (profile.s3 or {}).items() if getattr(options.s3, name) in unset
    }
    values = [variables.get(variable) for variable in profile.s3_keys]
    if values and all(values):
        s3["keys"] = tuple(Secret(str(value)) for value in values)
    return attrs.evolve(
        options,
        filled_profile=filled(profile, variables),
        s3=attrs.evolve(options.s3, **s3),
        per_host=min(options.per_host, profile.per_host or options.per_host),
        credential_names=(f"--credentials {name}", *options.credential_names),
    )


def chosen_profile(options: Options, name: str, environ: Mapping[str, str]) -> Options | None:
    """Return `options` with the profile that `--credentials` names; None for a profile of the AWS tools."""
    if find_profile(name, environ) is not None:
        return profile_options(options, name, environ)
    known, aws = profile_names(environ), list(dict.fromkeys(_aws_profiles(environ)))
    if name not in aws:
        raise UsageError(
            f"There are no credentials {name}{nearest(name, known + aws) or '.'} Profiles: "
            f"{', '.join(known)}. Profiles of the AWS tools: {', '.join(aws) or 'none'}."
        )
    return None


def _aws_profiles(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the names in the AWS files. In the first one, other sections than profiles have a name, too."""
    files = (
        ("AWS_CONFIG_FILE", "~/.aws/config", r"(?:profile\s+|(?=default\]))"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", ""),
    )
    for variable, place, head in files:
        path = usual_file(environ.get(variable) or place)
        with suppress(OSError, UnicodeDecodeError):
            text = "" if path is None else path.read_text(encoding="utf-8")
            yield from re.findall(rf"""^\s*\[\s*{head}["']?(.+?)["']?\s*\]""", text, re.MULTILINE)
