"""Puts the secrets into a credential profile: from variables, or from a netrc file.

A login whose variables are not all set is left out: a profile may offer several ways, and the first that is
complete is taken for a host. Where none is complete, the error names what each of them needs, never a value.

The netrc file is the one that `NETRC` names, or `~/.netrc`; its `default` entry is never used, for it would
give a password to any host (GNU inetutils manual, "The .netrc file").
"""

from __future__ import annotations

import base64
import netrc
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from stacpull.config.options import Options
from stacpull.config.profiles import LoginText, Profile, Unreadable, find_profile, profile_names, profiles
from stacpull.config.provider import (
    Activation,
    Fixed,
    HostPattern,
    Login,
    Means,
    Provider,
    SasTokens,
    TokenGrant,
    Visit,
)
from stacpull.config.toml import nearest
from stacpull.errors import CredentialsError, UsageError
from stacpull.redact import Secret

__all__ = ["Listed", "filled", "listed", "missing", "profile_options", "refuse_misspelt", "with_profile"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, 5.5: never in a field value
_EVERY, _PATIENCE = "10", "1800"
"""Seconds between two looks at an asset that is being activated, and until that is given up."""
_OF_AWS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")


def with_profile(options: Options, name: str, environ: Mapping[str, str]) -> Options | None:
    """Return `options` with the logins, the S3 settings and the limit of the profile; None if there is none.

    What `options` says of S3 stays.

    Raises:
        UsageError: The profile cannot be read.
        CredentialsError: None of its logins is complete.
    """
    profile = find_profile(name, environ)
    if profile is None:
        return None
    provider = filled(profile, environ)
    return attrs.evolve(
        options,
        provider=provider,
        s3=attrs.evolve(options.s3, **_s3(profile, options, environ)),
        per_host=min(options.per_host, profile.per_host or options.per_host),
        credential_names=(f"--credentials {name}", *options.credential_names),
    )


def refuse_misspelt(name: str, environ: Mapping[str, str]) -> None:
    """Refuse a name that is nearly one of a profile, and none of the AWS tools' files.

    Any other name is left to them: they know more places than these files.

    Raises:
        UsageError: It is.
    """
    close = nearest(name, profile_names(environ))
    if close and not any(
        f"[{head}{name}]" in text for text in _aws_files(environ) for head in ("", "profile ")
    ):
        raise UsageError(f"there are no credentials {name}{close} See: stacpull credentials list")


def _aws_files(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts of the shared files of the AWS tools, those that can be read."""
    usual = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
    for variable, place in usual.items():
        try:
            yield Path(environ.get(variable) or place).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def profile_options(options: Options, name: str, environ: Mapping[str, str] | None = None) -> Options:
    """Return `options` with the credential profile `name`, as `--credentials NAME` would give them.

    Args:
        options: As the caller made them.
        name: A profile's name, or the path of its file.
        environ: The environment; that of the process if not given.

    Raises:
        UsageError: There is no such profile, or it cannot be read.
        CredentialsError: None of its logins is complete; the message names the variables.
    """
    variables = os.environ if environ is None else environ
    found = with_profile(options, name, variables)
    if found is None:
        known = ", ".join(profile_names(variables))
        raise UsageError(f"There is no credential profile {name}; there are: {known}.")
    return found


class Listed(NamedTuple):
    """A profile in the list of all."""

    profile: Profile | Unreadable
    ready: bool
    """True if what one of its logins needs is set."""
    problem: str = ""
    """What else than a variable that is not set keeps it from being used."""


def listed(environ: Mapping[str, str] | None = None) -> list[Listed]:
    """Return all profiles, also those that cannot be read."""
    variables = os.environ if environ is None else environ
    return [_listed(profile, variables) for profile in profiles(variables)]


def _listed(profile: Profile | Unreadable, environ: Mapping[str, str]) -> Listed:
    if isinstance(profile, Unreadable):
        return Listed(profile, ready=False, problem=profile.problem)
    own = {
        name: value for name, value in environ.items() if name not in _OF_AWS
    }  # those may be of any service
    try:
        filled(profile, own)
    except CredentialsError:
        return Listed(profile, ready=False)
    except UsageError as problem:
        return Listed(profile, ready=False, problem=str(problem))
    return Listed(profile, ready=True)


def filled(profile: Profile, environ: Mapping[str, str]) -> Provider:
    """Return the logins of `profile` that are complete.

    Raises:
        UsageError: A value cannot be read, or none of its logins is complete and the netrc file is broken.
        CredentialsError: None of its logins is complete.
    """
    files = _Netrc(environ)
    logins = tuple(login for text in profile.logins for login in _logins(text, environ, files))
    if not logins and not _has_s3(profile, environ):
        if any(map(_is_of_netrc, profile.logins)) and files.problem:
            raise UsageError(files.problem)
        raise CredentialsError(f"The credentials {profile.name} are not complete: {missing(profile)}.")
    return Provider(profile.name, logins, profile.check)


def missing(profile: Profile) -> str:
    """Say what is to be set for the profile, one way after the other; no value is looked at."""
    ways = [_needs_of(text) for text in profile.logins]
    if profile.s3 is not None:
        ways.append(profile.s3.variables or ("AWS credentials, as the AWS tools find them",))
    if () in ways:
        return "nothing"
    return "set " + ", or ".join(dict.fromkeys(" and ".join(way) for way in ways))


def _needs_of(text: LoginText) -> tuple[str, ...]:
    """Return what is to be set for one login; nothing for one that can do without."""
    entry = (f"an entry of {_host_for_netrc(text)} in ~/.netrc",) if _is_of_netrc(text) else ()
    return text.variables or entry


def _is_of_netrc(text: LoginText) -> bool:
    return text.kind == "netrc" or (text.kind == "visit" and "user" not in text.values)


def _host_for_netrc(text: LoginText) -> str:
    named = text.values.get("login-host")
    pattern = HostPattern.read(str(named.value)) if named else text.hosts[0]
    return pattern.host


def _has_s3(profile: Profile, environ: Mapping[str, str]) -> bool:
    """Return True if S3 can be asked: its own keys are set, or what the AWS tools find is to be used."""
    if profile.s3 is None:
        return False
    own = profile.s3.variables
    return not own or all(map(environ.get, own)) or any(map(environ.get, _OF_AWS))


def _s3(profile: Profile, options: Options, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of `S3Options` that the profile decides: those that nobody has set."""
    text = profile.s3
    if text is None:
        return {}
    wanted = {name: value for name, value in text.options.items() if not _is_set(options, name)}
    values = [environ.get(name) for name in text.variables]
    if text.keys is not None and all(values):
        access, secret = (Secret(str(value)) for value in values)
        wanted["keys"] = (access, secret)
    return wanted


def _is_set(options: Options, name: str) -> bool:
    return getattr(options.s3, name) not in (None, False, (), "auto")


def _logins(text: LoginText, environ: Mapping[str, str], files: _Netrc) -> Iterator[Login]:
    """Yield the login of `text` if it is complete; for a netrc file one for each host that is in it."""
    if any(not environ.get(name) for name in text.variables):
        return
    if text.kind == "netrc":
        for host, basic in files.below(text.hosts):
            yield Login(text.name, (host,), Fixed({"Authorization": basic}), (str(files.path),))
        return
    means = _MEANS[text.kind](_Values(text, environ, files))
    if means is not None:
        of_netrc = (str(files.path),) if _is_of_netrc(text) else ()
        yield Login(text.name, text.hosts, means, _variables(text) or of_netrc)


def _variables(text: LoginText) -> tuple[str, ...]:
    """Return every variable of a login, also those that it can do without."""
    values = (str(setting.value) for setting in text.values.values())
    return tuple(dict.fromkeys(name for value in values for name in _VARIABLE.findall(value)))


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of a login, variables replaced."""

    _login: LoginText
    _environ: Mapping[str, str]
    _files: _Netrc

    def text(self, key: str, default: str = "") -> str:
        setting = self._login.values.get(key)
        if setting is None:
            return default
        text = _VARIABLE.sub(lambda match: self._environ.get(match[1], ""), str(setting.value))
        if _CONTROL.search(text):
            raise UsageError(f"{setting.where}: what it comes to holds a line break or control character")
        return text

    def secret(self, key: str) -> Secret:
        return Secret(self.text(key))

    def optional(self, key: str) -> Secret | None:
        value = self.text(key)
        return Secret(value) if value else None

    def basic(self) -> Secret:
        return _basic(self.text("user"), self.text("password"))

    def basic_of(self, host: str) -> Secret | None:
        """Return user and password as written, else those that the netrc file has for `host`."""
        return self.basic() if "user" in self._login.values else self._files.basic(host)

    def number(self, key: str, default: str) -> float:
        try:
            number = float(self.text(key, default))
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise UsageError(f"{self._login.values[key].where}: must be a number of seconds above 0")
        return number

    def host(self, key: str) -> HostPattern:
        return HostPattern.read(self.text(key))


@dataclass(frozen=True)
class _Netrc:
    """The user's netrc file, read when first asked; without one there are no entries."""

    _environ: Mapping[str, str]

    @property
    def path(self) -> Path:
        return Path(self._environ.get("NETRC") or "~/.netrc").expanduser()

    def basic(self, host: str) -> Secret | None:
        entry = self._entries.get(host)
        return None if entry is None else _basic(entry[0], entry[1])

    def below(self, hosts: tuple[HostPattern, ...]) -> Iterator[tuple[HostPattern, Secret]]:
        """Yield the hosts of the file that are among `hosts`, and what they are told."""
        for name, (user, password) in self._entries.items():
            for pattern in hosts:
                if pattern.covers(pattern.scheme, name, pattern.port):
                    yield HostPattern(pattern.scheme, name, pattern.port), _basic(user, password)

    @property
    def problem(self) -> str:
        """What is wrong with the file, empty if nothing is."""
        return self._read[1]

    @property
    def _entries(self) -> Mapping[str, tuple[str, str]]:
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[Mapping[str, tuple[str, str]], str]:
        """The entries by host, none of a file that is broken: another login may be complete without it."""
        try:
            hosts = netrc.netrc(str(self.path)).hosts
        except FileNotFoundError:
            return {}, ""
        except (
            netrc.NetrcParseError
        ) as problem:  # its message may quote what stands there, a password perhaps
            return {}, f"{self.path}, line {problem.lineno}: this is no netrc file"
        except (OSError, UnicodeDecodeError):
            return {}, f"{self.path} cannot be read as a netrc file"
        return {
            host.lower(): (user, password)
            for host, (user, _, password) in hosts.items()
            if host != "default" and password
        }, ""


def _basic(user: str, password: str) -> Secret:
    """Return the `Authorization` of user and password (RFC 7617)."""
    return Secret("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def _token_grant(given: _Values) -> TokenGrant:
    secrets = map(given.optional, ("client-secret", "user", "password"))
    return TokenGrant(given.text("token-url"), given.text("client-id"), *secrets)


def _sas_tokens(given: _Values) -> SasTokens:
    url, key_header = given.text("token-url"), given.text("key-header") or None
    return SasTokens(url, key_header, given.optional("key"))


def _visit(given: _Values) -> Visit | None:
    host = given.host("login-host")
    basic = given.basic_of(host.host)
    return None if basic is None else Visit(host, basic)


def _activation(given: _Values) -> Activation:
    every, patience = given.number("every", _EVERY), given.number("patience", _PATIENCE)
    return Activation(given.text("path"), {"Authorization": given.basic()}, every, patience)


_MEANS: Mapping[str, Callable[[_Values], Means | None]] = {
    "header": lambda given: Fixed({given.text("name"): given.secret("value")}),
    "query": lambda given: Fixed(query={given.text("name"): given.secret("value")}),
    "bearer": lambda given: Fixed({"Authorization": Secret(f"Bearer {given.text('token')}")}),
    "basic": lambda given: Fixed({"Authorization": given.basic()}),
    "token": _token_grant,
    "sas": _sas_tokens,
    "visit": _visit,
    "activation": _activation,
}
"""What the kinds of logins come to; None: the netrc file lacks what it takes."""
