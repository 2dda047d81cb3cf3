from __future__ import annotations

import pytest

from stacpull.config.options import Options, S3Options
from stacpull.engine.network import login_advice
from stacpull.redact import Secret
from stacpull_logins.logins import FilledProfile

PC = "https://planetarycomputer.microsoft.com/api/stac/v1/collections/naip"


@pytest.mark.parametrize(
    ("source", "options", "advised"),
    [
        (PC, Options(), "planetary-computer"),
        ("https://cmr.earthdata.nasa.gov/stac/LPCLOUD", Options(), "earthdata"),
        (PC, Options(filled_profile=FilledProfile("mine")), None),
        (PC, Options(headers={"X-Key": Secret("k")}), None),
        ("https://landsatlook.usgs.gov/stac-server", Options(), "usgs"),
        ("https://landsatlook.usgs.gov/stac-server", Options(s3=S3Options(request_payer=True)), None),
        ("https://stac.dataspace.copernicus.eu/v1", Options(s3=S3Options(profile="cdse")), None),
        ("https://earth-search.aws.element84.com/v1", Options(), None),
        ("https://planetarycomputer.microsoft.com.evil.example/", Options(), None),
        ("/data/catalog.json", Options(), None),
    ],
)
def test_a_source_whose_assets_need_a_login_gets_a_notice(source: str, options: Options, advised) -> None:
    advice = login_advice(source, options)
    assert (advice and advice.partition("--credentials ")[2].split()[0]) == advised
