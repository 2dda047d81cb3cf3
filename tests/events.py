"""The events of a run."""

from __future__ import annotations

from collections.abc import Iterable

from stacpull import Notice


def warnings(events: Iterable[object]) -> list[str]:
    return [one.text for one in events if isinstance(one, Notice) and one.level == "warning"]
