"""PNG files with intact pixels are decoded, whatever is wrong with their other chunks."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import open_picture

from .make_files import SHARED, corners, encoded, png_chunk
from .test_declared_colour import SRGB, assert_patches, eight, profile, stored

CASES = SHARED / "cases"
TWO_MEGABYTES = b"all work and no play " * 100_000


def with_chunks(*chunks: bytes, at_end: bool = False, image: Image.Image | None = None) -> bytes:
    data = encoded(image or corners(), "PNG")
    at = len(data) - 12 if at_end else 33
    return data[:at] + b"".join(chunks) + data[at:]


def damaged(chunk: bytes) -> bytes:
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("name", ["k14_badcrc_text.png", "k15_bigtext.png", "k15b_bigxmp.png"])
def test_shared_cases(name: str) -> None:
    assert_patches(CASES / name, shortest_side=64)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(TWO_MEGABYTES)),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(TWO_MEGABYTES)),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TWO_MEGABYTES),
        png_chunk(b"tEXt", b"Comment\0" + TWO_MEGABYTES * 20),
        png_chunk(b"zTXt", b"Comment\0\7" + zlib.compress(b"compressed by nobody knows what")),
        png_chunk(b"zTXt", b"Comment\0\0no zlib"),
        png_chunk(b"gAMA", b"\0"),
        png_chunk(b"cHRM", b"\0\0"),
        png_chunk(b"sRGB", b""),
        png_chunk(b"pHYs", b"\0"),
        png_chunk(b"iCCP", b"name\0\7what"),
        png_chunk(b"iCCP", b""),
        png_chunk(b"iCCP", b"name\0\0no zlib"),
        png_chunk(b"cICP", b"\1"),
        png_chunk(b"eXIf", b"no EXIF"),
        png_chunk(b"acTL", b"\0"),
        *(damaged(png_chunk(name, bytes(40))) for name in (b"tEXt", b"zTXt", b"iTXt", b"iCCP")),
        *(damaged(png_chunk(name, bytes(40))) for name in (b"gAMA", b"pHYs", b"tIME", b"prVt")),
    ],
    ids=range(24),
)
def test_corrupt_and_huge_chunks_are_skipped(chunk: bytes, at_end: bool) -> None:
    picture = open_picture(with_chunks(chunk, at_end=at_end))
    assert picture.image.tobytes() == corners().tobytes()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"eXIf", b"sBIT", b"abCd"]
    ),
    content=st.binary(max_size=60),
    at_end=st.booleans(),
)
def test_any_content_of_an_ancillary_chunk_decodes(name: bytes, content: bytes, at_end: bool) -> None:
    picture = open_picture(with_chunks(png_chunk(name, content), at_end=at_end))
    assert picture.image.size == corners().size


def test_a_profile_of_two_megabytes_is_used() -> None:
    linear = profile(None, 1.0)
    padded = struct.pack(">I", len(linear) + 2_000_000) + linear[4:] + np.random.default_rng(1).bytes(2_000_000)
    chunk = png_chunk(b"iCCP", b"large\0\0" + zlib.compress(padded))
    assert_patches(with_chunks(chunk, image=eight(stored(SRGB, lambda light: light))))


def test_intact_text_stays_readable(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Acme", "Cam"
    data = encoded(corners(), "PNG", exif=exif.tobytes())
    data = data[:33] + damaged(png_chunk(b"tEXt", b"Comment\0damaged")) + data[33:]
    assert open_picture(data).metadata.camera == "Acme Cam"


def test_corrupt_pixels_and_headers_still_fail() -> None:
    data = encoded(corners(), "PNG")
    at = data.index(b"IDAT")
    for broken in (
        data[:40],
        data[: at + 20],
        data[:16] + b"\0\0\0\0" + data[20:],
        data[:at] + b"IDOT" + data[at + 4 :],
    ):
        with pytest.raises(UnreadableImage) as caught:
            open_picture(broken)
        assert caught.value.kind in ("truncated", "unreadable")
