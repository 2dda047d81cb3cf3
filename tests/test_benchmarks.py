import shutil
from pathlib import Path

import pytest
from scripts.benchmarks.checking import WrongTreeError, check
from scripts.benchmarks.mixes import BUCKET, File, write_files

FILES = [*(File("a", name, f"a_{name}.tif", 5000) for name in ("one", "two")), File("b", "x", "b.json", 0)]
ONE, TWO, EMPTY = (file.path for file in FILES)
SWAPPED = ((ONE, "kept"), (TWO, ONE), ("kept", TWO))
HARM = {
    f"{ONE} is missing": lambda dest: (dest / ONE).unlink(),
    f"{EMPTY} is missing": lambda dest: (dest / EMPTY).unlink(),
    f"{ONE} is of 5 bytes, not 5000": lambda dest: (dest / ONE).write_bytes(b"short"),
    f"{TWO} is altered": lambda dest: (dest / TWO).write_bytes(bytes(5000)),
    f"{ONE} is altered, {TWO} is altered": lambda dest: [(dest / a).rename(dest / b) for a, b in SWAPPED],
    f"{EMPTY} is of 1 bytes, not 0": lambda dest: (dest / EMPTY).write_bytes(b"x"),
    "a/x.part is not of the manifest": lambda dest: (dest / "a" / "x.part").write_bytes(b"x"),
    f"{ONE} is missing, {TWO} is missing, {EMPTY} is missing": shutil.rmtree,
}


@pytest.mark.parametrize("complaint", HARM)
def test_the_check_of_a_benchmark_detects_any_difference_from_the_origin(tmp_path: Path, complaint: str):
    root, dest = tmp_path / "root", tmp_path / "dest"
    write_files(root, FILES)
    shutil.copytree(root / BUCKET, dest)
    (dest / "state.tool").write_text("its own, which is ignored")
    check(root, FILES, dest, lambda file: file.path, ["*.tool"])
    HARM[complaint](dest)
    with pytest.raises(WrongTreeError, match=f"the tree is wrong: {complaint}$"):
        check(root, FILES, dest, lambda file: file.path, ["*.tool"])
