"""Parts that are held in memory on their way to a bucket."""

from __future__ import annotations

from pathlib import Path

from stacpull.store.buffered_parts import BufferedParts


def test_a_part_is_a_copy_of_what_it_was_written_from(tmp_path: Path) -> None:
    """The buffer that a body came in is used again."""
    parts = BufferedParts(tmp_path, in_memory=True)
    buffer = bytearray(b"first")
    parts.write_part("1.0.5.whole", memoryview(buffer))
    buffer[:] = b"other"
    with parts.open_part("1.0.5.whole") as part:
        assert part.read() == b"first"
    parts.close()
