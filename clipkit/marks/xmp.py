"""XMP packets: write those of clipkit, and read provenance from those of any tool."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from clipkit.images.xmp import properties
from clipkit.marks.provenance import Provenance
from clipkit.marks.source_type import TRAINED

_MAX_VALUE_LENGTH = 10_000
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_OWN = "urn:clipkit:provenance:1"
_WANTED = frozenset(
    (f"{_EXT} DigitalSourceType", f"{_EXT} AISystemUsed", f"{_XMP} CreatorTool", f"{_TIFF} Software")
) | {f"{_OWN} provenance"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class XmpFacts:
    """The facts in XMP packets: values of DigitalSourceType, names of software, clipkit's own provenance."""

    source_types: tuple[str, ...] = ()
    software: tuple[str, ...] = ()
    provenance: Provenance | None = None


def packet(provenance: Provenance, source_type: str = TRAINED) -> bytes:
    """Return an XMP packet that says that a model generated the picture, or a part of it, and how; deterministic.

    Without a model in the provenance it says nothing of AI.

    Properties of the IPTC Photo Metadata Standard 2025.1: DigitalSourceType, AIPromptInformation,
    AISystemUsed, AISystemVersionUsed.
    """
    name, _, version = provenance.software.partition(" ")
    own = {f"clipkit:{key}": str(value) for key, value in provenance.to_json().items()}
    by_ai = {
        "Iptc4xmpExt:AIPromptInformation": provenance.query,
        "Iptc4xmpExt:AISystemUsed": f"{name}, {provenance.model}",
        "Iptc4xmpExt:AISystemVersionUsed": version,
    }
    attributes = {
        "Iptc4xmpExt:DigitalSourceType": source_type,
        **({} if not provenance.model else by_ai),
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
    """Read packets, at any nesting depth; corrupt ones as far as possible. Never raises."""
    found: dict[str, list[str]] = {}
    for data in packets:
        for item in properties(data, _WANTED):
            # clipkit's provenance is up to about 50,000 characters; the other values are short names and URIs.
            limit = _MAX_VALUE_LENGTH * 10 if item.name.startswith(_OWN) else _MAX_VALUE_LENGTH
            found.setdefault(item.name, []).append(item.value[:limit])
    software = (*found.get(f"{_XMP} CreatorTool", ()), *found.get(f"{_TIFF} Software", ()))
    systems = found.get(f"{_EXT} AISystemUsed", [])
    own = (Provenance.from_text(text) for text in found.get(f"{_OWN} provenance", ()))
    return XmpFacts(
        source_types=tuple(dict.fromkeys(found.get(f"{_EXT} DigitalSourceType", ()))),
        software=tuple(dict.fromkeys((*software, *systems))),
        provenance=next((p for p in own if p), None),
    )
