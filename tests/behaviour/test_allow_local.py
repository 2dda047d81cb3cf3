"""A catalog on disk may use assets elsewhere if the user allows their directory."""

from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest

from stacpull import Options, sync


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog of pystac with absolute hrefs, and imagery in a directory of its own."""
    (tmp_path / "imagery").mkdir()
    (tmp_path / "imagery" / "a.tif").write_bytes(b"pixels")
    item = pystac.Item("i", None, None, datetime(2020, 1, 1, tzinfo=UTC), {})
    item.add_asset("data", pystac.Asset(str(tmp_path / "imagery" / "a.tif")))
    catalog = pystac.Catalog("c", "A catalog.")
    catalog.add_item(item)
    catalog.normalize_and_save(str(tmp_path / "catalog"), pystac.CatalogType.ABSOLUTE_PUBLISHED)
    return tmp_path / "catalog" / "catalog.json"


@pytest.mark.parametrize("form", ["{}/imagery", "imagery", "{}/link", "~/imagery"])
def test_a_directory_that_is_allowed(tmp_path, catalog, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to("imagery")
    options = Options(allow_local=form.format(tmp_path))
    report = sync.mirror(catalog, tmp_path / "m", options=options)
    assert (report.assets_done, report.assets_failed) == (1, 0)
    (copy,) = (tmp_path / "m").rglob("*.tif")
    assert copy.read_bytes() == b"pixels"


@pytest.mark.parametrize("allowed", [(), ("elsewhere",)])
def test_another_directory_is_refused_and_the_option_named(tmp_path, catalog, allowed):
    options = Options(allow_local=tuple(str(tmp_path / one) for one in allowed))
    report = sync.mirror(catalog, tmp_path / "m", options=options)
    assert (report.assets_done, report.assets_failed) == (0, 1)
    (failure,) = sync.failures(tmp_path / "m")
    assert failure.kind == "scheme"
    assert "is not below the directory of SOURCE" in failure.message
    assert "--allow-local DIR" in failure.message
    options = Options(allow_local=str(tmp_path / "imagery"))
    assert sync.mirror(catalog, tmp_path / "m", options=options).assets_done == 1


def test_a_link_out_of_an_allowed_directory_is_refused(tmp_path: Path, catalog: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "imagery" / "a.tif").unlink()
    (tmp_path / "imagery" / "a.tif").symlink_to(tmp_path / "secret")
    report = sync.mirror(catalog, tmp_path / "m", options=Options(allow_local=str(tmp_path / "imagery")))
    assert report.assets_failed == 1
