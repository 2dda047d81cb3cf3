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

from stacpull import arguments, entry_points
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
_SECRET_IN_FILE = "must not contain a secret: use only a variable, '${NAME}'"  # noqa: S105


class Profile(msgspec.Struct, frozen=True):
    name: str
    path: Path
    about: str = ""
    per_host: int | None = None
    """The most requests at once that its service accepts."""
    check: tuple[str, ...] = ()
    logins: tuple[HostLogin, ...] = ()
    """These, and the keys of `s3`, have the texts of the file, not the values of their variables."""
    s3: S3Options | None = None

    @property
    def s3_variables(self) -> tuple[str, ...]:
        return variables_in(*(key.reveal() for key in (self.s3 and self.s3.keys) or ()))


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
    s3 = _s3(entries["s3"]) if "s3" in entries else None
    if not logins and s3 is None:
        raise UsageError(f"{path}: a profile has [login.NAME] or [s3].")
    plain = {name.replace("-", "_"): entries[name].read(_PLAIN[name]) for name in _PLAIN if name in entries}
    return Profile(path.stem, path, logins=logins, s3=s3, **plain)


def _login(table: TomlEntry) -> HostLogin:
    entries = {entry.name: entry for entry in _inside(table)}
    if "kind" not in entries or "hosts" not in entries:
        raise table.wrong("a login needs the keys kind and hosts")
    name = str(entries["kind"].value)
    if (cls := entry_points.load(KINDS, name)) is None:
        known = ", ".join(entry_points.names(KINDS))
        raise entries["kind"].wrong(f"must be one of {known}; others need a package that is not installed")
    keys = keys_of(cls)
    values = _values(table, keys, "kind", "hosts")
    user, password = values.get("user"), values.get("password")
    if (user is None) != (password is None):
        raise table.wrong("has user and password, or neither")
    if user and not password and not _VARIABLES.fullmatch(user):  # the user is the secret
        raise entries["user"].wrong(_SECRET_IN_FILE)
    kind, hosts = cls(**values), entries["hosts"].read(_hosts)
    secrets = [key for key, one in keys.items() if one.secret and not one.spare]
    if secrets and entries.keys().isdisjoint(secrets) and not kind.netrc_hosts(hosts):
        raise table.wrong(f"a login of the kind {name} needs the key {' or '.join(secrets)}")
    return HostLogin(table.where, hosts, kind, variables_in(*kind.texts.values()))


def _s3(table: TomlEntry) -> S3Options:
    values = _values(table, _S3)
    texts = [values.pop(name, "") for name in ("access_key", "secret_key")]
    if any(texts) != all(texts):
        raise table.wrong("has access-key and secret-key, or neither")
    keys: Any = tuple(map(Secret, texts)) if any(texts) else None
    return S3Options(**values, keys=keys)


def _values(table: TomlEntry, keys: Mapping[str, Key], *others: str) -> dict[str, Any]:
    """Read `keys`, by the names of fields: only secrets contain variables, and the file no secret."""
    entries = _known(_inside(table), (*others, *keys))
    values: dict[str, Any] = {}
    for name, key in keys.items():
        entry = entries.get(name)
        if entry is None:
            if key.required:
                raise table.wrong(f"needs the key {name}")
            continue
        value = entry.value
        if not key.has_variables:
            if VARIABLE.search(str(value)):
                raise entry.wrong("must not contain a variable")
            value = entry.read(key.read)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            value, form = str(value), _LABELLED if key.labelled else _VARIABLES
            if key.secret and value and not form.fullmatch(value):
                raise entry.wrong(_SECRET_IN_FILE)
        else:
            raise entry.wrong("must be text in quotes")  # without the value, which may be a secret
        values[name.replace("-", "_")] = value
    return values


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
_S3_FIELDS = ("endpoint_url", "region", "request_payer", "buckets")
_S3: Mapping[str, Key] = {
    **{
        name.replace("_", "-"): Key(arguments.readers(S3Options)[name], has_variables=False)
        for name in _S3_FIELDS
    },
    **dict.fromkeys(("access-key", "secret-key"), Key(arguments.secret, has_variables=True, secret=True)),
}


# --- secrets ----------------------------------------------------------------------------------------------


def filled(profile: Profile, environ: Mapping[str, str]) -> FilledProfile:
    netrc = Netrc(environ)
    logins = tuple(login for read in profile.logins for login in _filled(read, environ, netrc))
    if not logins and (profile.s3 is None or not all(map(environ.get, profile.s3_variables))):
        if netrc.problem:
            raise UsageError(netrc.problem)
        raise CredentialsError(f"The credentials {profile.name} are not complete: {missing(profile)}.")
    return FilledProfile(profile.name, logins, profile.check)


def _filled(login: HostLogin, environ: Mapping[str, str], netrc: Netrc) -> Iterator[HostLogin]:
    """Yield the login with its secrets if it is complete: once, or for each host in the netrc file."""
    if any(not environ.get(name) for name in login.variables):
        return
    keys, given = keys_of(type(login.kind)), dict[str, Secret | None]()
    for key, text in login.kind.texts.items():
        value = replaced(text, environ)
        if CONTROL.search(value):
            raise UsageError(f"{login.where}, {key}: its value contains a line break or control character.")
        given[key.replace("-", "_")] = Secret(value) if value or keys[key].required else None
    from_netrc = login.kind.netrc_hosts(login.hosts)
    for host, entry in netrc.entries(from_netrc).items():
        hosts = (host,) if from_netrc == login.hosts else login.hosts
        kind = attrs.evolve(login.kind, **given, **entry)
        yield HostLogin(login.where, hosts, kind, (str(netrc.path),))
    if not from_netrc:
        yield replace(login, kind=attrs.evolve(login.kind, **given))


def missing(profile: Profile) -> str:
    """Return what to set for each login of the profile. No values are read."""
    ways = [
        login.variables
        or tuple(f"an entry of {one.host} in ~/.netrc" for one in login.kind.netrc_hosts(login.hosts)[:1])
        for login in profile.logins
    ]
    if profile.s3 is not None:
        ways.append(profile.s3_variables or ("AWS credentials, as the AWS tools find them",))
    if () in ways:
        return "nothing"
    return "set " + ", or ".join(dict.fromkeys(" and ".join(way) for way in ways))


def listed(environ: Mapping[str, str] | None = None) -> list[ProfileState]:
    variables = os.environ if environ is None else environ
    return [_state(path, variables) for path in _paths(variables).values()]


def _state(path: Path, environ: Mapping[str, str]) -> ProfileState:
    state = ProfileState(path.stem, path=str(path))
    try:
        profile = _read(path)
        hosts = [(f"*.{p.host}" if p.any_below else p.host) for login in profile.logins for p in login.hosts]
        if profile.s3 is not None and (endpoint := profile.s3.endpoint_url):
            hosts.append(host_of(endpoint))
        named = tuple(dict.fromkeys(hosts))
        state = replace(state, about=profile.about, hosts=named, needs=missing(profile))
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
    unset, read = (None, False, ()), profile.s3 or S3Options()
    s3: dict[str, Any] = {
        name: getattr(read, name) for name in _S3_FIELDS if getattr(options.s3, name) in unset
    }
    if read.keys is not None and all(map(variables.get, profile.s3_variables)):
        s3["keys"] = tuple(Secret(replaced(key.reveal(), variables)) for key in read.keys)
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
