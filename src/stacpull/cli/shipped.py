"""Where the example configs are: beside the sources of a checkout, else inside of the installed package."""

from __future__ import annotations

from pathlib import Path

import stacpull

__all__ = ["shipped_config"]


def shipped_config(name: str) -> Path:
    """Return the path of `configs/NAME`."""
    package = Path(stacpull.__file__).parent
    checkout = package.parents[1] / "configs" / name
    return checkout if checkout.is_file() else package / "configs" / name
