"""Build picture files for the tests: patterns, a hand-written DNG, and headers that claim huge sizes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2].parent / "shared"

needs_shared = pytest.mark.skipif(not (SHARED / "formats").is_dir(), reason="the shared sample pictures are not here")


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture with red, green, blue and white quarters: every orientation of it looks different."""
    image = Image.new("RGB", (width, height), "white")
    image.paste((255, 0, 0), (0, 0, width // 2, height // 2))
    image.paste((0, 255, 0), (width // 2, 0, width, height // 2))
    image.paste((0, 0, 255), (0, height // 2, width // 2, height))
    return image


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def close_to(image: Image.Image, expected: Image.Image, tolerance: float) -> bool:
    """Return whether two pictures of the same size differ on average by at most `tolerance` of 255."""
    if image.size != expected.size:
        return False
    difference = np.asarray(image, np.int16) - np.asarray(expected.convert("RGB"), np.int16)
    return float(np.abs(difference).mean()) <= tolerance


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def bombs(side: int = 100_000) -> dict[str, bytes]:
    """Return small files whose headers claim `side` x `side` pixels (GIF: 65,535)."""
    png = png_header(side, side) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    bmp = b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b","
    gif += struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    tiff = tiff_file(
        [
            (256, "L", side),
            (257, "L", side),
            (258, "H", 8),
            (259, "H", 1),
            (262, "H", 1),
            (273, "L", 8),
            (277, "H", 1),
            (278, "L", side),
            (279, "L", 100),
        ]
    )
    return {
        "bomb.png": png,
        "bomb.bmp": bmp + bytes(900),
        "bomb.gif": gif,
        "bomb.tiff": tiff,
        "bomb.pgm": f"P5 {side} {side} 255\n".encode() + bytes(500),
    }


def tiff_file(tags: list[tuple[int, str, object]], data: bytes = b"", second: list | None = None) -> bytes:
    """Return a little-endian TIFF file. Tag types are B, H, L, s, R, r; the values "DATA" and "SECOND" are offsets."""
    codes = {"B": (1, 1), "s": (2, 1), "H": (3, 2), "L": (4, 4), "R": (5, 8), "r": (10, 8)}
    directories = [tags] + ([second] if second else [])
    starts, position = [], 8
    for directory in directories:
        starts.append(position)
        position += 2 + 12 * len(directory) + 4
    extra = bytearray()
    total_extra = 0
    for directory in directories:  # first pass: measure what does not fit into the entries
        for _, kind, value in directory:
            length = len(value) * codes[kind][1] if isinstance(value, list | bytes) else codes[kind][1]
            total_extra += length + length % 2 if length > 4 else 0
    data_at = position + total_extra
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for directory in directories:
        out += struct.pack("<H", len(directory))
        for tag, kind, value in sorted(directory, key=lambda entry: entry[0]):
            if value == "SECOND":
                value = starts[1]
            elif isinstance(value, str) and value.startswith("DATA"):
                value = data_at + int(value[4:] or 0)
            code, _ = codes[kind]
            if isinstance(value, bytes):
                packed, count = value, len(value)
            else:
                values = value if isinstance(value, list) else [value]
                count = len(values)
                if kind in "Rr":
                    packed = b"".join(struct.pack("<ii", round(v * 10000), 10000) for v in values)
                else:
                    packed = struct.pack(f"<{count}{kind}", *values)
            if len(packed) <= 4:
                out += struct.pack("<HHI", tag, code, count) + packed.ljust(4, b"\0")
            else:
                out += struct.pack("<HHII", tag, code, count, position + len(extra))
                extra += packed + b"\0" * (len(packed) % 2)
        out += struct.pack("<I", 0)
    assert position + len(extra) == data_at
    return bytes(out + extra) + data


def dng(
    image: Image.Image, *, preview: Image.Image | None = None, orientation: int = 1, details: list | None = None
) -> bytes:
    """Return a DNG file: the picture as a linear 16-bit RGGB mosaic, with a JPEG preview as first directory if given.

    Without a preview the sensor data is in the first directory, and `details` are the tags of an EXIF directory.
    """
    width, height = image.size
    linear = ((np.asarray(image, np.float64) / 255) ** 2.2 * 65535).astype(np.uint16)
    mosaic = linear[:, :, 1].copy()
    mosaic[0::2, 0::2] = linear[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = linear[1::2, 1::2, 2]
    sensor = mosaic.astype("<u2").tobytes()
    identity = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]  # XYZ to sRGB
    common = [
        (271, "s", b"Hand\0"),
        (272, "s", b"Hand Made\0"),
        (274, "H", orientation),
        (306, "s", b"2021:02:03 04:05:06\0"),
        (50706, "B", [1, 4, 0, 0]),
        (50707, "B", [1, 1, 0, 0]),
        (50708, "s", b"Hand Made\0"),
        (50721, "r", identity),
        (50728, "R", [1.0, 1.0, 1.0]),
        (50778, "H", 21),
    ]
    raw = [
        (254, "L", 0),
        (256, "L", width),
        (257, "L", height),
        (258, "H", 16),
        (259, "H", 1),
        (262, "H", 32803),
        (277, "H", 1),
        (278, "L", height),
        (279, "L", len(sensor)),
        (33421, "H", [2, 2]),
        (33422, "B", [0, 1, 1, 2]),
        (50714, "H", 0),
        (50717, "L", 65535),
    ]
    if preview is None:
        pointer = [(0x8769, "L", "SECOND")] if details else []
        return tiff_file(common + raw + pointer + [(273, "L", "DATA")], sensor, details)
    jpeg = encoded(preview, "JPEG", quality=95)
    jpeg += b"\0" * (len(jpeg) % 2)
    first = common + [
        (254, "L", 1),
        (256, "L", preview.width),
        (257, "L", preview.height),
        (258, "H", [8, 8, 8]),
        (259, "H", 7),
        (262, "H", 6),
        (273, "L", "DATA"),
        (277, "H", 3),
        (278, "L", preview.height),
        (279, "L", len(jpeg)),
        (330, "L", "SECOND"),
    ]
    return tiff_file(first, jpeg + sensor, raw + [(273, "L", f"DATA{len(jpeg)}")])
