"""pyarrow, which is an extra: whether it is installed, and its import without pandas."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from stacpull.errors import UsageError


def require_pyarrow(what: str, *, otherwise: str = "") -> None:
    """Check that pyarrow, which `what` needs, is installed.

    Args:
        what: The beginning of the message, such as `Parquet`.
        otherwise: What to do without it, such as `, or write .csv`.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("pyarrow") is None:
        install = "pip install 'stacpull[geoparquet]'"
        raise UsageError(f"{what} needs pyarrow, which is not installed: {install}{otherwise}.")


class _WithoutPandas:
    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def hide_pandas() -> None:
    """Keep pyarrow from importing pandas, which takes 47 MB and a fifth of a second."""
    sys.meta_path.insert(0, _WithoutPandas())
