"""Where the example configs are: beside the sources of a checkout, else inside of the installed package."""

from __future__ import annotations

import difflib
from pathlib import Path

from stacpull.errors import UsageError

__all__ = ["config_path", "shipped_config"]

_PACKAGE = Path(__file__).parents[1]


def config_path(given: str) -> Path:
    """Return the path of the config file that `--config` names: a file, or a shipped config by its name.

    A file goes before a shipped config of the same name.

    Raises:
        UsageError: A bare name is neither.
    """
    path = Path(given).expanduser()
    if path.exists() or path.name != given or path.suffix not in {"", ".toml"}:
        return path
    shipped = shipped_config(f"{path.stem}.toml")
    if shipped.exists():
        return shipped
    names = sorted(one.stem for one in shipped_config("").glob("*.toml"))
    if path.suffix:
        return path
    near = difflib.get_close_matches(given, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
    raise UsageError(f"--config {given}: there is no such file, and no config of that name; {hint}")


def shipped_config(name: str) -> Path:
    """Return the path of `configs/NAME`, a file or a folder."""
    checkout = _PACKAGE.parents[1] / "configs" / name
    return checkout if checkout.exists() else _PACKAGE / "configs" / name
