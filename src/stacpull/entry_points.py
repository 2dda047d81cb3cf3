"""Finds the packages beside the core, its neighbours and those of third parties, by their entry points.

A package registers what it adds in its `pyproject.toml`, as the neighbours do:

    [project.entry-points."stacpull.commands"]
    headers = "stacpull_raster.headers_command:headers_command"

| group | name | object |
|---|---|---|
| `stacpull.commands` | the command's | a `click.Command` |
| `stacpull.formats` | what `export -f` names | a `stacpull_export.formats.Format` |
| `stacpull.stores` | the scheme of DEST | a kind of DEST |
| `stacpull.sources` | the ending of a file name, such as `.parquet` | a `sources.source.Source` |
| `stacpull.schemes` | the scheme of SOURCE and assets | a bucket's: see `schemes.Scheme.factory` |
| `stacpull.logins` | the `kind` of a login in a profile | a `stacpull_logins.logins.LoginKind` |

Only our own packages register in `stacpull.outputs`, `listeners`, `profiles`, `fetchers` and `workers`.

Looking up a name of our own distribution reads one small file. For any other name, all installed
distributions are read. An entry point whose package is not installed counts as absent.
"""

import re
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from stacpull.errors import UsageError

_NDJSON: Final = "stacpull.sources.files:NdjsonSource"
_CORE: Final = {  # what the core itself loads only when it is used
    "stacpull.sources": {
        "api": "stacpull.sources.stac_api:ApiSource",
        "tree": "stacpull.sources.tree:TreeSource",
        "items": "stacpull.sources.files:GeoJsonSource",
        **dict.fromkeys((".ndjson", ".jsonl", ".ldjson", ".ndgeojson", ".geojsonl", ".geojsons"), _NDJSON),
    }
}


def load(group: str, name: str) -> Any | None:
    """Return the object of an entry point, or None. Raises ImportError if its package lacks a library."""
    target = target_of(group, name)
    if target is None or not _is_installed(target):
        return None
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def target_of(group: str, name: str) -> str | None:
    """Return where a registered object is, which may not be installed."""
    core = _CORE.get(group, {})
    if name in core:
        return core[name]
    own = _own().get(group, {}).get(name)
    return own or _everywhere(group).get(name)  # this reads the files of all distributions


def require(group: str, name: str, what: str) -> Any:
    """Return the object of an entry point. Raises UsageError if there is none: `what` needs its package."""
    entry = load(group, name)
    if entry is None:
        package = re.split("[.:]", target_of(group, name) or "")[0] or f"that registers {name!r} in {group}"
        raise UsageError(f"{what} needs the package {package}, which is not installed.")
    return entry


@cache
def names(group: str, *, everywhere: bool = False) -> list[str]:
    """Return the names of installed packages, ours in the order of `pyproject.toml`, or all `everywhere`."""
    others = _everywhere(group) if everywhere else {}
    targets = others | _own().get(group, {})
    return [name for name, target in targets.items() if _is_installed(target)]


def _is_installed(target: str) -> bool:
    return find_spec(re.split("[.:]", target)[0]) is not None


@cache
def _own() -> dict[str, dict[str, str]]:
    """Return the entry points of our own distribution, without the slow import of `importlib.metadata`."""
    pattern = "stacpull-*.dist-info/entry_points.txt"
    files = (file for folder in sys.path for file in Path(folder).glob(pattern))
    text = next((file.read_text("utf-8") for file in files), "")
    groups = {}
    for group, lines in re.findall(r"^\[(\S+)\]([^\[]*)", text, re.MULTILINE):
        groups[group] = dict(re.findall(r"^(\S+) *= *(\S+)", lines, re.MULTILINE))
    return groups


@cache
def _everywhere(group: str) -> dict[str, str]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow, and needed for packages of others

    return {point.name: point.value for point in entry_points(group=group)}
