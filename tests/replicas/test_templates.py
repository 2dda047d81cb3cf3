"""A filled JSON template is the same as the document dumped at once."""

from __future__ import annotations

import orjson
import pytest

from stacpull_replicas.hub_items import Template, members, text, value


def test_placeholders_are_filled_at_any_position():
    document = {
        "id": f"a_{text('name')}_{text('name')}",
        members("flags"): None,
        "list": [1, value("list")],
        "%": "50%s",
    }
    template = Template.of(document)
    filled = template.fill({b"name": b"x", b"flags": b'"snow":true,"cloud":false,', b"list": b"[1.5,null]"})
    assert orjson.loads(filled) == {
        "id": "a_x_x",
        "snow": True,
        "cloud": False,
        "list": [1, [1.5, None]],
        "%": "50%s",
    }
    assert orjson.loads(template.fill({b"name": b"", b"flags": b"", b"list": b"0"}))["list"] == [1, 0]


def test_a_placeholder_without_a_value_is_an_error():
    with pytest.raises(KeyError):
        Template.of({"id": text("name")}).fill({})
