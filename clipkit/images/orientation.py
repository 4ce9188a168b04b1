"""EXIF orientation: read it, and turn a picture upright."""

from __future__ import annotations

from PIL import Image

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid.

    The JPEG XL decoder returns upright pictures. For AVIF and HEIF only the `irot` and `imir` boxes count: Pillow
    reports them as EXIF, and libheif has already applied them. So the XMP that `getexif` falls back on is ignored.
    """
    if image.format == "JXL":
        return 1
    try:
        exif = image.getexif()
        if image.format in ("AVIF", "HEIF"):
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
        value = int(exif.get(_ORIENTATION, 1))
    except Exception:  # on corrupt EXIF data, Pillow raises almost anything
        return 1
    return value if value in range(1, 9) else 1


def swaps_sides(orientation: int) -> bool:
    """Return whether an EXIF orientation swaps width and height."""
    return orientation >= 5


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """Return the picture upright, given its EXIF orientation (1 to 8)."""
    transpose = _TRANSPOSE.get(orientation)
    return image if transpose is None else image.transpose(transpose)
