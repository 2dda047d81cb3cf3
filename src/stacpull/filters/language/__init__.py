"""CQL2, the filter language of OGC 21-065r2, as text and as JSON: parsed, checked, compiled, judged.

    text ─cql2─▶ ┐
                 ├▶ tree of JSON ─compile─▶ Judgement: item ─▶ True | False | None (unknown)
    JSON ───────▶ ┘

The text is parsed by the library `cql2`; items are judged here, since its own `matches` gives silent wrong
answers on what items hold (docs/meaning.md lists them): BETWEEN and IN over times, a date beside a timestamp,
CASEI in a list, comparisons with NULL, boxes across the antimeridian, names with dots.

Logic has three values (OGC 21-065r2, 7.7): what a predicate needs and the item lacks makes it unknown, and
NOT of unknown is unknown. An item is kept where the whole is true.
"""

from __future__ import annotations

from stacpull.filters.language.compiling import Expression, compile_expression
from stacpull.filters.language.parsing import filter_text, parse_filter

__all__ = ["Expression", "compile_expression", "filter_text", "parse_filter"]
