"""Read the metadata of camera RAW files.

Pillow parses EXIF directories, but no permissively licensed library finds them in CR3, RAF, MRW and CRW containers.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from PIL import Image

from clipkit.images.exif import metadata_from_tags, read_exif
from clipkit.images.metadata import read_metadata
from clipkit.images.metadata_record import NAME_LENGTH, Metadata, camera_name, clean, merge_metadata
from clipkit.images.opening import open_header, quiet
from clipkit.images.xmp import MAX_PACKET_BYTES, read_xmp

_XMP_TAG = 700
_CANON_BOX = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MAX_BLOCK = 4 * 1024**2
_MAX_ENTRIES, _MAX_HEAPS = 10_000, 100
_CIFF_CAMERA, _CIFF_TIME = 0x080A, 0x180E


def read_raw_metadata(file: BinaryIO) -> Metadata:
    """Read the metadata of a RAW file, except its preview's; corrupt data is ignored."""
    with quiet():
        try:
            file.seek(0)
            head = file.read(32)
            if head.startswith(b"FUJIFILMCCD-RAW"):
                return _raf(file)
            if head[4:12] == b"ftypcrx ":
                return _cr3(file)
            if head.startswith(b"\0MRM"):
                return _mrw(file)
            if head[6:14] == b"HEAPCCDR":
                return _crw(file)
            return _tiff(file) if head[:2] in (b"II", b"MM") else Metadata()
        except Exception:  # corrupt offsets and lengths lead anywhere
            return Metadata()


def _tiff(file: BinaryIO) -> Metadata:
    """Read a file with the structure of TIFF, whatever number it has instead of 42 (RW2, ORF, RWL).

    Pillow's TIFF reader would reject the sensor data.
    """
    exif = _directory(file)
    packet = exif.get(_XMP_TAG)
    return merge_metadata(read_exif(exif), read_xmp(packet) if isinstance(packet, bytes) else Metadata())


def _directory(file: BinaryIO) -> Image.Exif:
    file.seek(0)
    head = file.read(16)
    exif = Image.Exif()
    exif.endian = order = "<" if head[:2] == b"II" else ">"
    exif.bigtiff = 43 in head[2:4]
    offset = struct.unpack(f"{order}Q", head[8:16])[0] if exif.bigtiff else struct.unpack(f"{order}I", head[4:8])[0]
    exif.load_from_fp(file, offset)
    return exif


def _raf(file: BinaryIO) -> Metadata:
    """Read Fujifilm's RAF: its EXIF data is in the JPEG preview."""
    file.seek(84)
    offset, length = struct.unpack(">II", file.read(8))
    file.seek(offset)
    return read_metadata(open_header(io.BytesIO(file.read(length))))


def _mrw(file: BinaryIO) -> Metadata:
    """Read Minolta's MRW: its TTW block is a TIFF structure."""
    file.seek(4)
    (end,) = struct.unpack(">I", file.read(4))
    position = 8
    while position < end + 8:
        file.seek(position)
        name, length = struct.unpack(">4sI", file.read(8))
        if name == b"\0TTW":
            return _tiff(io.BytesIO(file.read(length)))
        position += 8 + length
    return Metadata()


def _cr3(file: BinaryIO) -> Metadata:
    """Read Canon's CR3: the boxes CMT1, CMT2 and CMT4 each hold one directory in a TIFF structure."""
    blocks: dict[bytes, bytes] = {}
    packet = b""
    for kind, start, end in _boxes(file, 0, file.seek(0, io.SEEK_END)):
        if kind == _XMP_BOX:
            file.seek(start)
            packet = file.read(min(end - start, MAX_PACKET_BYTES))
        if kind == b"moov":
            canon = (box for box in _boxes(file, start, end) if box[0] == _CANON_BOX)
            for name, inner, inner_end in (box for _, *inside in canon for box in _boxes(file, *inside)):
                if name.startswith(b"CMT") and inner_end - inner <= _MAX_BLOCK:
                    file.seek(inner)
                    blocks[name] = file.read(inner_end - inner)
    main, details, place = (
        dict(_directory(io.BytesIO(blocks[name]))) if name in blocks else {} for name in (b"CMT1", b"CMT2", b"CMT4")
    )
    return merge_metadata(metadata_from_tags(main, details, place), read_xmp(packet))


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of each box's content; the type of "uuid" boxes is their identifier."""
    for _ in range(_MAX_ENTRIES):
        if position + 8 > end:
            return
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        start = position + 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            start += 8
        if kind == b"uuid":
            kind = file.read(16)
            start += 16
        position = position + length if length else end
        if position < start:
            return
        yield kind, start, min(position, end)


def _crw(file: BinaryIO) -> Metadata:
    """Read Canon's CRW, which has CIFF records instead of EXIF: the camera and the local time."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    (start,) = struct.unpack(f"{order}I", file.read(4))
    camera = taken_at = None
    for record, data in _ciff(file, order, start, file.seek(0, io.SEEK_END)):
        if record == _CIFF_CAMERA:
            make, model, *_ = (*data.decode("latin-1").split("\0"), "")
            camera = camera_name(clean(make, NAME_LENGTH), clean(model, NAME_LENGTH))
        elif record == _CIFF_TIME:
            (seconds,) = struct.unpack(f"{order}I", data[:4])
            taken_at = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat() if seconds else None
    return Metadata(taken_at=taken_at, camera=camera)


def _ciff(file: BinaryIO, order: str, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield (record, data) of the wanted records in a heap between two offsets, and in the heaps inside it."""
    heaps, left = [(start, end)], _MAX_ENTRIES
    for start, end in heaps:  # the list grows during the loop
        file.seek(end - 4)
        (directory,) = struct.unpack(f"{order}I", file.read(4))
        file.seek(start + directory)
        (count,) = struct.unpack(f"{order}H", file.read(2))
        entries = [struct.unpack(f"{order}HII", file.read(10)) for _ in range(min(count, left))]
        left -= len(entries)
        for tag, length, offset in entries:
            place = start + offset
            if tag & 0xC000:  # the data is in the directory itself; the wanted records are never that short
                continue
            if tag & 0x3800 in (0x2800, 0x3000):
                if (place, place + length) not in heaps and len(heaps) < _MAX_HEAPS:
                    heaps.append((place, place + length))
            elif tag in (_CIFF_CAMERA, _CIFF_TIME) and length <= _MAX_BLOCK:
                file.seek(place)
                yield tag, file.read(length)
