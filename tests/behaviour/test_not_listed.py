"""A refresh says how many known items the source did not list this time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.items import feature
from tests.serving import serving_files

COMMAND = Path(sys.executable).with_name("stacpull")
KEPT = "unlisted 2 items of earlier runs, kept here; --prune shows which are gone at the source"


def test_items_that_are_not_listed_any_more_are_counted_and_kept(tmp_path: Path) -> None:
    site, dest = tmp_path / "site", tmp_path / "m"
    site.mkdir()
    (site / "a.bin").write_text("12345")

    def refreshed(names: str, *options: str) -> tuple[str, int]:
        items = [feature(name, {"a": "./a.bin"}) for name in names]
        (site / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        ran = subprocess.run(
            [COMMAND, "mirror", f"{url}/items.json", dest, "--json", *options],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return ran.stderr, json.loads(ran.stdout.splitlines()[-1])["items_not_listed"]

    with serving_files(site) as url:
        assert refreshed("abc")[1] == 0
        said, number = refreshed("a")
        assert (number, KEPT in said) == (2, True), said
        assert refreshed("a")[1] == 2  # until they are pruned or come back
        assert refreshed("a", "--max-items", "1")[1] == 0  # such a walk does not show it
        assert refreshed("a", "--ids", "a")[1] == 0  # nor does one with another selection
        assert refreshed("abc")[1] == 0
    assert len(list(dest.rglob("*.bin"))) == 3
