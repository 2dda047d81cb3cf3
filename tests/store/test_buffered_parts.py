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


def test_a_body_is_copied_out_of_a_message_unless_it_is_nearly_all_of_it(tmp_path: Path) -> None:
    """A long body is not copied once more; a short one does not keep the others of its batch in memory."""
    parts = BufferedParts(tmp_path, in_memory=True)
    message = bytes(100) + b"x" * 100_000
    parts.write_part("1.0.100000.whole", memoryview(message)[100:])
    parts.write_part("2.0.100.whole", memoryview(message)[:100])
    long, short = [parts.part_without_file(name) for name in ("1.0.100000.whole", "2.0.100.whole")]
    assert long is not None
    assert isinstance(long.content, memoryview)
    assert long.content.obj is message
    assert short is not None
    assert isinstance(short.content, bytes)
    assert short.content == bytes(100)
    assert (long.weight, short.weight) == (100_000, 100)
    with parts.open_part("1.0.100000.whole") as part:
        assert part.read() == b"x" * 100_000
    assert parts.state_of_part("1.0.100000.whole").size == 100_000
    parts.close()
