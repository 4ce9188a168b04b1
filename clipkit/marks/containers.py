"""The blocks of metadata in a picture's file, found without decoding it and without trusting a length in it."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from clipkit.images.opening import format_of
from clipkit.images.xmp import MAX_PACKET_BYTES

LONGEST_TEXT = 1024**2
"""Bytes of a text chunk, unpacked."""
LONGEST_MANIFEST = 16 * 1024**2
"""Bytes of a C2PA manifest store that are read; of larger ones only the presence is told."""

_MOST_BLOCKS = 500_000
_MOST_TEXTS = 100
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


@dataclass(slots=True)
class Blocks:
    """What was found: XMP packets, (keyword, text) of PNG files, and the bytes of a C2PA manifest store, JUMBF boxes.

    `manifest` is None where there is none, and empty where it is too large or too torn to read.
    """

    xmp: list[bytes] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    manifest: bytes | None = None


def find_blocks(file: BinaryIO) -> Blocks:
    """Walk through a file's segments, chunks or boxes. What is damaged ends the walk; what came before counts.

    Raises OSError where the system cannot read the file, and nothing about its content.
    """
    found = Blocks()
    file.seek(0)
    walk = _WALKS.get(format_of(file.read(64)) or "")
    if walk:
        with contextlib.suppress(struct.error, ValueError, zlib.error, OverflowError):
            walk(file, found)
    return found


def _jpeg(file: BinaryIO, found: Blocks) -> None:
    more: dict[bytes, dict[int, bytes]] = {}
    boxes: dict[bytes, bytearray] = {}
    file.seek(2)
    for _ in range(_MOST_BLOCKS):
        head = file.read(2)
        while head[1:] == b"\xff":  # fill bytes
            head = b"\xff" + file.read(1)
        if len(head) < 2 or head[0] != 0xFF or head[1] in (0xD9, 0xDA):  # the end, or the scan
            break
        if head[1] == 0x01 or 0xD0 <= head[1] <= 0xD7:  # markers without a length
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if head[1] not in (0xE1, 0xEB):
            file.seek(length - 2, 1)
            continue
        data = file.read(max(0, length - 2))
        if data.startswith(_XMP_PREFIX):
            found.xmp.append(data[len(_XMP_PREFIX) :])
        elif data.startswith(_XMP_MORE) and len(data) > len(_XMP_MORE) + 40:
            rest = data[len(_XMP_MORE) :]
            parts = more.setdefault(rest[:32], {})
            if sum(map(len, parts.values())) < MAX_PACKET_BYTES and len(more) < 10:
                parts[struct.unpack(">I", rest[36:40])[0]] = rest[40:]
        elif head[1] == 0xEB and data.startswith(b"JP") and len(data) > 16:
            # JPEG XT: "JP", the box's number, the packet's number, and in every packet again the head of the box.
            box, again = data[2:4], 16 if data[8:12] == b"\0\0\0\1" else 8
            content = boxes.setdefault(box, bytearray()) if len(boxes) < 100 else bytearray()
            content += data[8:] if not content else data[8 + again :]
            if len(content) > LONGEST_MANIFEST:
                content[:] = content[:LONGEST_MANIFEST]
    found.xmp += [b"".join(part for _, part in sorted(parts.items())) for parts in more.values()]
    for content in boxes.values():
        if content[4:8] == b"jumb" and b"c2pa" in content[8:64]:
            found.manifest = bytes(content)


def _png(file: BinaryIO, found: Blocks) -> None:
    file.seek(8)
    for _ in range(_MOST_BLOCKS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt") and length <= MAX_PACKET_BYTES and len(found.texts) < _MOST_TEXTS:
            _png_text(kind, file.read(length), found)
            file.seek(4, 1)
        elif kind == b"caBX":
            found.manifest = _read_manifest(file, length)
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)


def _png_text(kind: bytes, data: bytes, found: Blocks) -> None:
    name, _, rest = data.partition(b"\0")
    keyword, packed = name.decode("latin-1"), kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1] if rest.count(b"\0", 2) >= 2 else b""
    longest = MAX_PACKET_BYTES if keyword == "XML:com.adobe.xmp" else LONGEST_TEXT
    try:
        content = zlib.decompressobj().decompress(rest, longest) if packed else rest[:longest]
    except zlib.error:
        return
    if keyword == "XML:com.adobe.xmp":
        found.xmp.append(content)
    else:
        found.texts.append((keyword, content.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")))


def _webp(file: BinaryIO, found: Blocks) -> None:
    file.seek(12)
    for _ in range(_MOST_BLOCKS):
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"XMP " and length <= MAX_PACKET_BYTES:
            found.xmp.append(file.read(length))
        elif kind == b"C2PA":
            found.manifest = _read_manifest(file, length)
        else:
            file.seek(length, 1)
        file.seek(length % 2, 1)


def _boxes(file: BinaryIO, found: Blocks) -> None:
    """HEIF, AVIF and JPEG 2000: boxes one after the other; those of other people's kinds have an identifier."""
    position = 0
    for _ in range(_MOST_BLOCKS):
        file.seek(position)
        head = file.read(32)
        length, kind = struct.unpack(">I4s", head[:8])
        start = 8
        if length == 1:
            (length,) = struct.unpack(">Q", head[8:16])
            start = 16
        if kind == b"uuid" and length > start + 16:
            identifier = head[start : start + 16]
            file.seek(position + start + 16)
            content = length - start - 16
            if identifier == _XMP_BOX and content <= MAX_PACKET_BYTES:
                found.xmp.append(file.read(content))
            elif identifier == _C2PA_BOX:
                data = _read_manifest(file, content)
                # Version and flags, the purpose ended by a NUL, an offset of eight bytes, then the manifest store.
                purpose, _, rest = data[4:].partition(b"\0")
                if purpose in (b"manifest", b"original", b"update"):
                    found.manifest = rest[8:]
        if length < start:  # 0 is a box to the end of the file
            return
        position += length


def _read_manifest(file: BinaryIO, length: int) -> bytes:
    if length > LONGEST_MANIFEST:
        file.seek(length, 1)
        return b""
    return file.read(length)


def sub_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the JUMBF boxes that lie one after the other in `data`, as far as they make sense."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        start = 8
        if length == 1:
            if position + 16 > len(data):
                return
            (length,) = struct.unpack(">Q", data[position + 8 : position + 16])
            start = 16
        if length == 0:
            length = len(data) - position
        if length < start:
            return
        yield kind, data[position + start : position + length]
        position += length


_WALKS: dict[str, Callable[[BinaryIO, Blocks], None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "HEIF": _boxes,
    "AVIF": _boxes,
    "JPEG2000": _boxes,
}
