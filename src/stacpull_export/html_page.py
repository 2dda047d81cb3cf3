"""The HTML page that the report and the dashboard share: one file that loads nothing.

Everything that comes from a source (titles, ids, labels, messages) is in one block of JSON, and the page's
script puts it into text nodes only. A content security policy allows that script and the style sheet, by
their hashes, and nothing else.
"""

import base64
import hashlib
import re
from html import escape
from importlib.resources import files

import orjson

_MAX_LENGTH = 300
"""Characters of a text that is shown."""


class PageTemplate:
    def __init__(self, script_name: str) -> None:
        self._style, common, own, self._page = (
            files("stacpull_export").joinpath(name).read_text("utf-8")
            for name in ("page.css", "page.js", script_name, "page.html")
        )
        self._script = common + own
        self._policy = (
            f"default-src 'none'; style-src {_hashed(self._style)}; script-src {_hashed(self._script)}; "
            "img-src data:; base-uri 'none'"
        )

    def page(self, title: str, data: object, more: str) -> tuple[bytes, str]:
        """Return the page and its content security policy, which has `more` directives."""
        policy = f"{self._policy}; {more}"
        parts = {
            "policy": policy,
            "title": escape(title),
            "style": self._style,
            "data": orjson.dumps(data).decode().replace("<", "\\u003c"),
            "script": self._script,
        }
        return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], self._page).encode(), policy


def shown(text: object) -> str:
    """Return a text as a page shows it: cut, and without what is not Unicode."""
    clean = str(text).encode("utf-8", "replace").decode()
    return clean if len(clean) <= _MAX_LENGTH else f"{clean[: _MAX_LENGTH - 1]}…"


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
