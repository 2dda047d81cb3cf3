r"""Shorter forms of long texts, from which the exact text can be restored. There may be eight million rows.

- The directory of an item is usually `<collection>/<item>`. Such a directory is not stored.
- An item's own URL usually contains the item's ID, in a text that is the same for all items of a collection.
  That text is stored once, with the ID marked (`href_forms`). The item stores the number of that form.
- An asset's name usually starts with its key or with the last part of its directory, and has a common
  ending. A control character replaces each of these. Names contain no control characters (`planning.names`).
- The ETag of an object store is usually an MD5 in quotes. It is stored as the bytes of the MD5.

A text that does not follow the pattern is stored unchanged.
"""

from __future__ import annotations

import re
import sqlite3

from stacpull.caches import LONGEST_KEY
from stacpull.models import VersionInDest

_ID = "\x01"
"""Stands for the item's id in the form of an href."""
_LAST, _KEY, UNOWNED, _NOTHING = "\x01", "\x02", "\x03", "\x04"
"""The first character of a stored name, if it is one of these. Examples for an asset `red` in `c/i1`:

    mark      what follows                                     name        stored as (without the ending)
    _LAST     the name without the last part of the directory  i1_red.tif  _LAST + "_red"
    _KEY      the name without the key                         red_10.tif  _KEY + "_10"
    UNOWNED   the full name, which another asset owns (this    i1_red.tif  UNOWNED + "i1_red.tif", complete
              asset tries it again later)
    _NOTHING  the name, which is empty or begins with a mark   ""          _NOTHING
"""

_ENDINGS = (
    *(".tif", "tiff", ".TIF", ".jp2", "json", ".xml", ".jpg", "jpeg", ".png", ".txt"),
    *("html", ".zip", ".csv", "quet", ".laz", ".bin"),
)
"""Never reordered: ledgers store their positions. Each has four characters."""
_NO_ENDING = "\x0f"
"""Follows a name whose last character could be mistaken for one that replaces an ending."""
_ENDING_OF = {_NO_ENDING: "", **{chr(0x10 + place): ending for place, ending in enumerate(_ENDINGS)}}
_MARK_OF = {ending: mark for mark, ending in _ENDING_OF.items()}

_MAX_FORMS = 200
"""The most forms that are stored. If every item has its own form, forms save nothing."""
_MD5_BYTES = 16
SHORTEST_MD5 = 34
"""Characters of the shortest ETag that is stored as bytes."""
_MD5 = re.compile(r'"([0-9a-f]{32})((?:-[0-9]{1,5})?)"', re.ASCII)
"""The ETag of an object store: an MD5, with the number of parts if it was uploaded in parts."""


def href_of(forms: str = "href_forms") -> str:
    """Return the SQL of the URL of item `i`, whose forms are in the table `forms`."""
    form = f"(SELECT replace(f.form, char(1), i.name) FROM {forms} f WHERE f.id = i.href_form)"
    return f"coalesce(i.href, {form})"


def item_directory_of(temp: str = "") -> str:
    """Return the SQL of the directory of item `i` of collection `c`; `temp` is the prefix of table names."""
    other = f"(SELECT d.path FROM {temp}directories d WHERE d.id = i.directory)"
    return f"iif(i.directory = 0, c.name || '/' || i.name, {other})"


def asset_directory_of(temp: str = "") -> str:
    """Return the SQL of the directory of asset `a`, NULL if it has none."""
    of_item = f"{temp}items i JOIN {temp}collections c ON c.id = i.collection WHERE i.id = a.item"
    other = f"(SELECT d.path FROM {temp}directories d WHERE d.id = a.directory)"
    return f"iif(a.directory = 0, (SELECT {item_directory_of(temp)} FROM {of_item}), {other})"


OTHER_DIRECTORY = "iif(a.directory = 0, NULL, (SELECT d.path FROM directories d WHERE d.id = a.directory))"
"""SQL: the directory of asset `a` if it differs from that of its item."""


class HrefForms:
    """The forms of items' URLs. Belongs to the ledger's writer thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[str, int] = {}
        self.forget()

    def forget(self) -> None:
        """Read the forms again (after a transaction was rolled back)."""
        self._ids = dict(self._db.execute("SELECT form, id FROM href_forms").fetchall())

    def stored(self, href: str | None, item: str) -> tuple[str | None, int | None]:
        """Return the values of the columns `href` and `href_form` for the URL of the item with that ID."""
        form = None if href is None else _form(href, item)
        if form is None:
            return href, None
        found = self._ids.get(form)
        if found is None and len(self._ids) < _MAX_FORMS:
            found = self._db.execute("INSERT INTO href_forms(form) VALUES (?)", (form,)).lastrowid or 0
            self._ids[form] = found
        return (href, None) if found is None else (None, found)


def name_in(form: str, href: str) -> str | None:
    """Return the ID of the item whose URL is `href`, or None if `href` does not have that form."""
    places = form.count(_ID)
    length, rest = divmod(len(href) - len(form) + places, places) if places else (0, 0)
    if length < 1 or rest:
        return None
    start = form.index(_ID)
    name = href[start : start + length]
    return name if form.replace(_ID, name) == href else None


def _form(href: str, item: str) -> str | None:
    """Return an href with the item's ID marked, or None if the form could not be turned back into it."""
    if not item or item not in href or _ID in href or "\0" in href:
        return None
    form = href.replace(item, _ID)
    return form if len(form) <= LONGEST_KEY else None


def stored_name(name: str, directory: str, key: str = "") -> str:
    """Return the stored form of the name of an asset in `directory`. The key may be omitted."""
    last = directory[directory.rfind("/") + 1 :]
    mark = _MARK_OF.get(name[-4:])
    if mark:
        name = name[:-4] + mark
    elif name[-1:] in _ENDING_OF:
        name += _NO_ENDING
    if name[:1] <= _NOTHING:
        return _NOTHING + name
    if len(last) > 1 and name.startswith(last):
        return _LAST + name[len(last) :]
    return _KEY + name[len(key) :] if len(key) > 1 and name.startswith(key) else name


def true_name(kept: str, directory: str, key: str) -> str:
    """Return the full name from its stored form, for an asset with that key in `directory`."""
    mark, name = kept[:1], kept
    if mark == _KEY:
        name = key + kept[1:]
    elif mark == _LAST:
        name = directory.rpartition("/")[2] + kept[1:]
    elif mark <= _NOTHING:
        name = kept[1:]
    ending = _ENDING_OF.get(name[-1:])
    return name if ending is None else name[:-1] + ending


def stored_etag(etag: str | None) -> str | bytes | None:
    """Return the stored form of an ETag: bytes for an MD5 in quotes, anything else unchanged."""
    found = None if etag is None else _MD5.fullmatch(etag)
    return etag if found is None else bytes.fromhex(found[1]) + found[2].encode()


def true_etag(kept: str | bytes | None) -> str | None:
    """Return the ETag from its stored form; None for bytes that are not an ETag (in a damaged ledger)."""
    if not isinstance(kept, bytes):
        return kept
    if len(kept) < _MD5_BYTES:
        return None
    return f'"{kept[:_MD5_BYTES].hex()}{kept[_MD5_BYTES:].decode("ascii", "replace")}"'


def version_of(
    kept: str | bytes | None, size: int | None, *, checksum_unverified: bool
) -> VersionInDest | None:
    """Return the version of an asset that is in place, by its stored ETag."""
    etag = true_etag(kept)
    return None if etag is None or size is None else VersionInDest(etag, size, checksum_unverified)
