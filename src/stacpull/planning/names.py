r"""Names for the file system: safe, readable, unique, and the same text as a path and as a relative URL.

Each byte of an unsafe character, and `~` itself, becomes `~XX`, so that this is reversible. Other impossible
names keep their beginning and their suffix, with `~` and 12 hex digits of the name's SHA-256 in between:

- the mirror's own names, in any case (`catalog.json`, `collection.json`, `items-000001.json`, `items.*`);
- device names of Windows (`NUL`, `com1.txt`), empty names, and names over 255 bytes;
- names that look like hashed ones, so that no plain name equals a hashed one.

File systems may not distinguish Unicode forms or case: `fold` decides whether two paths are the same.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from stacpull.caches import cached_if_short
from stacpull.digests import text_hash
from stacpull.json_values import parsed_object

CATALOG_ID: Final = "stacpull-mirror"  # the beginning of the id of a mirror's root catalog
COLLECTION_FILE: Final = "collection.json"
NDJSON_FILE: Final = "items.ndjson"
OUTPUTS: Final = {"items_parquet": "items.parquet"}
"""The file at the top of DEST that each output of `mirror` keeps, by the field of `Options` that wants it."""
MAX_BYTES: Final = 255
_FILES: Final = "|".join(map(re.escape, (NDJSON_FILE, *OUTPUTS.values())))
_OWN_NAMES: Final = re.compile(rf"(catalog|collection|items-[0-9]{{6,}})\.json|{_FILES}")
_UNSAFE: Final = re.compile(
    r"""^[-.]|\.\Z|[\x00-\x20\x7f-\xa0\xad/\\:*?"<>|#;%+^{}\[\]`~"""
    "\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
    "\ud800-\udfff\ufeff\ufff0-\uffff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.DOTALL)
_HASHED: Final = re.compile(r".*~[0-9a-f]{12}(\.[A-Za-z0-9.]{1,15})?", re.DOTALL)
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._]+")
_MAX_SOURCE_LENGTH: Final = 80
_SUFFIX: Final = re.compile(r"(?<=[^.])(\.tar)?\.[A-Za-z0-9]{1,10}\Z")
_CUT_ESCAPE: Final = re.compile(r"~[0-9A-F]?\Z")


def catalog_id(source: str) -> str:
    name = _NOT_IN_ID.sub("-", source.partition("://")[2] or source).strip("-.")
    return f"{CATALOG_ID}-{name[:_MAX_SOURCE_LENGTH].rstrip('-.')}" if name else CATALOG_ID


def is_own_catalog(data: bytes | None) -> bool:
    identifier = (parsed_object(data or b"") or {}).get("id")
    return isinstance(identifier, str) and f"{identifier}-".startswith(f"{CATALOG_ID}-")


def _escaped(unsafe: re.Match[str]) -> str:
    return "".join(f"~{byte:02X}" for byte in unsafe.group().encode("utf-8", "surrogatepass"))


@cached_if_short(8192)
def safe_segment(name: str) -> str:
    """Return a name as a path segment of at most 255 bytes, which differs for different names."""
    encoded = _UNSAFE.sub(_escaped, name)
    is_like_hashed = "~" in encoded and _HASHED.fullmatch(encoded)
    is_long = len(encoded) > MAX_BYTES // 4 and len(encoded.encode()) > MAX_BYTES
    folded = fold(encoded)
    is_taken = _OWN_NAMES.fullmatch(folded) or _DEVICE.fullmatch(folded)
    is_impossible = not encoded or is_like_hashed or is_long or is_taken
    return _with_hash(encoded, name) if is_impossible else encoded


def json_name(directory: str) -> str:
    name = f"{directory}.json"
    is_unsafe = _OWN_NAMES.fullmatch(fold(name)) or len(name.encode()) > MAX_BYTES
    return _with_hash(name, name) if is_unsafe else name


def with_salted_hash(segment: str, salt: str) -> str:
    """Return a safe segment with a hash that also depends on `salt`, for names that would collide."""
    return _with_hash(segment, f"{salt}\0{segment}")


def fold(path: str) -> str:
    """Return the form in which paths are compared: equal for paths that are one file on any file system."""
    if path.isascii():
        return path.lower()
    # decomposed before and composed after, because case folding may change the Unicode form
    decomposed = unicodedata.normalize("NFD", path)
    return unicodedata.normalize("NFC", decomposed.casefold())


def path_hash(path: str) -> int:
    directory, _, name = path.rpartition("/")
    return hashes_in(directory)(name)


_PATH_BITS: Final = (1 << 50) - 1  # the other 14 bits form 16,384 groups of a few index pages each


@cached_if_short(1024)
def hashes_in(directory: str) -> Callable[[str], int]:
    """Return a hash function of names. Its first 14 bits depend only on the directory, to keep rows close."""
    folded = fold(directory)  # as part of `fold(path)`: no character is composed with a slash
    first_bits = text_hash(folded) & ~_PATH_BITS
    prefix = f"{folded}/" if folded else ""
    return lambda name: first_bits | (text_hash(prefix + fold(name)) & _PATH_BITS)


def _with_hash(encoded: str, hashed: str) -> str:
    digest = hashlib.sha256(hashed.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    suffix = _SUFFIX.search(encoded[-20:])  # no suffix is as long
    ending = suffix.group() if suffix else ""
    room = MAX_BYTES - len("~") - len(digest) - len(ending) - len("_")
    stem = encoded.removesuffix(ending).encode()[:room]
    prefix = _CUT_ESCAPE.sub("", stem.decode("utf-8", "ignore")) or "_"
    if _DEVICE.fullmatch(prefix.casefold()):
        prefix = f"_{prefix}"  # on Windows, `con.anything` is the device `con`
    return f"{prefix}~{digest}{ending}"
