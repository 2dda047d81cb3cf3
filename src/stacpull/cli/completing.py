"""Values that the shell completes. Nothing here asks the network, so that the Tab key never hangs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import click
from click.shell_completion import CompletionItem

__all__ = ["COMPLETIONS", "directories"]


def directories(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Let the shell complete directories."""
    return [CompletionItem(typed, type="dir")]


def _collections(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return the collections that the mirror in DEST and the config files name."""
    found = dict.fromkeys([*_mirrored(_dest(context)), *_configured(context.params.get("config"))])
    return [CompletionItem(name) for name in found if name.startswith(typed)]


def _dest(context: click.Context) -> object:
    """Return DEST; click leaves the arguments unread while the value of an option is missing."""
    return context.params.get("dest") or (context.args[1] if len(context.args) > 1 else None)


def _mirrored(dest: object) -> list[str]:
    """Return the collections that have a document in DEST: no ledger is opened, which may be in use."""
    documents = Path(str(dest)).glob("*/collection.json") if dest is not None else ()
    return sorted(unquote(document.parent.name) for document in documents)


def _configured(config: object) -> Iterator[str]:
    from stacpull.config.toml import shipped_config

    given = [Path(str(config))] if config else []
    for path in [*given, *sorted(shipped_config("").glob("*.toml"))]:
        with suppress(OSError, ValueError):
            named = tomllib.loads(path.read_text()).get("collection", [])
            yield from [named] if isinstance(named, str) else map(str, named)


def _profiles(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return the names of credential profiles."""
    from stacpull.config.profiles import listed

    return [CompletionItem(one.profile.name) for one in listed() if one.profile.name.startswith(typed)]


COMPLETIONS = {"collection": _collections, "credentials": _profiles}
"""How the values of options are completed, by the name of the option."""
