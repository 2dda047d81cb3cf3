"""Values of the public interface are used like frozen dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from stacpull import events, reports
from stacpull.events import AssetFailed, HostProgress, Notice, Progress
from stacpull.models import FailureKind, ItemId
from stacpull.public_value import PublicValue
from stacpull.reports import MirrorReport

PUBLIC = [
    value
    for module in (events, reports)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, PublicValue) and value is not PublicValue
]


@pytest.mark.parametrize("kind", PUBLIC)
def test_public_values_have_the_fields_of_a_dataclass(kind: type[PublicValue]) -> None:
    assert dataclasses.is_dataclass(kind)
    assert [field.name for field in dataclasses.fields(kind)] == list(kind.__struct_fields__)


def test_asdict_and_replace_accept_public_values() -> None:
    now = Progress(items_seen=3, hosts=(HostProgress("a.example:443", bytes=5),))
    taken = dataclasses.asdict(now)
    assert (taken["items_seen"], taken["hosts"][0]["bytes"]) == (3, 5)
    assert dataclasses.replace(now, items_seen=4) == Progress(items_seen=4, hosts=now.hosts)
    failed = AssetFailed(ItemId("c", "i"), "k", FailureKind.GONE, "It is gone.")
    assert dataclasses.asdict(failed)["item"] == ("c", "i")


def test_defaults_are_known_to_dataclasses() -> None:
    fields = {field.name: field for field in dataclasses.fields(MirrorReport)}
    assert fields["state"].default is dataclasses.MISSING
    assert fields["assets_ordered"].default == 0
    assert fields["items_left_out"].default_factory is dict


def test_public_values_are_immutable_comparable_and_copyable() -> None:
    notice = Notice("info", "text")
    with pytest.raises(AttributeError):
        notice.text = "another"  # type: ignore[misc]
    assert notice == copy.copy(notice) == pickle.loads(pickle.dumps(notice))  # noqa: S301 - our own
    assert hash(notice) == hash(Notice("info", "text"))
    assert repr(notice) == "Notice(level='info', text='text')"
