"""Read the colour that boxes of AVIF, HEIF (ISO/IEC 23008-12) and JPEG 2000 files declare and their decoders ignore."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAX_BYTES = 16 * 1024 * 1024
_MAX_BOXES = 4096


@dataclass(frozen=True)
class BoxColour:
    """The content of `colr` boxes: an ICC profile, and `cicp`: colour primaries and transfer function (ITU-T H.273)."""

    icc_profile: bytes | None = None
    cicp: tuple[int, int] | None = None


def heif_colour(file: BinaryIO) -> BoxColour:
    """Read the colour of a HEIF or AVIF file's primary picture; empty if there is none or the boxes are corrupt."""
    try:
        meta = _first(_file_boxes(file), b"meta")
        if meta is None:
            return BoxColour()
        inside = list(_boxes(meta[4:]))
        properties = _first(inside, b"iprp")
        primary = _first(inside, b"pitm")
        if properties is None or primary is None:
            return BoxColour()
        item = int.from_bytes(primary[4:8] if primary[0] else primary[4:6], "big")
        inside = list(_boxes(properties))
        all_of_them = list(_boxes(_first(inside, b"ipco") or b""))
        found = BoxColour()
        for name, associations in inside:
            if name == b"ipma":
                for index in _associated(associations, item):
                    if 1 <= index <= len(all_of_them) and all_of_them[index - 1][0] == b"colr":
                        found = _with(found, all_of_them[index - 1][1])
        return found
    except (IndexError, ValueError, struct.error, OSError):
        return BoxColour()


def jpeg2000_colour(file: BinaryIO) -> BoxColour:
    """Read the ICC profile of a JPEG 2000 file (ISO/IEC 15444-1, annex I); empty if there is none."""
    try:
        header = _first(_file_boxes(file), b"jp2h")
        for name, content in _boxes(header or b""):
            if name == b"colr" and content[0] in (2, 3):  # restricted or any ICC profile
                return BoxColour(content[3:])
    except (IndexError, ValueError, struct.error, OSError):
        pass
    return BoxColour()


def _with(found: BoxColour, content: bytes) -> BoxColour:
    kind = content[:4]
    if kind == b"nclx":
        return BoxColour(found.icc_profile, struct.unpack(">HH", content[4:8]))
    if kind in (b"prof", b"rICC"):
        return BoxColour(content[4:], found.cicp)
    return found


def _associated(ipma: bytes, item: int) -> list[int]:
    """Return the indices, from 1, of the properties that an ItemPropertyAssociation box assigns to an item."""
    version, wide = ipma[0], ipma[3] & 1
    (count,) = struct.unpack(">I", ipma[4:8])
    position = 8
    for _ in range(min(count, _MAX_BOXES)):
        width = 4 if version else 2
        number = int.from_bytes(ipma[position : position + width], "big")
        position += width
        how_many = ipma[position]
        position += 1
        step, mask = (2, 0x7FFF) if wide else (1, 0x7F)
        if number == item:
            ends = range(position, position + how_many * step, step)
            return [int.from_bytes(ipma[at : at + step], "big") & mask for at in ends]
        position += how_many * step
    return []


def _first(boxes: Iterator[tuple[bytes, bytes]] | list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((content for box, content in boxes if box == name), None)


def _file_boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the boxes of a file, with content only for those that are needed: the others hold the pixels."""
    file.seek(0, 2)
    size, position = file.tell(), 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return
        length, name, start = struct.unpack(">I", head[:4])[0], head[4:8], 8
        if length == 1:
            length, start = struct.unpack(">Q", head[8:16])[0], 16
        elif length == 0:
            length = size - position
        if length < start:
            return
        if name in (b"meta", b"jp2h") and length <= _MAX_BYTES:
            file.seek(position + start)
            yield name, file.read(length - start)
        else:
            yield name, b""
        position += length


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        length, start = int.from_bytes(data[position : position + 4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        elif length == 0:
            length = len(data) - position
        if length < start:
            return
        yield data[position + 4 : position + 8], data[position + start : position + length]
        position += length
