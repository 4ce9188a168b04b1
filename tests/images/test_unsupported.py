"""Intact files that no decoder supports are reported as such; AVIF and HEIF orientation comes from boxes only."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import open_picture

from .make_files import SHARED, corners, encoded

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def refused(data: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        open_picture(data)
    return caught.value


def test_rare_jpegs() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = np.asarray(corners()).astype(np.uint16) * 16
    for data in (
        imagecodecs.jpeg8_encode(deep, bitspersample=12),
        imagecodecs.ljpeg_encode(deep[:, :, 0]),
        imagecodecs.jpegls_encode(np.asarray(corners())),
    ):
        error = refused(bytes(data))
        assert error.kind == "unsupported" and "damaged" not in error.reason and "memory" not in error.reason


def test_rare_bitmaps() -> None:
    bmp = bytearray(encoded(corners(), "BMP"))
    bmp[30] = 4  # its compression: JPEG
    error = refused(bytes(bmp))
    assert error.kind == "unsupported" and "damaged" not in error.reason


def test_too_large_does_not_mention_memory() -> None:
    data = encoded(corners(), "PNG")
    with pytest.raises(UnreadableImage) as caught:
        open_picture(data[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + data[24:])
    assert "memory" not in caught.value.reason


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the shared cases are not here")
def test_shared_avif_ignores_xmp_orientation() -> None:
    picture = open_picture(SHARED / "cases" / "o17_avif_xmp6.avif")
    assert (picture.width, picture.height) == (300, 200)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_and_heif_ignore_xmp_orientation(orientation: int) -> None:
    xmp = XMP.replace(b'"6"', b'"%d"' % orientation)
    image = corners(96, 64)
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    # Misspelt while encoding, because the encoder would convert it to a box.
    pillow_heif.from_pillow(image).save(buffer, xmp=xmp.replace(b"Orientation", b"Orientatiox"))
    heif = buffer.getvalue().replace(b"Orientatiox", b"Orientation")
    assert b"Orientation" in heif and b"irot" not in heif
    avif = encoded(image, "AVIF", xmp=xmp)
    assert b"Orientation" in avif
    for data in (avif, heif):
        picture = open_picture(data)
        assert (picture.width, picture.height) == (96, 64)
        assert picture.image.getpixel((5, 5))[0] > 200 and picture.image.getpixel((5, 5))[1] < 60
    # The boxes apply, whatever XMP says.
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_picture(encoded(image, "AVIF", xmp=xmp, exif=exif.tobytes())).width == 64
