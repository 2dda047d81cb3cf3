"""Lists of item ids in files, as datasets publish their splits.

One id a line, or a table: comma, semicolon or tab, quoted or not, with or without a header. Seen in the wild:
bare patch names (BigEarthNet's `train.csv`), `<s2 patch>,<s1 patch>` (TorchGeo's splits), and tables with a
column of ids somewhere (`patch_id`, `split`, …).
"""

from __future__ import annotations

import csv
from typing import Final

__all__ = ["ids_in"]

_ID_COLUMNS: Final = (
    "id",
    "item",
    "item_id",
    "itemid",
    "patch",
    "patch_id",
    "patch_name",
    "s2_patch",
    "s2v1_name",
    "s2_name",
    "name",
    "tile_id",
    "image_id",
    "filename",
)
"""Headers that name the column of ids, the surest first."""


def ids_in(text: str) -> tuple[str, ...]:
    """Return the ids in the text of a list, in order, each once.

    Without a header that names a column of ids, they are in the first column. Blank lines and lines that
    begin with `#` are skipped.

    Raises:
        csv.Error: It is no such list: a cell has more than 131,072 characters (Python's csv).
    """
    lines = [
        line
        for line in text.lstrip("\ufeff").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        return ()
    delimiter = next((sign for sign in "\t;," if sign in lines[0]), ",")
    rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    column = _id_column(rows[0])
    body = rows if column is None else rows[1:]
    cells = (row[column or 0].strip() for row in body if len(row) > (column or 0))
    return tuple(dict.fromkeys(cell for cell in cells if cell))


def _id_column(row: list[str]) -> int | None:
    """Return which column a header says holds the ids; None if the row is no such header."""
    names = [cell.strip().casefold().replace(" ", "_").replace("-", "_") for cell in row]
    return next((names.index(name) for name in _ID_COLUMNS if name in names), None)
