"""What a lost worker had written and not told of: whole parts are taken, the rest is to be fetched again."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stacpull.engine.recovery import has_size, taken_up
from stacpull.models import Job
from stacpull.store.destination import Destination
from stacpull.store.inspection import look_at
from stacpull.store.wholes import parse_whole
from stacpull.store.writer import Arrived

__all__ = ["wholes_of"]


def wholes_of(destination: Destination, jobs: Mapping[int, Job], *, checksum: str | None) -> list[Arrived]:
    """Return the whole parts of `jobs`, by row, when the process that had them is gone.

    A part is whole if it has the size in its name: only the process died, not the machine, so what it wrote
    is there. Those that broke off are removed.

    Args:
        destination: the mirror.
        jobs: what the process had not told of.
        checksum: algorithm of the digest that each is read for, as it went with the process; None: none.

    Raises:
        DestinationError: a part cannot be removed.
    """
    found = []
    for entry in list(os.scandir(destination.parts)):
        name = parse_whole(entry.name)
        job = None if name is None else jobs.get(name.row)
        if name is None or job is None or name.generation != job.generation:
            continue
        if not has_size(entry, name.size) or (job.name is None and name.filename is None):
            destination.drop_part(entry.name)
        else:
            sha256 = None
            if checksum is not None:
                look = look_at(destination.parts_fd, entry.name, hashed=True, algorithm=checksum)
                sha256 = look.sha256
            found.append(taken_up(job, name, entry, sha256))
    return found
