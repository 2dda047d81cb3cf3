"""A refresh says how many known items the source did not list this time."""

import json
from pathlib import Path

from tests.acceptance.command import environment, run
from tests.items import feature
from tests.serving import serving_files

KEPT = "unlisted 2 items of earlier runs, kept; --prune=remove removes only those that are gone"


def test_items_that_are_not_listed_any_more_are_counted_and_kept(tmp_path: Path) -> None:
    site, dest = tmp_path / "site", tmp_path / "m"
    site.mkdir()
    (site / "a.bin").write_text("12345")

    def refreshed(names: str, *options: str) -> tuple[str, int]:
        items = [feature(name, {"a": "./a.bin"}) for name in names]
        (site / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        ran = run(["mirror", f"{url}/items.json", str(dest), "--json", *options], environment())
        assert ran.code == 0, ran.err
        return ran.err, ran.report["items_not_listed"]

    with serving_files(site) as url:
        assert refreshed("abc")[1] == 0
        said, number = refreshed("a")
        assert (number, KEPT in said, "others" in said) == (2, True, False), said
        assert refreshed("a")[1] == 2  # until they are pruned or come back
        assert refreshed("a", "--max-items", "1")[1] == 0  # such a walk does not show it
        said, number = refreshed("a", "--ids", "a")  # nor does one with another selection
        assert (number, "others   2 items that this run did not select: still in DEST" in said) == (0, True)
        assert refreshed("abc")[1] == 0
    assert len(list(dest.rglob("*.bin"))) == 3
