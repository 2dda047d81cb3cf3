"""A mirror so small that it can be made hundreds of times: one patch (13 files) and one file of 2.5 MB.

It goes all the ways there are: small bodies, a part that comes in pieces, items, a label item, catalogs.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.command import COMMAND, Running, environment, mirror_of
from tests.acceptance.trees import Damage, damage, expected_files
from tests.ran import Ran

from stacpull_replicas import ExpectedFile, MlhubReplica, run_in_thread

LARGE = 2_500_000
HUNG = -1
"""The exit code of a command that was killed because it did not end."""
LARGE_KEY = "large_files/large_0000.bin"

SINGLE = (
    "import sys, stacpull.store.local_store as sync; sync.GROUP_SYNC.clear(); "
    "from stacpull.cli.entry import main; sys.argv[0] = 'stacpull'; main()"
)
"""The command on an unknown file system: files and directories are synced one by one."""


ONE_THREAD = (
    "import sys; from concurrent.futures import ThreadPoolExecutor as pool; "
    "pool.__init__.__defaults__ = (1, *pool.__init__.__defaults__[1:]); "
    "from stacpull.cli.entry import main; sys.argv[0] = 'stacpull'; main()"
)
"""The command with one thread for blocking calls: every run makes the same calls in the same threads."""


@dataclass(frozen=True)
class SmallMirror:
    """The replica that it is made of, and what it should be."""

    replica: MlhubReplica
    expected: Mapping[str, ExpectedFile]
    env: Mapping[str, str]
    single: bool = False
    """True to sync file by file."""
    one_thread: bool = False
    """True to do all that may block in one thread."""

    def run(self, dest: Path, *options: str, under: Sequence[str] = ()) -> Ran:
        """Create it at `dest`, or resume it, with the command under strace (`under`)."""
        given = ("-C", "large_files_v1", "--no-progress", *options)
        return self._run(mirror_of(self.replica.base_url, dest, *given), under)

    def verify(self, dest: Path, *options: str, under: Sequence[str] = ()) -> Ran:
        return self._run(["verify", str(dest), "--no-progress", *options], under)

    def _run(self, arguments: list[str], under: Sequence[str]) -> Ran:
        code = SINGLE if self.single else ONE_THREAD if self.one_thread else None
        program = COMMAND if code is None else sys.executable
        given = arguments if code is None else ["-c", code, *arguments]
        with Running(given, self.env, None, program, under=under) as running:
            try:
                return running.ended()
            except AssertionError:
                return Ran(HUNG, running.printed(), running.error_output())

    def damage(self, dest: Path) -> Damage:
        return damage(dest, self.expected)


@contextmanager
def small_mirror(*, single: bool = False, one_thread: bool = False) -> Iterator[SmallMirror]:
    """Start the replica for the length of the block."""
    with run_in_thread(MlhubReplica(items=1, seed=7, large_items=1, large_size=LARGE)) as replica:
        expected = expected_files(replica.dataset, range(1))
        content = replica.store.get("radiant-mlhub", LARGE_KEY).read(0, LARGE)
        large = ExpectedFile(
            collection="large_files_v1",
            item_id="large_files_v1_0000",
            asset="data",
            name="large_0000.bin",
            size=LARGE,
            md5="",
            sha256=hashlib.sha256(content).hexdigest(),
        )
        expected[f"bigearthnet/{large.item_id}/{large.name}"] = large
        yield SmallMirror(replica, expected, environment(replica), single, one_thread)
