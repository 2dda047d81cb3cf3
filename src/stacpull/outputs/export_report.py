"""What an export reports."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class OnProgress(Protocol):
    """Called with the progress of an export."""

    def __call__(self, items: int, stage: str = ..., /) -> None:
        """Take the number of items so far, and what is done with them. Raises to stop the export."""
        ...


class ExportReport(NamedTuple):
    """The result of an export.

    Attributes:
        items: Items, or samples, that were written.
        files: Names of the files, relative to the directory of OUT.
        bytes: Their size together.
        notes: Sentences about data that the format could not store unchanged, and about items left out.
        left_out: Files that the format cannot reference (`kerchunk`).
    """

    items: int
    files: tuple[str, ...]
    bytes: int
    notes: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def exit_code(self) -> int:
        """0 all done, 1 files were left out."""
        return 1 if self.left_out else 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as `--json` prints it."""
        return {
            "items": self.items,
            "files": list(self.files),
            "bytes": self.bytes,
            "notes": list(self.notes),
            "left_out": self.left_out,
        }
