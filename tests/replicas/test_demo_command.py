from pathlib import Path

from stacpull_replicas.demo_command import tree


def test_the_printed_tree_is_short_and_omits_the_state_directory(tmp_path: Path) -> None:
    for name in ("b/1", "b/2", "b/3", "b/4", "a/1", ".stacpull/ledger", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 1234)
    assert list(tree(tmp_path))[1:] == [
        "  a/",
        "    1  1,234 B",
        "  b/",
        "    1  1,234 B",
        "    2  1,234 B",
        "    ... and 2 more",
        "  z  1,234 B",
    ]
