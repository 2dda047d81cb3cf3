"""The removal of files that the mirror has forgotten: after their rows, and before the list of them.

Only regular files are removed, under names that were the mirror's own; a kill in between leaves the list, and
the next start continues with it.
"""

from __future__ import annotations

from collections.abc import Callable

from stacpull.ledger import pruning
from stacpull.ledger.database import Connection
from stacpull.store.protocol import Store


def remove_listed(db: Connection, store: Store, sync: Callable[[], None]) -> None:
    """Remove the files of the list (`ledger.pruning`), and directories that are empty then.

    Args:
        db: the ledger.
        store: The mirror.
        sync: makes durable what was committed and removed so far.
    """
    paths = pruning.listed(db)
    if not paths:
        return
    sync()  # the rows are gone for good before a file is
    for path in paths:
        directory, _, name = path.rpartition("/")
        if store.identity(directory, name) is not None:
            store.remove(directory, name)
        store.tidy(directory)
    sync()
    pruning.clear(db, paths)
