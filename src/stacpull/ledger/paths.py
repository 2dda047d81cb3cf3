"""Which asset owns which path in DEST, and which directories are free.

Two assets never have the same folded path, because names that differ only in case or Unicode form may be one
file. The second asset gets a hash in its name, or fails if the paths are equal.
"""

from collections.abc import Iterable, Sequence

from stacpull.ledger.database import IN_LIST, Connection, column, exists, json_array, scalar, write_rows
from stacpull.models import Asset, Failure, FailureKind, path_in_dest
from stacpull.planning.names import hashes_in, path_hash, safe_segment, with_salted_hash


def claim(db: Connection, assets: Sequence[tuple[int, str, str]]) -> dict[int, str | Failure]:
    """Make assets (rowid, directory, name) the owners of their paths, as far as these are free.

    Return, by rowid, the other name that an asset got, or its failure: then it has no name in the ledger.
    """
    hash_of = {directory: hashes_in(directory) for _, directory, _ in assets}
    claims = [(hash_of[directory](name), rowid) for rowid, directory, name in assets]
    hashes = json_array(hashed for hashed, _ in claims)
    directory_hashes = set()  # of items and collections: no asset may have their paths
    if any("/" not in directory for directory in hash_of):
        directory_hashes.update(column(db, f"SELECT hash FROM items WHERE hash {IN_LIST}", (hashes,)))
    if "" in hash_of:
        names = column(db, "SELECT name FROM collections")
        directory_hashes.update(path_hash(safe_segment(name)) for name in names)
    # in order, so that each page of the index is visited once: they do not all fit into the cache
    sorted_claims = sorted(claim for claim in claims if claim[0] not in directory_hashes)
    if write_rows(db, "INSERT OR IGNORE INTO paths(hash, asset) VALUES ?", sorted_claims) == len(claims):
        return {}
    owners = dict(db.execute(f"SELECT hash, asset FROM paths WHERE hash {IN_LIST}", (hashes,)))
    other_names = {}
    for (hashed, _), (rowid, directory, name) in zip(claims, assets, strict=True):
        if owners.get(hashed) == rowid:
            continue
        candidates = [with_salted_hash(name, path_in_dest(directory, name))]  # no directory has this salt
        if hashed not in directory_hashes:
            candidates.insert(0, name)
        db.execute("UPDATE assets SET name = NULL WHERE id = ?", (rowid,))
        other_names[rowid] = _claim_first(db, rowid, directory, candidates)
    return other_names


def _claim_first(db: Connection, rowid: int, directory: str, names: Sequence[str]) -> str | Failure:
    query = "SELECT a.path FROM paths p JOIN placed_assets a ON a.id = p.asset WHERE p.hash = ?"
    for name in names:
        path = path_in_dest(directory, name)
        owner = db.execute(query, (path_hash(path),)).fetchone()
        if owner is None:
            db.execute("INSERT INTO paths(hash, asset) VALUES (?, ?)", (path_hash(path), rowid))
            db.execute("UPDATE assets SET name = ? WHERE id = ?", (name, rowid))
            return name
        if owner[0] == path:
            break
    remedy = "run `mirror` with a --layout that keeps them apart, then `retry`"
    return Failure(kind=FailureKind.NAME, message=f"Another asset is stored as {path}: {remedy}.")


def add_directory(db: Connection, path: str, assets: Iterable[Asset]) -> tuple[int, str]:
    """Return the row of a directory, and its path, which gets a hash if a file or one of `assets` has it."""
    rowid = scalar(db, "SELECT max(id) FROM directories WHERE path = ?", (path_in_dest(path, ""),))
    if rowid > 0:
        return rowid, path
    new_files = {path_in_dest(asset.directory, asset.name) for asset in assets if asset.name}
    parent = ""
    for name in filter(None, path.split("/")):
        directory = path_in_dest(parent, name)
        is_file = exists(db, "SELECT 1 FROM paths WHERE hash = ?", (path_hash(directory),))
        if is_file or directory in new_files:
            directory = path_in_dest(parent, with_salted_hash(name, parent))
        parent = directory
    add = "INSERT INTO directories(path) VALUES (?) ON CONFLICT DO UPDATE SET path = path RETURNING id"
    return scalar(db, add, (path_in_dest(parent, ""),)), parent


def owned_hash(db: Connection, rowid: int) -> int | None:
    """Return the key of an asset's path in the table `paths`; None if it owns none."""
    (path,) = db.execute("SELECT path FROM placed_assets WHERE id = ?", (rowid,)).fetchone()
    return None if path is None else path_hash(path)
