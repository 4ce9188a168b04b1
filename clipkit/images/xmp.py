"""Read XMP packets, from inside pictures and from sidecar files."""

from __future__ import annotations

import contextlib
from collections.abc import Container
from dataclasses import dataclass
from xml.parsers import expat

from clipkit.images.exif import degrees
from clipkit.images.metadata_record import DESCRIPTION_LENGTH, NAME_LENGTH, Metadata, camera_name, clean, clean_keywords
from clipkit.images.timestamps import most_precise, parse_timestamp

MAX_PACKET_BYTES = 4 * 1024**2
"""The number of bytes of a packet that are read; a picture's metadata is never longer."""

_MAX_DEPTH = 100
_MAX_VALUE = 10_000
_MAX_VALUES = 1000
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC, _PHOTOSHOP = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/photoshop/1.0/"
_EXIF, _EXIF_EX = "http://ns.adobe.com/exif/1.0/", "http://cipa.jp/exif/1.0/"
_AUX, _TIFF, _XMP = f"{_EXIF}aux/", "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/xap/1.0/"
# Taken, digitised, in order of preference.
_TIMES = (f"{_EXIF} DateTimeOriginal", f"{_PHOTOSHOP} DateCreated", f"{_EXIF} DateTimeDigitized", f"{_XMP} CreateDate")
_TITLES = (f"{_DC} title", f"{_PHOTOSHOP} Headline")
_DESCRIPTIONS = (f"{_DC} description", f"{_TIFF} ImageDescription")
_LENSES = (f"{_EXIF_EX} LensModel", f"{_AUX} Lens")
_MAKE, _MODEL, _KEYWORDS = f"{_TIFF} Make", f"{_TIFF} Model", f"{_DC} subject"
_LATITUDE, _LONGITUDE = f"{_EXIF} GPSLatitude", f"{_EXIF} GPSLongitude"
_WANTED = frozenset((*_TIMES, *_TITLES, *_DESCRIPTIONS, *_LENSES, _MAKE, _MODEL, _KEYWORDS, _LATITUDE, _LONGITUDE))


@dataclass(frozen=True, slots=True)
class Property:
    """A value of an XMP property. `name` is its namespace, a space and its local name.

    `is_own`: whether it describes the picture itself rather than an ingredient or a step of its history.
    """

    name: str
    value: str
    is_own: bool


def read_xmp(packet: bytes | str) -> Metadata:
    """Read the metadata of a packet; a damaged one is read up to the damage."""
    found: dict[str, list[str]] = {}
    data = packet.encode("utf-8", "replace") if isinstance(packet, str) else packet
    for one in properties(data, _WANTED):
        if one.is_own:
            found.setdefault(one.name, []).append(one.value)

    def first(names: tuple[str, ...], longest: int = DESCRIPTION_LENGTH) -> str | None:
        lines = (clean(value, longest) for name in names for value in found.get(name, ()))
        return next((line for line in lines if line), None)

    taken_at = most_precise(parse_timestamp(clean(value, 40)) for name in _TIMES for value in found.get(name, ()))
    latitude = _degrees(first((_LATITUDE,)), "NS", 90.0)
    longitude = _degrees(first((_LONGITUDE,)), "EW", 180.0)
    placed = latitude is not None and longitude is not None and (latitude, longitude) != (0, 0)
    return Metadata(
        taken_at=str(taken_at) if taken_at else None,
        camera=camera_name(first((_MAKE,), NAME_LENGTH), first((_MODEL,), NAME_LENGTH)),
        lens=first(_LENSES, NAME_LENGTH),
        latitude=latitude if placed else None,
        longitude=longitude if placed else None,
        description=first(_DESCRIPTIONS),
        title=first(_TITLES),
        keywords=clean_keywords(found.get(_KEYWORDS, ())),
    )


def properties(data: bytes, wanted: Container[str]) -> list[Property]:
    """Return the wanted properties of a packet, in order; a damaged packet is read up to the damage.

    They may be attributes of a description, elements, or `rdf:resource`, at any depth; each item of a list is a value.
    Documents with a DOCTYPE are rejected: only those can define entities, and XMP does not need them.
    """
    reader = _Reader(wanted)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    with contextlib.suppress(expat.ExpatError, _Refused, ValueError, LookupError):
        parser.Parse(data[:MAX_PACKET_BYTES].strip(b"\0 \t\r\n"), True)  # keep what precedes any damage
    return reader.found


def _degrees(text: str | None, letters: str, limit: float) -> float | None:
    """Parse "48,51.4N" or "48,51,24N"."""
    return degrees(text[:-1], text[-1], letters, limit) if text else None


class _Refused(Exception):
    """The document is rejected."""


@dataclass(slots=True)
class _Element:
    """An open element: its text so far and, if it is a wanted property, its values."""

    name: str
    is_own: bool
    text: list[str]
    values: list[str]


class _Reader:
    """Handlers for expat; they build no tree."""

    def __init__(self, wanted: Container[str]) -> None:
        self.found: list[Property] = []
        self._wanted = wanted
        self._open: list[_Element] = []

    def refuse(self, *_: object) -> None:
        self.found.clear()
        raise _Refused

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise _Refused
        above = [element.name for element in self._open[-2:]]
        describes = name == f"{_RDF} Description" and above[-1:] == [f"{_RDF} RDF"]
        is_own = above == [f"{_RDF} RDF", f"{_RDF} Description"]
        self._open.append(_Element(name, is_own, [], []))
        for attribute, value in attributes.items():
            if attribute == f"{_RDF} resource":
                self._add(name, value, is_own)
            else:
                self._add(attribute, value, describes)

    def text(self, text: str) -> None:
        parts = self._open[-1].text
        if sum(map(len, parts)) < _MAX_VALUE:
            parts.append(text)

    def end(self, _: str) -> None:
        element = self._open[-1]
        if text := "".join(element.text).strip():
            # The value may be nested inside the property, in items of rdf:Alt, rdf:Bag or rdf:Seq.
            owner = next((one for one in reversed(self._open) if one.name in self._wanted), None)
            if owner and len(owner.values) < _MAX_VALUES:
                owner.values.append(text)
        self._open.pop()
        for value in element.values:
            self._add(element.name, value, element.is_own)

    def _add(self, name: str, value: str, is_own: bool) -> None:
        if name in self._wanted and value.strip() and len(self.found) < _MAX_VALUES:
            self.found.append(Property(name, value.strip(), is_own))
