"""The behaviour that all `Store` classes share. A subclass has a fixture `reopen`, which opens its store."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat

import pytest

from stacpull.models import AssetFile, Failure, FailureKind, Placement
from stacpull.store import inspection
from stacpull.store.inspection import FileEntry, FileState
from stacpull.store.protocol import Store
from stacpull_cloud import bucket_store

Reopen = Callable[[], Store]


def put(store: Store, path: str, data: bytes, *, replace: bool = False) -> Failure | None:
    directory, _, name = path.rpartition("/")
    store.staged.write_part("1.0.1.whole", data)
    store.sync(["1.0.1.whole"])
    return store.place([Placement("1.0.1.whole", directory, name, None, may_replace=replace)])[0]


def paths(store: Store, *skipped: str) -> list[str]:
    own = frozenset({".stacpull", *skipped})
    return sorted(entry.path for entries in store.walk(own) for entry in entries)


class StoreContract:
    has_directories = True
    """False where names with `/` are only names."""

    @pytest.fixture
    def reopen(self) -> Reopen:
        raise NotImplementedError

    @pytest.fixture
    def store(self, reopen: Reopen) -> Iterator[Store]:
        store = reopen()
        yield store
        store.close()

    def test_a_look_that_is_stopped_has_the_whole_size_and_no_digest(self, store: Store) -> None:
        """Otherwise a whole file would look like a truncated one."""
        size = 9 << 20  # longer than parts in memory
        put(store, "c/long", bytes(size))
        store.staged.write_part("1.0.2.whole", bytes(size))
        for state_of, name in ((store.state_of, "c/long"), (store.staged.state_of, "1.0.2.whole")):
            answers = chain([False, False], repeat(True))
            assert state_of(name, algorithm="sha1", is_stopped=partial(next, answers)) == FileState(size)

    # --- publishing --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", ["a.tif", "c/a.tif", "c/i/ä b+%.tif", "c/i/deep/er/a"])
    def test_a_part_is_placed_and_read_back(self, store: Store, reopen: Reopen, path: str) -> None:
        directory, _, name = path.rpartition("/")
        identity = store.staged.write_part("1.0.3.whole", b"abc")
        assert not store.has(path)
        store.sync(["1.0.3.whole"])
        assert store.place([Placement("1.0.3.whole", directory, name, None, may_replace=False)])[0] is None
        store.sync(())
        for one in (store, reopen()):
            assert one.has(path)
            assert one.read(path) == b"abc"
            assert one.find(path) == (identity, 3)
            assert one.state_of(path, algorithm=None)._replace(modified=None) == FileState(3)
            assert one.state_of(path) == FileState(3, hashlib.sha256(b"abc").digest())
            assert one.staged.list_parts() == []
            assert paths(one) == [path]

    def test_an_existing_file_is_kept_unless_it_may_be_replaced(self, store: Store) -> None:
        assert put(store, "c/a", b"first") is None
        failure = put(store, "c/a", b"second")
        assert failure is not None
        assert failure.kind is FailureKind.EXISTS
        assert failure.message.startswith("c/a exists and is not part of this mirror")
        assert store.read("c/a") == b"first"
        assert store.staged.list_parts() == ["1.0.1.whole"]
        assert put(store, "c/a", b"third", replace=True) is None
        assert store.read("c/a") == b"third"

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\0b"])
    def test_an_invalid_name_is_a_failure(self, store: Store, name: str) -> None:
        store.staged.write_part("1", b"new")
        for directory, last in (("c", name), (f"c/{name}/d", "a")):
            if name == "a/b" and last == "a":
                continue  # two directories
            failure = store.place([Placement("1", directory, last, None, may_replace=True)])[0]
            assert failure is not None
            assert failure.kind is FailureKind.NAME
        assert paths(store) == []
        assert store.staged.list_parts() == ["1"]

    def test_a_file_is_not_a_directory_and_no_directory_is_replaced(self, store: Store) -> None:
        if not self.has_directories:
            pytest.skip("it has no directories")
        put(store, "c/a", b"x")
        under = put(store, "c/a/b", b"y", replace=True)
        over = put(store, "c", b"y", replace=True)
        assert under is not None
        assert under.kind is FailureKind.NAME
        assert over is not None
        assert over.kind is FailureKind.EXISTS
        assert paths(store) == ["c/a"]

    def test_several_parts_are_placed_at_once(self, store: Store) -> None:
        put(store, "c/1", b"foreign")
        for number in range(40):
            store.staged.write_part(f"{number}", b"%d" % number)
        failures = store.place(
            [Placement(f"{number}", "c", f"{number}", None, may_replace=False) for number in range(40)]
        )
        assert [number for number, one in enumerate(failures) if one is not None] == [1]
        assert [store.read(f"c/{number}") for number in (0, 1, 39)] == [b"0", b"foreign", b"39"]
        assert store.staged.list_parts() == ["1"]

    def test_removed_files_are_gone_with_their_empty_directories(self, store: Store) -> None:
        for path in ("c/i/a", "c/j/a"):
            put(store, path, b"x")
        for _ in range(2):
            store.remove("c/i/a")
        store.sync(())
        assert paths(store) == ["c/j/a"]
        assert store.find("c/i/a") is None
        store.remove("never/there")

    # --- reading -----------------------------------------------------------------------------------------

    def test_an_empty_store_has_no_files(self, store: Store) -> None:
        assert not store.has("c/a")
        assert store.read("c/a") is None
        assert store.find("c/a") is None
        assert store.state_of("c/a") == FileState()
        with pytest.raises(OSError):
            store.open("c/a")

    def test_a_file_that_is_too_long_for_a_document_is_not_read(self, store, monkeypatch):
        for module in (inspection, bucket_store):
            monkeypatch.setattr(module, "MAX_DOCUMENT_SIZE", 1000)
        put(store, "c/long", bytes(1001))
        assert store.read("c/long") is None
        put(store, "c/long", bytes(1000), replace=True)
        assert store.read("c/long") == bytes(1000)

    def test_a_directory_is_not_a_file(self, store: Store) -> None:
        put(store, "c/a", b"x")
        assert store.has("c") == self.has_directories
        assert store.read("c") is None
        assert store.find("c") is None
        expected = FileState(obstacle="a directory") if self.has_directories else FileState()
        assert store.state_of("c") == expected
        expected = FileState(obstacle="a file at c/a") if self.has_directories else FileState()
        assert store.state_of("c/a/b") == expected

    def test_a_file_is_opened_and_hashed_by_any_algorithm(self, store: Store) -> None:
        data = bytes(range(256)) * 10_000
        put(store, "c/a", data)
        with store.open("c/a") as file:
            file.seek(1000)
            assert file.read(3) == data[1000:1003]
        look = store.state_of("c/a", algorithm="crc32")
        assert look == FileState(len(data), zlib.crc32(data).to_bytes(4, "big"))
        assert store.state_of("c/a", is_stopped=lambda: True).digest is None
        modified = store.state_of("c/a", algorithm=None).modified
        assert modified is not None
        assert modified > 1_700_000_000

    def test_directories_are_listed(self, store: Store) -> None:
        for path in ("a", "c/i/a", "c/i/b", "c/x", "d/a"):
            put(store, path, b"x")
        assert paths(store, "d") == ["a", "c/i/a", "c/i/b", "c/x"]
        assert all(entry.is_file for entries in store.walk(frozenset({".stacpull"})) for entry in entries)
        assert FileEntry("c/x", is_file=True) in [e for entries in store.walk(frozenset()) for e in entries]

    # --- parts -------------------------------------------------------------------------------------------

    def test_parts_are_written_renamed_and_dropped(self, store: Store) -> None:
        store.staged.write_part("2", b"long and old")
        second = store.staged.write_part("2", b"new")
        first = store.staged.write_part("1", b"")
        assert store.staged.list_parts() == ["1", "2"]
        assert store.staged.part_identity_and_size("1") == (first, 0)
        assert store.staged.part_identity_and_size("2") == (second, 3)
        assert store.staged.part_identity_and_size("3") is None
        assert store.staged.state_of("2") == FileState(3, hashlib.sha256(b"new").digest())
        with store.staged.open("2") as file:
            assert file.read() == b"new"
        with pytest.raises(OSError):
            store.staged.open("3")
        for _ in range(2):
            store.staged.remove_part("2")
        assert store.staged.list_parts() == ["1"]
        assert store.staged.name.endswith(".stacpull/parts")

    def test_a_part_can_be_made_from_a_file(self, store: Store) -> None:
        put(store, "c/a", b"abc")
        store.staged.write_part("1.0.part", b"left by a kill")
        wanted = AssetFile(1, 1, 0, "c", "b", 3)
        assert store.staged.link_part(wanted, store, "c/a") is wanted
        assert store.staged.list_parts() == [wanted.part] == ["1.0.3;;.whole"]
        assert store.staged.state_of(wanted.part).digest == hashlib.sha256(b"abc").digest()
        store.staged.remove_part(wanted.part)
        assert store.read("c/a") == b"abc"
        for path in ("c", "c/b"):
            with pytest.raises(OSError):
                store.staged.link_part(wanted, store, path)
        assert store.staged.link_part(wanted, store, "c/a", identity=1) is None
        assert store.staged.link_part(AssetFile(1, 1, 0, "c", "b", 4), store, "c/a") is None
        assert store.staged.list_parts() == []

    # --- trust -------------------------------------------------------------------------------------------

    def test_trust_is_kept_until_it_is_withdrawn(self, store: Store, reopen: Reopen) -> None:
        assert store.staged.read_boot_mark() is None
        store.staged.write_boot_mark("this boot")
        store.staged.write_boot_mark("that boot")
        assert (store.staged.read_boot_mark(), reopen().staged.read_boot_mark()) == ("that boot", "that boot")
        for _ in range(2):
            store.staged.remove_boot_mark()
        assert (store.staged.read_boot_mark(), reopen().staged.read_boot_mark()) == (None, None)
        assert store.staged.list_parts() == []
