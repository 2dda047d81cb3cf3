import re
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.planning.hostile import NAMES

from stacpull.planning.names import fold, path_hash, safe_segment, with_salted_hash

DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
ANY = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=300) | st.sampled_from(
    NAMES
)


def assert_safe(name):
    assert 1 <= len(name.encode("utf-8")) <= 255  # which fails for lone surrogates
    assert not set(name) & set('/\\:*?"<>|#;%+^`{}[] ')
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"} for char in name)
    assert name.strip(".").lstrip("-") == name
    assert fold(name) not in {".stacpull", "catalog.json", "collection.json", "items.ndjson", "items.parquet"}
    assert not DEVICE.fullmatch(name.partition(".")[0].rstrip(" "))


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("B01.tif", "B01.tif"),
        ("Größe😀.tif", "Größe😀.tif"),
        ("2025/04/02/S2A_quicklook.jpg", "2025~2F04~2F02~2FS2A_quicklook.jpg"),
        ("%2F", "~252F"),
        ("a\0b\nc", "a~00b~0Ac"),
        ("a\ud800b", "a~ED~A0~80b"),
        ('*?"<>|\\', "~2A~3F~22~3C~3E~7C~5C"),
        ("a~b.tif", "a~7Eb.tif"),
        ("a b", "a~20b"),
        ("-rf", "~2Drf"),
        ("a\u202eb", "a~E2~80~AEb"),
        ("..", "~2E~2E"),
        (".stacpull", "~2Estacpull"),
        ("a.", "a~2E"),
    ],
)
def test_names_stay_readable(name: str, segment: str) -> None:
    assert safe_segment(name) == segment
    assert_safe(segment)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("", "_~{h}"),
        ("catalog.json", "catalog~{h}.json"),
        ("items-000001.json", "items-000001~{h}.json"),
        ("Items.parquet", "Items~{h}.parquet"),
        ("nul", "_nul~{h}"),
        ("NUL.txt", "_NUL~{h}.txt"),
        ("con.foo.txt", "_con.foo~{h}.txt"),
        ("a\x0123456789ab.tif", "a~0123456789ab~{h}.tif"),
        ("a" * 256 + ".tif", "a{n}~{h}.tif"),
        ("é" * 128, "é{n}~{h}"),
    ],
)
def test_reserved_and_long_names_get_a_hash_and_keep_their_suffix(name, pattern):
    segment = safe_segment(name)
    expected = re.escape(pattern).replace(r"\{h\}", "[0-9a-f]{12}").replace(r"\{n\}", "+")
    assert re.fullmatch(expected, segment)
    assert_safe(segment)


def test_hashes_never_change_because_mirrors_use_them() -> None:
    assert safe_segment("") == "_~e3b0c44298fc"
    assert with_salted_hash("b01.tif", "b01") == "b01~3348ab495b65.tif"


@given(name=ANY)
@example(name="con.\U0001f600")
@example(name="a" * 240 + "%\U0001d173" * 40)
def test_any_name_becomes_safe_and_always_the_same(name):
    assert_safe(safe_segment(name))
    assert safe_segment.__wrapped__(name) == safe_segment(name)


@given(one=ANY, other=ANY)
def test_different_names_stay_different(one, other):
    assume(one != other)
    assert safe_segment(one) != safe_segment(other)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("B01.tif", "b01.TIF", True),
        ("é", "e\u0301", True),
        ("É", "e\u0301", True),
        ("straße", "STRASSE", True),
        ("\u017f", "s", True),
        ("ΐ", "Ϊ́", True),
        ("a", "\u0430", False),
    ],
)
def test_paths_that_some_file_system_merges(one: str, other: str, meet: bool) -> None:
    assert (fold(one) == fold(other)) is meet
    assert (path_hash(one) == path_hash(other)) is meet


@given(path=ANY)
def test_forms_and_cases_of_a_path_have_one_hash_that_fits_sqlite(path):
    assert -(2**63) <= path_hash(path) < 2**63
    for form in ("NFC", "NFD"):
        assert path_hash(unicodedata.normalize(form, path)) == path_hash(path)
    assert path_hash(path.casefold()) == path_hash(path)


def test_hashes_of_paths_never_change_because_ledgers_store_them() -> None:
    assert path_hash("c/i/B01.tif") == path_hash("C/I/b01.TIF") == 189401586287178725
