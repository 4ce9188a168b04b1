"""Find the metadata blocks in an image file without decoding it, and without trusting the lengths in it."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from clipkit.images.opening import format_of
from clipkit.images.xmp import MAX_PACKET_BYTES

MAX_TEXT_BYTES = 1024**2
"""Limit on a text chunk, decompressed."""
MAX_MANIFEST_BYTES = 16 * 1024**2
"""Limit on a C2PA manifest store; larger ones are reported without being read."""

_MAX_BLOCKS = 500_000
_MAX_TEXTS = 100
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


@dataclass(slots=True)
class Blocks:
    """The metadata of a file: XMP packets, (keyword, text) of PNG chunks, and the JUMBF boxes of a C2PA manifest store.

    `manifest` is None if there is none, and empty if it is too large to read or corrupt.
    """

    xmp: list[bytes] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    manifest: bytes | None = None


def find_blocks(file: BinaryIO) -> Blocks:
    """Return the metadata in a file's segments, chunks or boxes, up to the first corrupt one.

    Raises OSError if the system cannot read the file; corrupt content never raises.
    """
    found = Blocks()
    file.seek(0)
    walk = _WALKS.get(format_of(file.read(64)) or "")
    if walk:
        with contextlib.suppress(struct.error, ValueError, zlib.error, OverflowError):
            walk(file, found)
    return found


def _jpeg(file: BinaryIO, found: Blocks) -> None:
    extensions: dict[bytes, dict[int, bytes]] = {}
    boxes: dict[bytes, bytearray] = {}
    file.seek(2)
    for _ in range(_MAX_BLOCKS):
        head = file.read(2)
        while head[1:] == b"\xff":  # fill bytes
            head = b"\xff" + file.read(1)
        if len(head) < 2 or head[0] != 0xFF or head[1] in (0xD9, 0xDA):  # end of image, or start of scan
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
        elif data.startswith(_XMP_EXTENSION) and len(data) > len(_XMP_EXTENSION) + 40:
            rest = data[len(_XMP_EXTENSION) :]
            parts = extensions.setdefault(rest[:32], {})
            if sum(map(len, parts.values())) < MAX_PACKET_BYTES and len(extensions) < 10:
                parts[struct.unpack(">I", rest[36:40])[0]] = rest[40:]
        elif head[1] == 0xEB and data.startswith(b"JP") and len(data) > 16:
            # JPEG XT: "JP", box number, packet number; every packet repeats the box header.
            box, header = data[2:4], 16 if data[8:12] == b"\0\0\0\1" else 8
            content = boxes.setdefault(box, bytearray()) if len(boxes) < 100 else bytearray()
            content += data[8:] if not content else data[8 + header :]
            if len(content) > MAX_MANIFEST_BYTES:
                content[:] = content[:MAX_MANIFEST_BYTES]
    found.xmp += [b"".join(part for _, part in sorted(parts.items())) for parts in extensions.values()]
    for content in boxes.values():
        if content[4:8] == b"jumb" and b"c2pa" in content[8:64]:
            found.manifest = bytes(content)


def _png(file: BinaryIO, found: Blocks) -> None:
    file.seek(8)
    for _ in range(_MAX_BLOCKS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt") and length <= MAX_PACKET_BYTES and len(found.texts) < _MAX_TEXTS:
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
    longest = MAX_PACKET_BYTES if keyword == "XML:com.adobe.xmp" else MAX_TEXT_BYTES
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
    for _ in range(_MAX_BLOCKS):
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"XMP " and length <= MAX_PACKET_BYTES:
            found.xmp.append(file.read(length))
        elif kind == b"C2PA":
            found.manifest = _read_manifest(file, length)
        else:
            file.seek(length, 1)
        file.seek(length % 2, 1)


def _boxes(file: BinaryIO, found: Blocks) -> None:
    """Walk the boxes of HEIF, AVIF and JPEG 2000; XMP and C2PA are in `uuid` boxes, told apart by their identifier."""
    position = 0
    for _ in range(_MAX_BLOCKS):
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
                # Version and flags, NUL-terminated purpose, offset of eight bytes, manifest store.
                purpose, _, rest = data[4:].partition(b"\0")
                if purpose in (b"manifest", b"original", b"update"):
                    found.manifest = rest[8:]
        if length < start:  # 0 means to the end of the file
            return
        position += length


def _read_manifest(file: BinaryIO, length: int) -> bytes:
    if length > MAX_MANIFEST_BYTES:
        file.seek(length, 1)
        return b""
    return file.read(length)


def sub_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, content) of consecutive JUMBF boxes in `data`, up to the first corrupt one."""
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
