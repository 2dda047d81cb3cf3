"""A table on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_LOOKED_AT = 200
"""Lines that are held to find the widths."""
_WIDEST = 60
"""Characters of a cell that count for the width of its column."""


class TextTable:
    """Lines of cells, printed one below the other. A line may have fewer cells; its last one has no width."""

    def __init__(self, titles: Sequence[str], write: Callable[[str], None]) -> None:
        self._titles = tuple(titles)
        self._write = write
        self._held: list[tuple[str, ...]] = [self._titles]
        self._widths: list[int] = []

    def add(self, cells: Sequence[str]) -> None:
        """Print a line, or hold it until enough of them are there."""
        if self._widths:
            self._print(cells)
            return
        self._held.append(tuple(cells))
        if len(self._held) > _LOOKED_AT:
            self.close()

    def close(self) -> None:
        """Print the lines that are held."""
        if len(self._held) <= 1:
            return
        self._widths = [self._width(index) for index in range(len(self._titles))]
        held, self._held = self._held, []
        for line in held:
            self._print(line)

    def _width(self, index: int) -> int:
        """Return the width of a column: that of its cells, where they are not the last of their line."""
        cells = (line[index] for line in self._held if index < len(line) - 1)
        return max((min(len(cell), _WIDEST) for cell in cells), default=0)

    def _print(self, cells: Sequence[str]) -> None:
        *padded, last = cells
        columns = [cell.ljust(width) for cell, width in zip(padded, self._widths, strict=False)]
        self._write("  ".join([*columns, last]).rstrip())
