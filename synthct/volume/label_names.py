"""Label names inside a NIfTI header extension: the XML label table that TotalSegmentator writes.

The table is `CaretExtension/VolumeInformation/LabelTable/Label[@Key]`, its text the name, in an
extension with code 0 (Connectome Workbench's format; TotalSegmentator keeps its names there).
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from xml.parsers import expat
from xml.sax.saxutils import escape

MAX_BYTES = 4 << 20
NAMES_NOT_READ = "label names in the header were not read"
"""How a note about a table that cannot be used begins."""
_BLOCK = 16  # an extension, with its 8 bytes of size and code, fills whole blocks
_HEAD = 8
_SHOWN = 20  # characters of a wrong id in a message
_MARKS = (b"LabelTable", b"CaretExtension")


class LabelTableError(ValueError):
    """The extension is no readable label table."""


def is_label_table(content: bytes) -> bool:
    """Whether an extension means to be one, readable or not, in whatever encoding."""
    plain = content.replace(b"\x00", b"")  # UTF-16 and UTF-32 are ASCII with zeros between
    return any(mark in plain for mark in _MARKS)


def parse_label_table(content: bytes) -> dict[int, str]:
    """Id → name, empty when the XML names nothing. Zero padding is tolerated, blank names are none.

    Raises:
        LabelTableError: too long, not XML, an unknown encoding, a document type (entities are
            never expanded), an id that is no whole number or has two names.
    """
    content = content.strip(b"\x00 \r\n\t")
    if len(content) > MAX_BYTES:
        raise LabelTableError(f"a label table of {len(content)} bytes; at most {MAX_BYTES}")
    reader = _TableReader()
    try:
        reader.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise LabelTableError(f"not well-formed XML ({error})") from error
    except LabelTableError:
        raise
    except (LookupError, ValueError) as error:
        raise LabelTableError(f"an encoding that cannot be read ({error})") from error
    return reader.names


class _TableReader:
    """Collects the text of every `Label` inside a `LabelTable`."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._in_table = False
        self._key: int | None = None
        self._text: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _doctype(self, *_: object) -> None:
        raise LabelTableError("it declares a document type, which is never needed here")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "LabelTable":
            self._in_table = True
        elif tag == "Label" and self._in_table:
            self._key, self._text = _whole_number(attributes.get("Key", "")), []

    def _end(self, tag: str) -> None:
        if tag == "LabelTable":
            self._in_table = False
        elif tag == "Label" and self._key is not None:
            self._keep(self._key, "".join(self._text).strip())
            self._key = None

    def _keep(self, label: int, name: str) -> None:
        if name and self.names.setdefault(label, name) != name:
            raise LabelTableError(f"label {label} has two names")

    def _characters(self, text: str) -> None:
        if self._key is not None:
            self._text.append(text)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise LabelTableError(f"label id {shown!r} is no whole number") from None


def format_label_table(names: Mapping[int, str]) -> bytes:
    """The XML for `names`, padded with blanks so that nothing appends zeros to it."""
    rows = "\n".join(_row(label, name) for label, name in sorted(names.items()))
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        f"{rows}\n"
        "</LabelTable><VolumeType>Label</VolumeType></VolumeInformation></CaretExtension>\n"
    ).encode()
    return xml + b" " * (-(len(xml) + _HEAD) % _BLOCK)


def _row(label: int, name: str) -> str:
    red, green, blue = colorsys.hsv_to_rgb((label * 0.618) % 1.0, 0.65, 0.95)
    colour = f'Red="{red:.3f}" Green="{green:.3f}" Blue="{blue:.3f}" Alpha="1"'
    return f'<Label Key="{label}" {colour}>{escape(name)}</Label>'
