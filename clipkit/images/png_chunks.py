"""Read PNG files with intact pixels but damaged ancillary chunks, by leaving out what Pillow would reject."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import PngImagePlugin

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 1024 * 1024
"""Pillow rejects files with a longer compressed text (`PngImagePlugin.MAX_TEXT_CHUNK`)."""
_MAX_TEXT_IN_ALL = 16 * 1024 * 1024
_MAX_OF_ONE_CHUNK = 64 * 1024 * 1024
_MAX_PROFILE = 16 * 1024 * 1024
# Pillow raises on shorter chunks, while browsers and libpng ignore them.
_MIN_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tRNS": 1, b"acTL": 8}


@dataclass(frozen=True)
class Chunks:
    """What a PNG file holds besides its pixels.

    `stream`: the file, without the chunks that Pillow would reject.
    `icc_profile`: None if there is none.
    `cicp`: colour primaries, transfer function, matrix, range (ITU-T H.273); None if there is none.
    """

    stream: BinaryIO
    icc_profile: bytes | None = None
    cicp: tuple[int, int, int, int] | None = None

    @property
    def info(self) -> dict[str, object]:
        """Return what was found, under the names that Pillow uses in `Image.info`."""
        found = {"icc_profile": self.icc_profile, "cicp": self.cicp}
        return {name: value for name, value in found.items() if value is not None}


def read_chunks(file: BinaryIO) -> Chunks:
    """Scan the chunks of a PNG file, dropping damaged chunks that the pixels do not need."""
    file.seek(0, 2)
    size = file.tell()
    kept: list[tuple[int, int]] = []
    icc_profile, cicp, text_in_all = None, None, 0
    position, before_pixels, all_kept = len(_SIGNATURE), True, True
    while position + 12 <= size:
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        end = position + 12 + length
        if end > size:  # truncated: Pillow reports it
            break
        keep = True
        if name == b"IDAT":
            before_pixels = False
        elif name[0] & 0x20 and name != b"fdAT":  # lower case: ancillary
            data = file.read(length) if length <= _MAX_OF_ONE_CHUNK else None
            if data is None or zlib.crc32(name + data) != int.from_bytes(file.read(4), "big"):
                keep = False
            elif name == b"iCCP":
                keep = False
                icc_profile = _profile(data) if before_pixels and icc_profile is None else icc_profile
            elif name == b"cICP":
                cicp = (data[0], data[1], data[2], data[3]) if len(data) == 4 and before_pixels else cicp
            elif name in (b"tEXt", b"zTXt", b"iTXt"):
                length_of_text = _length_of_text(name, data)
                keep = length_of_text is not None and text_in_all + length_of_text <= _MAX_TEXT_IN_ALL
                text_in_all += length_of_text or 0 if keep else 0
            else:
                keep = length >= _MIN_LENGTHS.get(name, 0)
        if keep and kept and kept[-1][1] == position:
            kept[-1] = kept[-1][0], end
        elif keep:
            kept.append((position, end))
        all_kept &= keep
        position = end
        if name == b"IEND":
            break
    if all_kept:
        return Chunks(file, icc_profile, cicp)
    return Chunks(_joined(file, [(0, len(_SIGNATURE)), *kept, (position, size)]), icc_profile, cicp)


def sixteen_bit_rgb(file: BinaryIO) -> np.ndarray | None:
    """Decode an RGB PNG file with 16 bits per channel to uint16 (height, width, 3); None for other kinds.

    Pillow keeps only the high byte. Decoding the same file as little-endian yields the low byte.
    """
    halves = []
    for order in ("B", "L"):
        stream = read_chunks(file).stream
        stream.seek(0)
        image = PngImagePlugin.PngImageFile(stream, "")
        if not image.tile or image.tile[0].args not in ("RGB;16B", "RGBA;16B"):
            return None
        image.tile = [image.tile[0]._replace(args=f"{image.mode};16{order}")]
        image.load()
        halves.append(np.asarray(image)[:, :, :3])
    return halves[0].astype(np.uint16) << 8 | halves[1]


def _joined(file: BinaryIO, parts: list[tuple[int, int]]) -> BinaryIO:
    out = io.BytesIO()
    for start, end in parts:
        file.seek(start)
        out.write(file.read(end - start))
    out.seek(0)
    return out


def _profile(data: bytes) -> bytes | None:
    """Return the ICC profile of an iCCP chunk; None if it cannot be decompressed."""
    _, _, packed = data.partition(b"\0")
    return _unpacked(packed[1:], _MAX_PROFILE) if packed[:1] == b"\0" else None


def _length_of_text(name: bytes, data: bytes) -> int | None:
    """Return how many bytes of text a chunk decompresses to; None if it is invalid or too long."""
    if name == b"tEXt":
        return len(data)
    _, _, rest = data.partition(b"\0")
    if name == b"zTXt":
        if rest[:1] not in (b"", b"\0"):
            return None
        packed = rest[1:]
    else:
        compressed, method = rest[:1], rest[1:2]
        if compressed != b"\1":
            return len(data)
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if method != b"\0":
            return None
    text = _unpacked(packed, _MAX_TEXT - 1)
    return None if text is None else len(text)


def _unpacked(packed: bytes, longest: int) -> bytes | None:
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(packed, longest + 1)
    except zlib.error:
        return None
    return data if len(data) <= longest else None
