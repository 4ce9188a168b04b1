"""XMP packets: the ones that clipkit writes, and what those of others say about who made the picture."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from clipkit.marks.provenance import Provenance
from clipkit.marks.sourcetype import TRAINED

LONGEST_PACKET = 4 * 1024**2
"""Bytes of a packet that are read; more than this is no description of a picture."""

_DEEPEST = 100
_LONGEST_VALUE = 10_000
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_OWN = "urn:clipkit:provenance:1"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class XmpFacts:
    """What packets say: values of DigitalSourceType, names of the software, clipkit's own provenance."""

    source_types: tuple[str, ...] = ()
    software: tuple[str, ...] = ()
    provenance: Provenance | None = None


def packet(provenance: Provenance) -> bytes:
    """An XMP packet that says that a model made the picture, and how; the same for the same provenance.

    The properties are those of the IPTC Photo Metadata Standard 2025.1: DigitalSourceType, AIPromptInformation,
    AISystemUsed, AISystemVersionUsed.
    """
    name, _, version = provenance.software.partition(" ")
    own = {f"clipkit:{key}": str(value) for key, value in provenance.to_json().items()}
    attributes = {
        "Iptc4xmpExt:DigitalSourceType": TRAINED,
        "Iptc4xmpExt:AIPromptInformation": provenance.query,
        "Iptc4xmpExt:AISystemUsed": f"{name}, {provenance.model}",
        "Iptc4xmpExt:AISystemVersionUsed": version,
        "xmp:CreatorTool": provenance.software,
        **({"xmp:CreateDate": provenance.created_at} if provenance.created_at else {}),
        "clipkit:provenance": provenance.to_text(),
        **own,
    }
    lines = "\n".join(f"   {key}={quoteattr(_NOT_XML.sub(chr(0xFFFD), text))}" for key, text in attributes.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_EXT}" xmlns:xmp="{_XMP}" xmlns:clipkit="{_OWN}"\n'
        f"{lines}/>\n"
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="r"?>'
    ).encode()


def read_packets(packets: Iterable[bytes]) -> XmpFacts:
    """What these packets say. Damaged ones are read as far as they go; nothing is raised.

    Properties are found as attributes of a description, as elements, and as `rdf:resource`, at any depth. Documents
    with a DOCTYPE are not read at all: only those can define entities, and no XMP writer needs them.
    """
    found: dict[str, list[str]] = {}
    for data in packets:
        for name, value in _Properties().read(data):
            found.setdefault(name, []).append(value)
    software = (*found.get(f"{_XMP} CreatorTool", ()), *found.get(f"{_TIFF} Software", ()))
    systems = found.get(f"{_EXT} AISystemUsed", [])
    own = (Provenance.from_text(text) for text in found.get(f"{_OWN} provenance", ()))
    return XmpFacts(
        source_types=tuple(dict.fromkeys(found.get(f"{_EXT} DigitalSourceType", ()))),
        software=tuple(dict.fromkeys((*software, *systems))),
        provenance=next((p for p in own if p), None),
    )


class _Refused(Exception):
    """The document is of a kind that is not read."""


class _Properties:
    """Collects the properties of one document with expat's handlers, which keep no tree in memory."""

    _WANTED = frozenset(
        (f"{_EXT} DigitalSourceType", f"{_EXT} AISystemUsed", f"{_XMP} CreatorTool", f"{_TIFF} Software")
    ) | {f"{_OWN} provenance"}

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self._open: list[tuple[str, list[str]]] = []

    def read(self, data: bytes) -> list[tuple[str, str]]:
        """(namespace and name, value) of what is wanted, in the document's order."""
        data = data[:LONGEST_PACKET].strip(b"\0 \t\r\n")
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        with contextlib.suppress(expat.ExpatError, _Refused, ValueError, LookupError):
            parser.Parse(data, True)  # what comes before any damage counts
        return self._found

    def _refuse(self, *_: object) -> None:
        self._found.clear()
        raise _Refused

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise _Refused
        self._open.append((name, []))
        for attribute, value in attributes.items():
            if attribute == f"{_RDF} resource":
                attribute = name
            self._add(attribute, value)

    def _text(self, text: str) -> None:
        # The value may lie deeper, in the items of an rdf:Alt, rdf:Bag or rdf:Seq.
        for name, parts in self._open:
            if name in self._WANTED and len(parts) < 100:
                parts.append(text[:_LONGEST_VALUE])

    def _end(self, _: str) -> None:
        name, parts = self._open.pop()
        self._add(name, "".join(parts))

    def _add(self, name: str, value: str) -> None:
        # clipkit's own line is ASCII of at most some 50,000 characters; the rest are short names and addresses.
        longest = _LONGEST_VALUE * 10 if name.startswith(_OWN) else _LONGEST_VALUE
        if name in self._WANTED and value.strip() and len(self._found) < 100:
            self._found.append((name, value.strip()[:longest]))
