"""Where the example configs are: beside the sources of a checkout, else inside of the installed package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped_config"]

_PACKAGE = Path(__file__).parents[1]


def shipped_config(name: str) -> Path:
    """Return the path of `configs/NAME`, a file or a folder."""
    checkout = _PACKAGE.parents[1] / "configs" / name
    return checkout if checkout.exists() else _PACKAGE / "configs" / name
