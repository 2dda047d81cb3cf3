"""Bodies of statistics requests and their evalscripts."""

from typing import Any

UTM = "http://www.opengis.net/def/crs/EPSG/0/32610"
PRINTED_BOX, PRINTED_SIZE = [-122.44, 37.75, -122.42293, 37.76989], (497, 739)
NOVEMBER = ("2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z")


def script(
    bands: str, body: str, outputs: str = '{id: "default", bands: 1}, {id: "dataMask", bands: 1}'
) -> str:
    return f"""//VERSION=3
    function setup() {{ return {{input: [{{bands: [{bands}]}}], output: [{outputs}]}} }}
    function evaluatePixel(sample) {{ {body} }}"""


NDVI = script(
    '"red", "nir", "cloud_mask", "scene_mask", "dataMask"',
    """
    let ndvi = (sample.nir - sample.red) / (sample.nir + sample.red)
    if (sample.cloud_mask !== 1) return {ndvi: [0], scenes: [0], dataMask: [0]}
    return {ndvi: [ndvi], scenes: [sample.scene_mask], dataMask: [sample.dataMask]}""",
    '{id: "ndvi", bands: 1}, {id: "scenes", bands: 1, sampleType: "INT16"}, {id: "dataMask", bands: 1}',
)


def request(
    collection: str,
    evalscript: str,
    *,
    bounds: dict[str, Any] | None = None,
    size: tuple[int, int] = PRINTED_SIZE,
    resolution: float | None = None,
    period: tuple[str, str] = NOVEMBER,
    calculations: dict[str, Any] | None = None,
) -> dict[str, Any]:
    aggregation: dict[str, Any] = {
        "evalscript": evalscript,
        "timeRange": {"from": period[0], "to": period[1]},
        "aggregationInterval": {"of": "P1D"},
    }
    if resolution is not None:
        aggregation |= {"resx": resolution, "resy": resolution}
    else:
        aggregation |= {"width": size[0], "height": size[1]}
    return {
        "input": {"bounds": bounds or {"bbox": PRINTED_BOX}, "data": [{"type": f"byoc-{collection}"}]},
        "aggregation": aggregation,
        "calculations": calculations or {},
    }
