"""Mirror datasets described by STAC: filtered, verified, resumable at any point.

    from stacpull import mirror, Selection

    report = await mirror(
        "https://api.example.org/mlhub/v1",
        "mirror",
        selection=Selection(collections="bigearthnet_v1_labels", labels="Rice fields", max_items=100),
    )

Every name is loaded when it is first used, so that `import stacpull` is quick. `__init__.pyi` has them all.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from stacpull.system import require_posix

__version__ = "0.2.0"

_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_HOME_OF = {name: home for home, name in re.findall(r"^from (\S+) import (\w+) as", _STUB, re.MULTILINE)}

__all__ = [name for name in _HOME_OF if name != "sync"]
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    require_posix()
    if name == "sync":  # a module of its own, which `import stacpull` does not import
        return import_module("stacpull.sync")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'stacpull' has no attribute {name!r}")
    public = getattr(import_module(_HOME_OF[name]), name)
    with_advice = import_module("stacpull.public_functions").with_advice
    return with_advice(public) if name.islower() else public


def __dir__() -> list[str]:
    return sorted(__all__)
