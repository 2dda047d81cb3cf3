"""Credential profiles, `--credentials NAME`: TOML files that say for which hosts to log in, and how.

NAME is a path that ends in `.toml`; else the file NAME.toml in `stacpull/providers` of the user's config
folder (`XDG_CONFIG_HOME`, `~/.config`); else one that is shipped (`configs/providers`). A profile holds no
secret: its values name variables, `${NAME}`, or leave it to a netrc file. docs/credentials.md has all keys.

A profile as read here is still without secrets, so that it can be listed; `config.filling` puts them in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stacpull import arguments
from stacpull.arguments import Reader
from stacpull.config.provider import HostPattern, is_address
from stacpull.config.toml import Entry, Setting, nearest, read_entries, shipped_config
from stacpull.errors import UsageError

__all__ = [
    "KINDS",
    "Kind",
    "LoginText",
    "Profile",
    "S3Text",
    "Unreadable",
    "find_profile",
    "profile_names",
    "profiles",
]

_SUFFIX = ".toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VARIABLES = re.compile(rf"{_VARIABLE.pattern}(?:[^\w$]{{0,2}}{_VARIABLE.pattern})*")
_SCHEMED = re.compile(rf"(?:[A-Za-z-]{{1,20}}[ =] ?){{0,2}}{_VARIABLES.pattern}")
"""Of a field's value: `Token ${T}`, `Token token=${T}` say how it is meant, which is no secret."""
_SECRETS = frozenset({"token", "password", "client-secret", "key"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of login: the keys that it must have, and those that it may have."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    literal: tuple[str, ...] = ()
    """Required or optional keys that hold no secret; a variable in them is an error."""


KINDS: Mapping[str, Kind] = {
    "header": Kind(("name", "value"), literal=("name",)),
    "query": Kind(("name", "value"), literal=("name",)),
    "bearer": Kind(("token",)),
    "basic": Kind(("user", "password")),
    "netrc": Kind(),
    "token": Kind(
        ("token-url", "client-id"),
        ("user", "password", "client-secret"),
        literal=("token-url",),
    ),
    "sas": Kind(("token-url",), ("key-header", "key"), literal=("token-url", "key-header")),
    "visit": Kind(("login-host",), ("user", "password"), literal=("login-host",)),
    "activation": Kind(
        ("path", "user", "password"), ("every", "patience"), literal=("path", "every", "patience")
    ),
}
_OPTIONAL_PAIRS = {"token", "visit"}
"""Kinds whose `user` and `password`, if they are written, must be there: the login is left out otherwise."""


@dataclass(frozen=True, slots=True)
class LoginText:
    """A `[login.NAME]` as written."""

    name: str
    kind: str
    hosts: tuple[HostPattern, ...]
    values: Mapping[str, Setting]

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables without which it cannot be used."""
        spare = set() if self.kind in _OPTIONAL_PAIRS else set(KINDS[self.kind].optional)
        texts = [str(setting.value) for name, setting in self.values.items() if name not in spare]
        return tuple(dict.fromkeys(name for text in texts for name in _VARIABLE.findall(text)))


@dataclass(frozen=True, slots=True)
class S3Text:
    """`[s3]` as written: options of the table of S3, and the names of its keys' variables."""

    options: Mapping[str, object] = field(default_factory=dict)
    """Fields of `S3Options`."""
    keys: tuple[Setting, Setting] | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that hold the keys."""
        return tuple(name for key in self.keys or () for name in _VARIABLE.findall(str(key.value)))


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as written."""

    name: str
    path: Path
    about: str = ""
    per_host: int | None = None
    """The most requests at once that its service bears."""
    check: tuple[str, ...] = ()
    logins: tuple[LoginText, ...] = ()
    s3: S3Text | None = None


class Unreadable(NamedTuple):
    """A profile whose file cannot be read, or says what no profile can say."""

    name: str
    path: Path
    problem: str
    """What is wrong, with the file and the line."""


def find_profile(name: str, environ: Mapping[str, str]) -> Profile | None:
    """Return the profile of this name, None if there is none: it may be one of the AWS tools.

    Raises:
        UsageError: Its file cannot be read, or says what no profile can say.
    """
    if name.endswith(_SUFFIX):
        return _read(Path(name).expanduser())
    if not _NAME.fullmatch(name):
        return None
    found = (folder / f"{name}{_SUFFIX}" for folder in _folders(environ))
    path = next((path for path in found if path.is_file()), None)
    return None if path is None else _read(path)


def profiles(environ: Mapping[str, str]) -> list[Profile | Unreadable]:
    """Return all profiles that have a name, by name; one of the user's hides a shipped one."""
    return [_read_if_possible(path) for path in _paths(environ).values()]


def _read_if_possible(path: Path) -> Profile | Unreadable:
    try:
        return _read(path)
    except UsageError as problem:
        return Unreadable(path.stem, path, str(problem))


def profile_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names of all profiles, whether they can be read or not."""
    return list(_paths(environ))


def _paths(environ: Mapping[str, str]) -> dict[str, Path]:
    """Return the files of all profiles by name, in the order of names."""
    found: dict[str, Path] = {}
    for folder in _folders(environ):
        for path in folder.glob(f"*{_SUFFIX}"):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    own = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return own / "stacpull" / "providers", shipped_config("providers")


def _read(path: Path) -> Profile:
    plain: dict[str, object] = {}
    logins: list[LoginText] = []
    s3 = None
    for entry in read_entries(path):
        if entry.name == "login":
            logins += [_login(child) for child in _table(entry)]
        elif entry.name == "s3":
            s3 = _s3(entry)
        elif entry.name in _PLAIN:
            plain[entry.name.replace("-", "_")] = _value(entry, _PLAIN[entry.name])
        else:
            raise entry.wrong(f"there is no such key{nearest(entry.name, (*_PLAIN, 'login', 's3'))}")
    if not logins and s3 is None:
        raise UsageError(f"{path}: a profile has [login.NAME] or [s3]")
    return Profile(path.stem, path, logins=tuple(logins), s3=s3, **plain)  # type: ignore[arg-type]


def _login(table: Entry) -> LoginText:
    """Read one `[login.NAME]`."""
    entries = {entry.name: entry for entry in _table(table)}
    kind = entries.pop("kind", None)
    hosts = entries.pop("hosts", None)
    if kind is None or hosts is None:
        raise table.wrong("a login says its kind and its hosts")
    name = _value(kind, arguments.choice(*KINDS))
    known = KINDS[str(name)]
    for entry in entries.values():
        _known_key(entry, str(name), known)
    for key in known.required:
        if key not in entries:
            raise table.wrong(f"a login of the kind {name} needs the key {key}")
    _refuse_halves(table, str(name), entries)
    patterns = tuple(_pattern(hosts, text) for text in _list(hosts))
    settings = {key: Setting(_text(entry), entry.where) for key, entry in entries.items()}
    return LoginText(table.key, str(name), patterns, settings)


def _known_key(entry: Entry, kind: str, known: Kind) -> None:
    keys = (*known.required, *known.optional)
    if entry.name not in keys:
        close = nearest(entry.name, ("kind", "hosts", *keys))
        raise entry.wrong(f"a login of the kind {kind} has no such key{close}")
    if entry.name in known.literal and _VARIABLE.search(str(entry.item.unwrap())):
        raise entry.wrong("is no place for a variable")
    written = str(entry.item.unwrap())
    form = _SCHEMED if entry.name == "value" else _VARIABLES if entry.name in _SECRETS else None
    if form is not None and written and not form.fullmatch(written):
        raise entry.wrong("a secret does not stand in a file: name a variable, '${NAME}', and nothing beside")
    reader = _LITERALS.get((kind, entry.name))
    if reader is not None:
        _value(entry, reader)


def _refuse_halves(table: Entry, kind: str, entries: Mapping[str, Entry]) -> None:
    """Refuse a user without a password or the other way round, and a key that stands where a user would."""
    user, password = entries.get("user"), entries.get("password")
    if (user is None) != (password is None):
        raise table.wrong("has user and password, or neither")
    if kind == "token" and user is None and "client-secret" not in entries:
        raise table.wrong("a login of the kind token needs user and password, or client-secret")
    if user is None or password is None or str(password.item.unwrap()):
        return
    if not _VARIABLES.fullmatch(str(user.item.unwrap())):  # without a password the user is the secret
        raise user.wrong("a secret does not stand in a file: name a variable, '${NAME}', and nothing beside")


def _pattern(entry: Entry, text: str) -> HostPattern:
    try:
        return HostPattern.read(text)
    except ValueError as problem:
        raise entry.wrong(str(problem)) from problem


def _s3(table: Entry) -> S3Text:
    options: dict[str, object] = {}
    keys: dict[str, Setting] = {}
    for entry in _table(table):
        if entry.name in _S3_KEYS:
            keys[entry.name] = Setting(_text(entry), entry.where)
        elif entry.name in _S3_OPTIONS:
            options[entry.name.replace("-", "_")] = _value(entry, _S3_OPTIONS[entry.name])
        else:
            raise entry.wrong(f"there is no such key{nearest(entry.name, (*_S3_OPTIONS, *_S3_KEYS))}")
    if not keys:
        return S3Text(options)
    if len(keys) != len(_S3_KEYS):
        raise table.wrong(f"has {' and '.join(_S3_KEYS)}, or neither")
    for setting in keys.values():
        if not _VARIABLE.fullmatch(str(setting.value)):
            raise UsageError(f"{setting.where}: must name a variable, '${{NAME}}'")
    return S3Text(options, (keys[_S3_KEYS[0]], keys[_S3_KEYS[1]]))


def _table(entry: Entry) -> Iterator[Entry]:
    if not isinstance(entry.item.unwrap(), dict):
        raise entry.wrong("must be a table")
    seen = set()
    for child in entry.children:
        if child.name in seen:
            raise child.wrong("is set twice")
        seen.add(child.name)
        yield child


def _list(entry: Entry) -> list[str]:
    value = entry.item.unwrap()
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise entry.wrong('must be a list of texts, like ["data.example.org"]')
    return value


def _text(entry: Entry) -> str:
    value = entry.item.unwrap()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise entry.wrong("must be text in quotes")
    return value


def _value(entry: Entry, reader: Reader) -> object:
    try:
        return reader(entry.item.unwrap())
    except ValueError as problem:
        raise entry.wrong(str(problem)) from problem


def _texts(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
        raise ValueError("must be a list of texts")
    return tuple(raw)


_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_STEERING = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"}
    | {"proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Fields that say where a request goes and how it is framed, or what is wanted of an asset."""
_PLACES = ("{account}", "{container}")


def _field_name(raw: object) -> str:
    """Read the name of a header field that may carry a credential."""
    name = arguments.read_text(raw)
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"must be the name of a header field, not {name!r}")
    if name.lower() in _STEERING:
        raise ValueError(f"must be a field that carries a credential: {name} steers the connection")
    return name


def _service(*places: str) -> Reader:
    """Return a reader of the http address of a service, in which these places may be left open."""

    def read(raw: object) -> str:
        plain = url = arguments.read_text(raw)
        for place in places:
            plain = plain.replace(place, "x")
        if not is_address(plain):
            raise ValueError("must be like https://host/path")
        if "{" in plain or "}" in plain:
            known = " and ".join(places) or "no place"
            raise ValueError(f"has {known} to fill in, and nothing else in braces")
        return url

    return read


def _checks(raw: object) -> tuple[str, ...]:
    urls = _texts(raw)
    if not all(is_address(url, web=False) for url in urls):
        raise ValueError("must be a list of addresses, like https://host/path or s3://bucket/key")
    return urls


_LITERALS: Mapping[tuple[str, str], Reader] = {
    ("header", "name"): _field_name,
    ("query", "name"): arguments.read_text,
    ("sas", "key-header"): _field_name,
    ("visit", "login-host"): lambda raw: HostPattern.read(arguments.read_text(raw)),
    ("sas", "token-url"): _service(*_PLACES),
    ("token", "token-url"): _service(),
}
"""How a key that holds no secret is read, by kind and name."""
_PLAIN: Mapping[str, Reader] = {
    "about": arguments.read_text,
    "per-host": arguments.whole(1),
    "check": _checks,
}
_S3_OPTIONS: Mapping[str, Reader] = {
    "endpoint-url": arguments.web_address,
    "region": arguments.read_text,
    "request-payer": arguments.read_switch,
    "addressing-style": arguments.choice("auto", "path", "virtual"),
    "buckets": _texts,
}
_S3_KEYS = ("access-key", "secret-key")
