"""Removing credentials from everything that is written: ledger, log, catalog, errors.

Parameters of URLs that carry credentials or signatures are removed by name, and known secrets (`Secret`) by
value. A paging token (`token=next:…`) is not a credential; in URLs of pages, `keep_tokens` keeps any `token`.

| function | removes |
|---|---|
| `public_url` | by name: the user, keys and signatures |
| `unsigned_url` | by name: the user and signatures, but no key, which may name the resource |
| `Secrets.masked`, `masked_bytes`, `mask_error` | by value: known secrets in any text become `***` |
| `Secrets.masked_url` | by value: also whole query parameters with a known secret |
| `Secrets.storable_url` | what `masked_url` and `public_url` remove |
| `Secrets.requestable_url` | the same; None if removing a key could make it the URL of another document |

`catalog.item.public_document` does this for a document, `events.masking_listener` for events.
"""

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from stacpull.caches import BoundedCache

_KEY = re.compile(  # keys of the user, which `net.client` adds again for their host
    r"(^key|^auth|^jwt|^pwd|^id_token|subscription-key|(api|auth|refresh)_token|secret|secret_key|passw(or)?d"
    r"|authkey|api[_-]?key|access_?key)$"
)
_SIGNATURES = re.compile(  # made by a server (of a cloud or CDN) for this one URL, which needs them
    r"(access_token|token|sig|signature|awsaccesskeyid|googleaccessid|policy|key-pair-id"
    r"|temp_url_(sig|expires)|ossaccesskeyid|security-token|hdnea|hdnts|__token__|q-ak|q-signature)\Z"
    r"|x-amz-|x-goog-|x-oss-(?!process\Z)"  # `x-oss-process` scales images
)
_SAS_FIELDS = frozenset(
    {"se", "sp", "sv", "sr", "ss", "srt", "st", "si", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks"}
    | {"skv", "saoid", "suoid", "scid", "sdd"}
)
_SIGNED_BY = frozenset({"signature", "awsaccesskeyid", "googleaccessid"})
_FERNET = re.compile(r"(?<=/)gAAAAA[A-Za-z0-9_-]{90,}(?:=|%3[Dd]){0,2}(?=[/?#]|$)")
_PAGING_TOKENS = ("next:", "prev:", "previous:")
# shorter secrets than these are not replaced: in any text, in a document, and in the path of a URL
_MIN_SECRET = 4
_MIN_IN_DOCUMENT = 6
_MIN_IN_URL = 8
_MIN_TEMPORARY = 16
_MAX_TEMPORARY = 256
_IN_PAIR = re.compile(
    r'="?(?=[^\s;,":]*?(?=[A-Za-z]{0,11}\d)[A-Za-z0-9]{12})([^\s;,":/][^\s;,":]{15,})'
)  # not names, such as sentinel-2-l2a-cogs, nor URLs: they may be in any text
_ORDINARY_FIELD = re.compile(r"(from|host|origin|range|referer|user-agent)$|accept|content-|if-")
"""Fields of RFC 9110 that are never credentials, wherever their value comes from."""
_CREDENTIAL_FIELD = re.compile(r"auth|cookie|credential|key|pass|secret|session|sign|token")


class Secret:
    """A string that is never shown: `repr`, `str` and `format` hide it; `reveal()` returns the value."""

    __slots__ = ("_value", "is_literal")

    def __init__(self, value: str, *, is_literal: bool = False) -> None:
        self._value = value
        # True if it was written literally on a command line or in a config file: see `credentials_in`
        self.is_literal = is_literal

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        return self._value


class Secrets:
    """The secrets that this process knows, which are removed by value from any text before it is written.

    Each secret is searched literally, percent-encoded and JSON-escaped; of `Bearer abc` also `abc`, of
    `Basic …` also its content (RFC 7617, 2), of a cookie `s=abc` also a long `abc`. Values under 4
    characters, in documents under 6, are ignored, because they would damage every text.
    """

    __slots__ = ("_forms", "_known", "_temporary", "values")

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._known: set[Secret] = set()
        self._temporary = BoundedCache[Secret, None](_MAX_TEMPORARY)
        self._forms: tuple[str, ...] = ()
        self.values: frozenset[str] = frozenset()  # the revealed secrets; another set after each change
        self.add(*secrets)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, *secrets: Secret) -> None:
        self._known.update(secrets)
        known = self._known | self._temporary.keys()
        self.values = frozenset(secret.reveal() for secret in known)
        forms = set().union(*map(_forms_of, self.values))
        self._forms = tuple(sorted(sorted(forms), key=len, reverse=True))

    def add_temporary(self, *secrets: Secret, least: int = _MIN_TEMPORARY) -> None:
        """Add secrets of a service: the newest 256 are kept, and none shorter than `least`."""
        for secret in secrets:
            if len(secret.reveal()) >= least:
                self._temporary.pop(secret, None)
                self._temporary[secret] = None
        self.add()

    def replace(self, values: Iterable[str]) -> None:
        self._known = set(map(Secret, values))
        self.add()

    def masked(self, text: str) -> str:
        """Return `text` with every known secret replaced by `***`, the longest first."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text

    def masked_bytes(self, data: bytes) -> bytes:
        for form in self._forms:
            if len(form) >= _MIN_IN_DOCUMENT:
                data = data.replace(form.encode(), b"***")
        return data

    def masked_url(self, url: str) -> str:
        """Return `url` without the known secrets, so that it may be written or sent to another host.

        A query parameter with a secret is removed. In the rest of the URL, a secret of at least 8 characters
        is replaced by `***`; a shorter one may be an ordinary word of a path. If its spelling is unusual
        (`%53…`), the whole path is replaced, because only the decoded path shows it.
        """
        if not self._forms:
            return url
        certain = [form for form in self._forms if len(form) >= _MIN_IN_URL]

        def has_secret(text: str) -> bool:
            return any(form in text for form in certain)

        def hidden(part: str) -> str:
            return "***" if has_secret(unquote(part)) else part

        def is_kept(name: str, value: str, pair: str) -> bool:
            return not (value in self.values or has_secret(f"{name}={value}") or has_secret(pair))

        masked = _filtered(url, is_kept)
        for form in certain:
            masked = masked.replace(form, "***")
        if has_secret(unquote(masked)):
            masked = "/".join(map(hidden, masked.split("/", 3)))  # the last part is the path
        return masked

    def storable_url(self, url: str) -> str:
        return self.masked_url(public_url(url))

    def requestable_url(self, url: str) -> str | None:
        """Return the storable URL; None if that lacks a key, because the key may name the document."""
        masked = self.masked_url(url)
        public = public_url(masked)
        return public if unsigned_url(public) == unsigned_url(masked) else None

    def mask_error(self, error: BaseException) -> None:
        """Remove the known secrets from the text and notes of `error` and of the errors that led to it."""
        pending: list[BaseException | None] = [error]
        done: set[int] = set()
        while pending:
            current = pending.pop()
            if current is None or id(current) in done:
                continue
            done.add(id(current))
            pending += [current.__cause__, current.__context__]
            if isinstance(current, BaseExceptionGroup):
                pending += current.exceptions
            current.args = tuple(self.masked(arg) if isinstance(arg, str) else arg for arg in current.args)
            if hasattr(current, "__notes__"):
                current.__notes__ = [self.masked(note) for note in current.__notes__]


def credentials_in(headers: Mapping[str, Secret]) -> list[Secret]:
    """Return the values of header fields that are credentials: not spelled out, or named like one."""
    credentials = []
    for field, value in headers.items():
        name = field.lower()
        may_be_one = not value.is_literal or _CREDENTIAL_FIELD.search(name)
        if may_be_one and not _ORDINARY_FIELD.match(name):
            credentials.append(value)
    return credentials


def public_url(url: str, *, keep_tokens: bool = False, keep_keys: bool = False) -> str:
    if "?" not in url and "@" not in url and "#" not in url:
        return url  # nearly all URLs
    address, _, fragment = url.partition("#")
    head, _, query = address.partition("?")
    scheme, separator, after = head.partition("//")
    has_server = scheme[-1:] in {"", ":"}
    if has_server and "@" in after and not scheme.startswith("abfs"):  # `container@account`
        server, slash, path = after.partition("/")
        url = f"{scheme}{separator}{server.rpartition('@')[2]}{slash}{path}{url[len(head) :]}"
    pairs = [*query.split("&"), *fragment.split("&")]
    names = {unquote_plus(pair.partition("=")[0]).lower() for pair in pairs}
    signed = set(filter(_SIGNATURES.match, names))
    if "sig" in signed:
        signed |= _SAS_FIELDS
    if signed & _SIGNED_BY:
        signed.add("expires")

    def is_kept(name: str, value: str, _pair: str) -> bool:
        name = name.lower()
        is_paging = name == "token" and (keep_tokens or value.startswith(_PAGING_TOKENS))
        is_key = _KEY.search(name) is not None
        return is_paging or (name not in signed and (keep_keys or not is_key))

    return _filtered(url, is_kept)


def _filtered(url: str, is_kept: Callable[[str, str, str], bool]) -> str:
    """Return a URL with the parameters that are kept, also of a fragment (RFC 6749, 4.2.2)."""
    address, hash_mark, fragment = url.partition("#")
    filtered, mark, query = address.partition("?")
    for begin, pairs in ((mark, query), (hash_mark, fragment)):
        kept = []
        for pair in pairs.split("&"):
            name, equals, value = map(unquote_plus, pair.partition("="))
            if (begin == "#" and not equals) or is_kept(name, value, pair):
                kept.append(pair)
        if kept:
            filtered += begin + "&".join(kept)
    return filtered


def is_signed(url: str) -> bool:
    _, _, query = url.partition("?")
    _, _, unsigned_query = unsigned_url(url).partition("?")
    return unsigned_query != query


def unsigned_url(url: str) -> str:
    """Return the part of a URL that identifies the resource: without user, signature and Fernet token.

    A `key` stays, because it may name the resource. MLHub's assets are `/download/<token>`, with another
    token each time an item is read (Fernet: 0x80 and 64 bits of seconds in base64url, at least 73 bytes).
    """
    unsigned = public_url(url, keep_keys=True)
    return _FERNET.sub("", unsigned) if "/gAAAAA" in unsigned else unsigned


def href_hash(href: str) -> int:
    """Return 24 bits of a checksum of a URL without its signature: an ETag is only sent to the same URL.

    Another URL of the asset has the same hash in one of 16 million cases, and gets a wrong ETag then.
    """
    checksum = zlib.crc32(unsigned_url(href).encode("utf-8", "surrogatepass"))
    return (checksum >> 8) - (1 << 23)  # with a sign, so that SQLite stores 3 bytes


def _forms_of(value: str) -> set[str]:
    scheme, _, credentials = value.partition(" ")
    plain = {value, credentials, *_IN_PAIR.findall(value)}
    if scheme.lower() == "basic":
        with suppress(ValueError):
            name_and_password = base64.b64decode(credentials, validate=True).decode()
            plain |= {name_and_password, name_and_password.partition(":")[2]}
    forms = set(plain)
    for text in plain:
        for is_ascii in (True, False):
            forms.add(json.dumps(text, ensure_ascii=is_ascii)[1:-1])
        for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
            # some servers write the hexadecimal digits in lower case
            in_lower_case = re.sub("%..", lambda escape: escape[0].lower(), encoded)
            forms |= {encoded, in_lower_case}
    return {form for form in forms if len(form) >= _MIN_SECRET}
