"""XMP packets as other tools write them, and files with them."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_HEAD = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
)
_TAIL = "</rdf:Description></rdf:RDF></x:xmpmeta>"


def attribute(term: str) -> str:
    return f'{_HEAD} Iptc4xmpExt:DigitalSourceType="{SOURCE}{term}" xmp:CreatorTool="Painter 3">{_TAIL}'


def element(term: str) -> str:
    return f"{_HEAD}><Iptc4xmpExt:DigitalSourceType>\n {SOURCE}{term} </Iptc4xmpExt:DigitalSourceType>{_TAIL}"


def resource(term: str) -> str:
    return f'{_HEAD}><Iptc4xmpExt:DigitalSourceType rdf:resource="{SOURCE}{term}"/>{_TAIL}'


def in_a_list(term: str) -> str:
    inside = f"<rdf:Bag><rdf:li>{SOURCE}{term}</rdf:li></rdf:Bag>"
    return f"{_HEAD}><Iptc4xmpExt:DigitalSourceType>{inside}</Iptc4xmpExt:DigitalSourceType>{_TAIL}"


def other_prefix(term: str) -> str:
    return attribute(term).replace("Iptc4xmpExt:", "ext:").replace("Iptc4xmpExt=", "ext=")


def in_packet(term: str) -> str:
    wrapped = f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{attribute(term)}\n'
    return wrapped + " " * 2000 + '<?xpacket end="w"?>'


FORMS = (attribute, element, resource, in_a_list, other_prefix, in_packet)

_PLAIN = Image.effect_noise((96, 64), 40).convert("RGB")


def encoded(format_name: str, **options: object) -> bytes:
    out = io.BytesIO()
    _PLAIN.save(out, format_name, **options)
    return out.getvalue()


def png_with(**texts: str) -> bytes:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text, zip=len(text) > 1000)
    return encoded("PNG", pnginfo=info)


def with_xmp(format_name: str, xmp: bytes) -> bytes:
    """Return a file of this format with the packet in it."""
    if format_name == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "surrogateescape"), zip=True)
        return encoded("PNG", pnginfo=info)
    if format_name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if format_name == "TIFF":
        return encoded("TIFF", tiffinfo={700: xmp})
    return encoded(format_name, xmp=xmp)


def jpeg_with_segments(*segments: tuple[int, bytes]) -> bytes:
    """Return a JPEG file with these segments (marker, content) before all others."""
    plain = encoded("JPEG")
    return plain[:2] + b"".join(struct.pack(">BBH", 255, m, len(c) + 2) + c for m, c in segments) + plain[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
