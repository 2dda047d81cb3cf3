r"""How long texts of rows lie in the ledger, short and exactly as they were: there may be eight million rows.

- An item's own URL mostly is one text around the item's id, the same for all items of a collection. That text
  is kept once (`href_forms`, the id's place marked), and the item keeps its number (`items.href_form`).
- An asset's name mostly begins with its key, or with the last part of its directory. A control character
  stands for that beginning; names have none (`planning.names`).
- An ETag mostly is a number in quotes: an MD5 (S3), time and size (nginx, Apache), a time (Azure). It is kept
  as a blob of that number.

What does not fit is kept as it is, and whatever is kept is read back unchanged: each short form is taken only
where it gives the text again. Rows that an older version wrote need no change, they are texts as they are.
"""

from __future__ import annotations

import re
import sqlite3

from stacpull.caches import LONGEST_KEY
from stacpull.models import Present

__all__ = [
    "HrefForms",
    "href_of",
    "name_in",
    "present",
    "stored_etag",
    "stored_name",
    "true_etag",
    "true_name",
]

_ID = "\x01"
"""Stands for the item's id in the form of an href."""
_LAST, _KEY, _NOTHING = "\x01", "\x02", "\x04"
"""Stand at the beginning of a name: the last part of its directory; its key; nothing."""

_MAX_FORMS = 200
"""Forms kept, at most: where each item has one of its own they would save nothing."""
_MD5_BYTES = 16
_HEX_ETAG = re.compile(r'(?:(W/)?"([0-9a-f-]{1,64})|"0x([0-9A-F]{1,64}))"', re.ASCII)
_STRONG, _WEAK, _UPPER = "1", "2", "3"
"""The first digit of a number tells what stood before the others, and that none of those was 0."""
_MARKS = {_STRONG: '"', _WEAK: 'W/"', _UPPER: '"0x'}
_DIGITS = "0123456789abcdef-"
_BASE = len(_DIGITS)


def href_of(forms: str = "href_forms") -> str:
    """Return the SQL of the URL of item `i`, whose forms lie in the table `forms`."""
    form = f"(SELECT replace(f.form, char(1), i.name) FROM {forms} f WHERE f.id = i.href_form)"
    return f"coalesce(i.href, {form})"


class HrefForms:
    """The forms of items' URLs. Belongs to the ledger's writer thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[str, int] = {}
        self.forget()

    def forget(self) -> None:
        """Read them anew (after a transaction was rolled back)."""
        self._ids = dict(self._db.execute("SELECT form, id FROM href_forms").fetchall())

    def stored(self, href: str | None, item: str) -> tuple[str | None, int | None]:
        """Return what the columns `href` and `href_form` hold for the URL of the item with that id."""
        form = None if href is None else _form(href, item)
        if form is None:
            return href, None
        found = self._ids.get(form)
        if found is None and len(self._ids) < _MAX_FORMS:
            found = self._db.execute("INSERT INTO href_forms(form) VALUES (?)", (form,)).lastrowid or 0
            self._ids[form] = found
        return (href, None) if found is None else (None, found)


def name_in(form: str, href: str) -> str | None:
    """Return the id of the item whose URL of that form is `href`, None if it is not of that form."""
    places = form.count(_ID)
    length, rest = divmod(len(href) - len(form) + places, places) if places else (0, 0)
    if length < 1 or rest:
        return None
    start = form.index(_ID)
    name = href[start : start + length]
    return name if form.replace(_ID, name) == href else None


def _form(href: str, item: str) -> str | None:
    """Return an href with the item's id marked; None where it has none, or SQL would not read it so."""
    if not item or item not in href or _ID in href or "\0" in href:
        return None
    form = href.replace(item, _ID)
    return form if len(form) <= LONGEST_KEY else None


def stored_name(name: str, directory: str, key: str = "") -> str:
    """Return how the name of an asset in `directory` is kept; without its key, if that is not at hand."""
    last = directory.rpartition("/")[2]
    if name[:1] <= _NOTHING:
        return _NOTHING + name
    if len(last) > 1 and name.startswith(last):
        return _LAST + name[len(last) :]
    return _KEY + name[len(key) :] if len(key) > 1 and name.startswith(key) else name


def true_name(kept: str, directory: str, key: str) -> str:
    """Return the name that is kept so, of an asset with that key in `directory`."""
    if kept[:1] > _NOTHING:
        return kept
    return _beginning(kept[:1], directory, key) + kept[1:]


def _beginning(mark: str, directory: str, key: str) -> str:
    return directory.rpartition("/")[2] if mark == _LAST else key if mark == _KEY else ""


def stored_etag(etag: str | None) -> str | bytes | None:
    """Return how an ETag is kept: a blob for a number in quotes, 16 bytes of it for an MD5."""
    found = None if etag is None else _HEX_ETAG.fullmatch(etag)
    if found is None:
        return etag
    weak, lower, upper = found.groups()
    if upper is not None:
        return _packed(_UPPER + upper.lower())
    if weak is None and len(lower) == 2 * _MD5_BYTES and "-" not in lower:
        return bytes.fromhex(lower)
    return _packed((_STRONG if weak is None else _WEAK) + lower.replace("-", "g"))


def _packed(digits: str) -> bytes:
    """Return a number of base 17 as bytes, never as many as an MD5 has."""
    value = int(digits, _BASE)
    length = (value.bit_length() + 7) // 8
    return value.to_bytes(length + (length == _MD5_BYTES))


def true_etag(kept: str | bytes | None) -> str | None:
    """Return the ETag that is kept so; None of a blob that keeps none (in a damaged ledger)."""
    if not isinstance(kept, bytes):
        return kept
    if len(kept) == _MD5_BYTES:
        return f'"{kept.hex()}"'
    value, digits = int.from_bytes(kept), []
    while value:
        value, digit = divmod(value, _BASE)
        digits.append(_DIGITS[digit])
    mark = _MARKS.get(digits.pop()) if digits else None
    if mark is None:
        return None
    text = "".join(reversed(digits))
    return f'{mark}{text.upper() if mark == _MARKS[_UPPER] else text}"'


def present(kept: str | bytes | None, size: int | None, *, unheld: bool) -> Present | None:
    """Return the version of an asset that lies in its place, by the ETag that is kept of it."""
    etag = true_etag(kept)
    return None if etag is None or size is None else Present(etag, size, unheld)
