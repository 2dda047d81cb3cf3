"""The evalscripts, which define what the service computes for each pixel.

They have three outputs: `default`, the index as FLOAT32; `scenes`, the value of the scene mask as INT16; and
`dataMask`, 1 where there are data and the cloud mask is clear. Bands hold surface reflectance times 10,000.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from stacpull.errors import UsageError

DEFAULT, SCENES = "default", "scenes"
"""Output ids."""
EDGES: Final = tuple(range(602))
"""Edges of the histogram of scenes, 0 to 601: one bin for each value up to 600; the last one includes 601.

They are integers, because the service accepts no others for an integer output.
"""

_TEMPLATE: Final = """//VERSION=3
function setup() {{
    return {{
        input: [{{ bands: [{bands}] }}],
        output: [
            {{ id: "default", bands: 1, sampleType: "FLOAT32" }},
            {{ id: "scenes", bands: 1, sampleType: "INT16" }},
            {{ id: "dataMask", bands: 1 }}
        ]
    }};
}}

function evaluatePixel(sample) {{
    var clear = 0;
    if (sample.cloud_mask == 1) {{
        clear = 1;
    }}
{body}
    return {{
        default: [value],
        scenes: [sample.scene_mask],
        dataMask: [sample.dataMask * clear]
    }};
}}
"""
_REFLECTANCE: Final = {band: f"sample.{band} / 10000" for band in ("blue", "green", "red", "nir")}
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INPUT: Final = re.compile(r"""\binput["']?\s*:\s*\[((?:[^\[\]]|\[[^\[\]]*\])*)\]""")
_BANDS: Final = re.compile(r"""\bbands["']?\s*:\s*(?:\[([^\[\]]*)\])?""")
_WORD: Final = re.compile(r"""["']([A-Za-z0-9_]+)["']""")
_OUTPUT: Final = re.compile(r"""\{[^{}]*\bid["']?\s*:\s*["'](\w+)["'][^{}]*\}""")
_SAMPLE_TYPE: Final = re.compile(r"""\bsampleType["']?\s*:\s*["'](\w+)["']""")
_OF_SCENES: Final = frozenset({"INT16", "UINT16"})
"""Types that hold every index, and of which the service makes a histogram with whole numbers."""


class Index(msgspec.Struct, frozen=True):
    name: str
    evalscript: str
    bands: int | None
    """Input bands that the service counts: all but `dataMask`. None if a script does not list them."""
    formula: str
    """Formula and its source, for display."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.evalscript.encode()).hexdigest()[:16]


def _normalized(first: str, second: str) -> str:
    return f"    var value = (sample.{first} - sample.{second}) / (sample.{first} + sample.{second});"


def _reflectances(*bands: str) -> str:
    return "\n".join(f"    var {band} = {_REFLECTANCE[band]};" for band in bands)


def _index(name: str, bands: tuple[str, ...], body: str, formula: str) -> Index:
    inputs = (*bands, "cloud_mask", "scene_mask", "dataMask")
    names = ", ".join(f'"{band}"' for band in inputs)
    return Index(name, _TEMPLATE.format(bands=names, body=body), len(inputs) - 1, formula)


INDICES: Final = {
    index.name: index
    for index in (
        _index(
            "ndwi",
            ("green", "nir"),
            _normalized("green", "nir"),
            "(green - nir) / (green + nir), McFeeters 1996",
        ),
        _index(
            "ndvi", ("red", "nir"), _normalized("nir", "red"), "(nir - red) / (nir + red), Rouse et al. 1974"
        ),
        _index(
            "gndvi",
            ("green", "nir"),
            _normalized("nir", "green"),
            "(nir - green) / (nir + green), Gitelson et al. 1996",
        ),
        _index(
            "evi",
            ("blue", "red", "nir"),
            _reflectances("blue", "red", "nir")
            + "\n    var value = 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1);",
            "2.5 (nir - red) / (nir + 6 red - 7.5 blue + 1), Huete et al. 2002",
        ),
        _index(
            "savi",
            ("red", "nir"),
            _reflectances("red", "nir") + "\n    var value = 1.5 * (nir - red) / (nir + red + 0.5);",
            "1.5 (nir - red) / (nir + red + 0.5), Huete 1988",
        ),
    )
}
"""The indices by name."""


def index_of_name(name: str) -> Index:
    """Return one of `INDICES`; case does not matter."""
    try:
        return INDICES[name.lower()]
    except KeyError:
        known = ", ".join(INDICES)
        text = f"--index {name!r} is not known: use one of {known}, or write an --evalscript."
        raise UsageError(text) from None


def index_of_script(text: str, name: str) -> Index:
    bare = _COMMENT.sub(" ", text)
    types = {match[1]: _SAMPLE_TYPE.search(match[0]) for match in _OUTPUT.finditer(bare)}
    missing = [wanted for wanted in (DEFAULT, SCENES, "dataMask") if wanted not in types]
    if missing:
        raise UsageError(
            f"--evalscript: setup() has no output with the id {' or '.join(missing)}; "
            "it needs default (the index), scenes (the band scene_mask) and dataMask."
        )
    scenes = types[SCENES]
    if scenes is None or scenes[1] not in _OF_SCENES:
        raise UsageError('--evalscript: the output scenes needs sampleType: "INT16".')
    return Index(name, text, _count_inputs(bare), "as the evalscript computes it")


def _count_inputs(script: str) -> int | None:
    """Count the bands in `input: ["red", ...]` or `input: [{bands: ["red", ...]}]`."""
    found = _INPUT.search(script)
    listed = found[1] if found else ""
    lists = _BANDS.findall(listed) or [listed]
    names = [name.strip() for name in ",".join(lists).split(",") if name.strip()]
    bands = {match and match[1] for match in map(_WORD.fullmatch, names)}
    return len(bands - {"dataMask"}) if all(lists) and None not in bands else None
