"""Names that an attacker might use to leave DEST, to hide, or to overwrite files."""

import unicodedata
from itertools import product

__all__ = ["NAMES"]

_DEVICES = ["con", "PRN", "aux", "NUL", "COM1", "com9", "LPT1", "lpt³", "CONIN$", "conout$"]
_RESERVED = [
    ".stacpull",
    "catalog.json",
    "collection.json",
    ".STACPULL",
    "Catalog.JSON",
    "collection.j\u017fon",
    "items.parquet",
    "items.ndjson",
]
_STEPS = [
    "..",
    ".",
    "...",
    "../..",
    "..\\..",
    "%2e%2e",
    "%2E%2E%2F",
    "\uff0e\uff0e",
    "..%00",
    "..;",
    "..\u2215..",
]
_TARGETS = [
    "etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "\\\\host\\share",
    "~root/x",
    "$HOME",
    "file.tif:stream",
    "a\0b",
]
_ODD = [
    "\n",
    "\r\n",
    "\t",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u202e",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "\ud800",
    "*",
    "?",
    "|",
    "<",
    ">",
    '"',
    "'",
    "`",
    ";",
    "&",
    "%",
    "%%",
    "%zz",
    "~",
    " ",
    "-",
    "--",
    "{}",
    "{filename}",
]
_SHAPES = [
    "{}",
    "{}.tif",
    "a{}",
    "{}a",
    "a{}b",
    " {}",
    "{} ",
    ".{}",
    "{}.",
    "{}~0123456789ab",
    "{}/x",
    "x/{}",
]
_LONG = [
    char * count
    for char, count in product(["a", "é", "😀", "/", "%", "\0", "."], [63, 64, 84, 85, 127, 255, 256, 400])
]

NAMES = sorted(
    {
        form
        for text in (*_DEVICES, *_RESERVED, *_STEPS, *_TARGETS, *_ODD)
        for shape in _SHAPES
        for form in (shape.replace("{}", text), unicodedata.normalize("NFD", shape.replace("{}", text)))
    }
    | {f"{long}{suffix}" for long in _LONG for suffix in ("", ".tif", ".tar.gz")}
    | {""}
)
