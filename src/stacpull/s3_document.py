"""Documents in replies of S3: lists of objects, uploads and pieces, results of requests, errors.

    <Root>
      <Name>a field</Name>
      <Record> <Name>a field of a record</Name> … </Record> …
    </Root>

Source: Amazon S3 API Reference. Keys are requested URL-encoded (`encoding-type=url`), because XML 1.0 cannot
represent all characters of a key. A server that ignores this does not repeat `EncodingType` in its reply, and
its keys are not decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from xml.parsers import expat

_FIELDS: Final = frozenset(
    {
        "ChecksumCRC64NVME", "ChecksumSHA256", "Code", "ETag", "EncodingType", "IsTruncated", "Key",
        "Message", "NextContinuationToken", "PartNumber", "Prefix", "Region", "Size", "UploadId",
    }
)  # fmt: skip
"""The fields that are kept."""
_MOST_RECORDS: Final = 100_000
"""The most records of a document: S3 puts a thousand into a list."""
_FIELD_DEPTH, _RECORD_FIELD_DEPTH = 2, 3


class S3Document(NamedTuple):
    """A document. All values are as sent, without the space around them that only `Key` and `Prefix` keep."""

    root: str
    """The name of the root element."""
    fields: Mapping[str, str]
    records: Mapping[str, Sequence[Mapping[str, str]]]
    """The fields of each record, by the name of its element."""
    is_whole: bool
    """False if it is not XML, is cut off, or has a document type declaration. What precedes that is kept."""

    @property
    def is_truncated(self) -> bool:
        """True if a list continues on another page."""
        return self.fields.get("IsTruncated", "").lower() == "true"

    def name(self, record: Mapping[str, str], field: str = "Key") -> str:
        """Return a key or prefix of a record."""
        value = record.get(field, "")
        return unquote_plus(value) if self.fields.get("EncodingType") == "url" else value


def read_document(data: bytes) -> S3Document:
    """Read a document. There are no entities to expand: it may have no document type declaration."""
    reader = _ElementReader()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.add
    parser.EndElementHandler = reader.end
    is_whole = True
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):  # LookupError: unknown encoding
        is_whole = False
    return S3Document(reader.root, reader.fields, reader.records, is_whole)


class _ElementReader:
    """Keeps the few needed elements, and builds no tree."""

    def __init__(self) -> None:
        self.root = ""
        self.fields: dict[str, str] = {}
        self.records: dict[str, list[dict[str, str]]] = {}
        self._depth = 0
        self._count = 0
        self._outer = ""
        """The name of the element below the root."""
        self._record: dict[str, str] | None = None
        """The fields of that element, if it has any."""
        self._text: list[str] | None = None

    def refuse(self, *_: object) -> None:
        """Refuse a document type declaration before its content is read."""
        raise ValueError("it has a document type declaration")

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        """Enter an element."""
        self._depth += 1
        name = tag.rpartition("}")[2]
        self._text = None
        if self._depth == _RECORD_FIELD_DEPTH:
            if self._record is None:
                self._count += 1
                if self._count > _MOST_RECORDS:
                    raise ValueError("it has too many records")
                self._record = {}
                self.records.setdefault(self._outer, []).append(self._record)
            self._text = [] if name in _FIELDS else None
        elif self._depth == _FIELD_DEPTH:
            self._outer, self._record = name, None
            self._text = [] if name in _FIELDS else None
        elif self._depth == 1:
            self.root = name

    def add(self, text: str) -> None:
        """Add text to the current element."""
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """Leave an element; of several with the same name, the first is kept."""
        if self._text is not None:
            name, value = tag.rpartition("}")[2], "".join(self._text)
            kept = self.fields if self._depth == _FIELD_DEPTH or self._record is None else self._record
            kept.setdefault(name, value if name in {"Key", "Prefix"} else value.strip())
            self._text = None
        self._depth -= 1
