"""Build the containers of camera RAW files without their sensor data; exiftool reads them."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from .make_files import corners, encoded, tiff_file

MAKE, MODEL, LENS = b"Acme\0", b"Acme One\0", b"Acme 50mm F1.8\0"
TAKEN, OFFSET = b"2021:02:03 04:05:06\0", b"+01:00\0"
_PLACE = [(1, "s", b"N\0"), (2, "R", [48.0, 51.0, 24.0]), (3, "s", b"W\0"), (4, "R", [2.0, 21.0, 8.0])]
_DETAILS = [(0x9003, "s", TAKEN), (0x9011, "s", OFFSET), (0xA434, "s", LENS)]
_MAIN = [(271, "s", MAKE), (272, "s", MODEL)]


def exif_block() -> bytes:
    """Return a TIFF structure with a main directory and an EXIF directory."""
    return tiff_file([*_MAIN, (0x8769, "L", "SECOND")], second=_DETAILS)


def rw2() -> bytes:
    """Panasonic RW2: a TIFF file with the number 0x55 instead of 42."""
    return b"IIU\0" + exif_block()[4:]


def orf() -> bytes:
    """Olympus ORF: a TIFF file with the letters RO instead of 42."""
    return b"IIRO" + exif_block()[4:]


def mrw() -> bytes:
    """Minolta MRW: blocks, the second of which holds the TIFF structure."""
    blocks = b"".join(
        name + struct.pack(">I", len(data)) + data for name, data in ((b"\0PRD", bytes(24)), (b"\0TTW", exif_block()))
    )
    return b"\0MRM" + struct.pack(">I", len(blocks)) + blocks + bytes(64)


def raf() -> bytes:
    """Fujifilm RAF: a JPEG preview that has the EXIF data."""
    jpeg = encoded(corners(64, 48), "JPEG", exif=b"Exif\0\0" + exif_block())
    head = b"FUJIFILMCCD-RAW 0201FF383501" + b"Acme One".ljust(32, b"\0") + b"0100"
    head = head.ljust(84, b"\0") + struct.pack(">II", 160, len(jpeg))
    return head.ljust(160, b"\0") + jpeg


def cr3() -> bytes:
    """Canon CR3: boxes with one directory each, and XMP in a box at the end."""
    blocks = (
        _box(b"CMT1", tiff_file(_MAIN)),
        _box(b"CMT2", tiff_file(_DETAILS)),
        _box(b"CMT4", tiff_file(_PLACE)),
    )
    canon = _box(b"uuid", bytes.fromhex("85c0b687820f11e08111f4ce462b6a48") + b"".join(blocks))
    packet = _box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + xmp('xmp:Rating="3" dc:title="A fair"'))
    return _box(b"ftyp", b"crx \0\0\0\1crx isom") + _box(b"moov", canon) + packet + _box(b"mdat", bytes(16))


def crw() -> bytes:
    """Canon CRW: a heap of records with its directory at the end, and nested heaps."""
    camera = _heap([(0x080A, b"Canon\0Canon PowerShot G1\0")])
    seconds = int(datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp())
    properties = _heap([(0x2807, camera), (0x180E, struct.pack("<Iii", seconds, 0, 0))])
    return (
        b"II" + struct.pack("<I", 26) + b"HEAPCCDR" + struct.pack("<III", 0x10002, 0, 0) + _heap([(0x300A, properties)])
    )


def xmp(attributes: str, elements: str = "") -> bytes:
    """Return an XMP packet with these attributes and elements in its description, and the usual prefixes."""
    spaces = {
        "dc": "http://purl.org/dc/elements/1.1/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "tiff": "http://ns.adobe.com/tiff/1.0/",
        "aux": "http://ns.adobe.com/exif/1.0/aux/",
        "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    }
    declared = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in spaces.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {declared} {attributes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _heap(records: list[tuple[int, bytes]]) -> bytes:
    data, entries = b"", b""
    for record, content in records:
        entries += struct.pack("<HII", record, len(content), len(data))
        data += content + b"\0" * (len(content) % 2)
    return data + struct.pack("<H", len(records)) + entries + struct.pack("<I", len(data))
