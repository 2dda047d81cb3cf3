"""In all tests of the ledger, states change only as the tables in `ledger/transitions.py` say."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest

from stacpull.ledger import transitions
from stacpull.ledger.schema import AssetState, JsonState

ROWS = re.findall(r"\| ([\w, ]+) \| ([\w, ]+) \| `(\w+)` \|", str(transitions.__doc__))
DOCUMENTED = {
    (function, *change)
    for *cells, function in ROWS
    for change in product(*(cell.split(", ") for cell in cells))
}
NAMES = {state: name for name, state in vars(AssetState).items() if name.isupper()}
NAMES |= {state + 10: name for name, state in vars(JsonState).items() if name.isupper()}


def states(db: sqlite3.Connection) -> dict[int, str]:  # of items by negative rowids
    rows = db.execute("SELECT id, state FROM assets UNION ALL SELECT -id, json_state + 10 FROM items")
    return {row: NAMES[state] for row, state in rows}


def checked(function: Callable[..., Any], db: sqlite3.Connection, *args: Any, **kwargs: Any) -> Any:
    before = states(db)
    result = function(db, *args, **kwargs)
    after = states(db)
    for row in before.keys() | after.keys():
        name, old, new = function.__name__, before.get(row, "none"), after.get(row, "none")
        assert old == new or DOCUMENTED & {(name, old, new), (name, "any", new)}, (name, old, new)
    return result


@pytest.fixture(autouse=True, scope="module")
def all_changes_are_documented() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in {function for *_, function in ROWS}:
            patch.setattr(transitions, name, partial(checked, getattr(transitions, name)))
        yield
