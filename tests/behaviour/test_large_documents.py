"""The memory that a large document takes."""

import json
from pathlib import Path

from tests.items import feature
from tests.security.measured import command

_ITEMS = 6_000


def test_an_item_collection_takes_at_max_twice_its_size(tmp_path: Path) -> None:
    source = tmp_path / "items.json"
    properties = {"datetime": "2020-01-01T00:00:00Z", "text": "x" * 16_000, **{f"p{n}": n for n in range(40)}}
    with source.open("w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number in range(_ITEMS):
            file.write(("," if number else "") + json.dumps(feature(f"i{number}", properties=properties)))
        file.write("]}")
    found = command("plan", str(source), "--no-progress", cwd=tmp_path)
    assert found.code == 0, found.err
    assert found.peak < 2 * source.stat().st_size
