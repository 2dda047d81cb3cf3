"""Assets that came in, as they are sent."""

from __future__ import annotations

from stacpull.models import Arrival
from stacpull.store.complete_parts import complete_part_name


def part_name_of(arrival: Arrival) -> str:
    """Return the name of the complete part of an asset that came in."""
    etag, unproven = arrival.etag, arrival.unproven
    return complete_part_name(
        arrival.row, arrival.generation, arrival.size, etag, arrival.filename, unproven=unproven
    )
