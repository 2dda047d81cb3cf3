"""Evalscripts for statistics: they need `setup`, `evaluatePixel`, outputs and a data mask.

The default sample type is FLOAT32; `bands` of an output may be names. `dataMask` has one band for all
outputs, or one for each output or band, with the same name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.sentinelhub.script_evaluation import ScriptError, ScriptFault, ScriptRun, number

DATA_MASK = "dataMask"
_TYPES: Mapping[str, type[np.generic]] = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "FLOAT32": np.float32,
    "AUTO": np.float32,
}
_MOST_BANDS = 1000
_LONGEST = 100_000


@dataclass(frozen=True)
class ScriptOutput:
    """An output: its id, the names of its bands (B0, B1, … by default), and the type of its samples."""

    id: str
    bands: tuple[str, ...]
    sample_type: str

    @property
    def whole(self) -> bool:
        """True if its samples are integers."""
        return "INT" in self.sample_type


@dataclass(frozen=True)
class Evalscript:
    """A parsed script: its input bands, its outputs, and the bands of its mask."""

    run: ScriptRun
    bands: tuple[str, ...]
    outputs: tuple[ScriptOutput, ...]
    masks: tuple[str, ...]

    def evaluate(self, samples: Mapping[str, NDArray[np.int16]]) -> Evaluated:
        """Run the script on pixels."""
        given = {band: values.astype(np.float64) for band, values in samples.items()}
        count = len(next(iter(given.values())))
        result = self.run.call("evaluatePixel", [given, [], {}, {}, {}])
        if not isinstance(result, dict):
            if len(self.outputs) > 1 or not isinstance(result, list):
                raise ScriptFault("evaluatePixel must return an object with a member for each output")
            raise ScriptFault(f"evaluatePixel must return an object with {DATA_MASK}")
        masks = [values != 0 for values in _arrays(result, DATA_MASK, len(self.masks), count)]
        values: dict[tuple[str, str], NDArray[np.generic]] = {}
        valid: dict[tuple[str, str], NDArray[np.bool_]] = {}
        for output in self.outputs:
            arrays = _arrays(result, output.id, len(output.bands), count)
            for band, array in zip(output.bands, arrays, strict=True):
                values[output.id, band] = _typed(array, output.sample_type)
                valid[output.id, band] = masks[self._mask_of(output.id, band)] & np.isfinite(array)
        return Evaluated(values, valid)

    def _mask_of(self, output: str, band: str) -> int:
        return next((place for place, name in enumerate(self.masks) if name in {output, band}), 0)


@dataclass(frozen=True)
class Evaluated:
    """Values by output and band, in the output's type, and masks of the valid ones."""

    values: dict[tuple[str, str], NDArray[Any]]
    valid: dict[tuple[str, str], NDArray[np.bool_]]


@lru_cache(maxsize=64)
def read_script(text: str, known_bands: tuple[str, ...]) -> Evalscript:
    """Parse an evalscript for a collection with these bands."""
    if len(text) > _LONGEST:
        raise ScriptError("the evalscript is too long")
    if not text.lstrip().startswith("//VERSION=3"):
        raise ScriptError("the evalscript must begin with //VERSION=3")
    try:
        run = ScriptRun(text)
        for function in ("setup", "evaluatePixel"):
            if function not in run.functions:
                raise ScriptError(f"the function {function} is missing")
        document = run.call("setup", [])
        bands = _input(_member(document, "input"), known_bands)
        outputs = _outputs(_member(document, "output"))
    except ScriptFault as fault:
        raise ScriptError(str(fault)) from fault
    except RecursionError as error:
        raise ScriptError("the evalscript is nested too deeply") from error
    mosaicking = document.get("mosaicking", "SIMPLE")
    if mosaicking != "SIMPLE":
        raise ScriptError(f"mosaicking {mosaicking} is not supported")
    mask = next((output for output in outputs if output.id == DATA_MASK), None)
    if mask is None:
        raise ScriptError(f"an output with the id {DATA_MASK} is required")
    rest = tuple(output for output in outputs if output.id != DATA_MASK)
    return Evalscript(run, bands, rest, mask.bands)


def _member(document: Any, name: str) -> Any:
    if not isinstance(document, dict) or name not in document:
        raise ScriptError(f"setup must return an object with {name}")
    return document[name]


def _input(given: Any, known: Collection[str]) -> tuple[str, ...]:
    """Return the input bands of a script, given as names, or as objects with `bands`."""
    found: list[str] = []
    for member in given if isinstance(given, list) else [given]:
        named = member.get("bands") if isinstance(member, dict) else [member]
        if not isinstance(named, list) or not all(isinstance(band, str) for band in named):
            raise ScriptError("input must be band names, or objects with bands")
        if isinstance(member, dict) and not _units_known(member.get("units", "DN")):
            raise ScriptError(f"units {member['units']} are not supported")
        found += named
    for band in found:
        if band not in known:
            raise ScriptError(f"Dataset with id: 1 has no band {band}. Available are {', '.join(known)}.")
    if not found:
        raise ScriptError("input names no band")
    return tuple(dict.fromkeys(found))


def _units_known(units: Any) -> bool:
    return set(units if isinstance(units, list) else [units]) <= {"DN"}


def _outputs(given: Any) -> tuple[ScriptOutput, ...]:
    found = tuple(map(_output, given if isinstance(given, list) else [given]))
    names = [output.id for output in found]
    if len(set(names)) < len(names):
        raise ScriptError("two outputs have the same id")
    return found


def _output(given: Any) -> ScriptOutput:
    if not isinstance(given, dict):
        raise ScriptError("output must be an object or a list of objects")
    bands = given.get("bands")
    if isinstance(bands, float) and bands > _MOST_BANDS:
        raise ScriptError(f"an output has at most {_MOST_BANDS} bands")
    if isinstance(bands, float) and bands.is_integer() and bands > 0:
        names = tuple(f"B{place}" for place in range(int(bands)))
    elif isinstance(bands, list) and bands and all(isinstance(name, str) for name in bands):
        names = tuple(bands)
    else:
        raise ScriptError("bands of an output must be a number or a list of names")
    sample_type = given.get("sampleType", "FLOAT32")
    if sample_type not in _TYPES:
        raise ScriptError(f"sampleType {sample_type} is not supported")
    return ScriptOutput(str(given.get("id", "default")), names, str(sample_type))


def _arrays(result: dict[str, Any], output: str, bands: int, count: int) -> list[NDArray[np.float64]]:
    """Return the bands of an output, each as an array with one value per pixel."""
    given = result.get(output)
    values = given if isinstance(given, list) else [given]
    if given is None or len(values) != bands:
        raise ScriptFault(f"output {output} must be returned with {bands} values")
    return [np.broadcast_to(np.asarray(number(value), np.float64), (count,)) for value in values]


def _typed(values: NDArray[np.float64], sample_type: str) -> NDArray[Any]:
    """Convert values to the type of an output; integers are rounded and limited to their range."""
    kind = _TYPES[sample_type]
    if not issubclass(kind, np.integer):
        with np.errstate(over="ignore"):
            return values.astype(kind)
    limits = np.iinfo(kind)
    whole = np.clip(np.rint(np.nan_to_num(values, nan=0.0)), limits.min, limits.max)
    return whole.astype(kind)
