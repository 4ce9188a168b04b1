"""What a picture's file says of how it was taken: EXIF, then XMP, then IPTC."""

from __future__ import annotations

from PIL import Image

from clipkit.images.exif import orientation_of, read_exif
from clipkit.images.iptc import read_iptc
from clipkit.images.metadata_record import Metadata, merged
from clipkit.images.opening import quiet
from clipkit.images.xmp import read_xmp

__all__ = ["Metadata", "merged", "read_metadata", "read_orientation"]


def read_metadata(image: Image.Image) -> Metadata:
    """Read the metadata of an opened picture. What is broken gives empty fields; nothing is raised, nothing warned of.

    Where EXIF has nothing, XMP is asked, then IPTC.
    """
    with quiet():
        try:
            exif = read_exif(image.getexif())
        except Exception:  # Pillow's EXIF reader lets through whatever the damaged bytes lead to
            exif = Metadata()
        return merged(exif, read_xmp(_packet(image)), read_iptc(image))


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense.

    JPEG XL comes upright from its decoder. AVIF and HEIF are turned by their `irot` and `imir` boxes alone, which
    Pillow gives as EXIF and libheif has applied: there XMP, which `getexif` falls back on, has no say.
    """
    if image.format == "JXL":
        return 1
    try:
        exif = image.getexif()
        if image.format in ("AVIF", "HEIF"):
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
        return orientation_of(exif)
    except Exception:  # as above
        return 1


def _packet(image: Image.Image) -> bytes | str:
    info = getattr(image, "info", {})
    for name in ("xmp", "XML:com.adobe.xmp"):
        if isinstance(packet := info.get(name), bytes | str):
            return packet
    try:
        packet = image.getexif().get(700)  # where TIFF files keep it
    except Exception:  # as above
        return b""
    return packet if isinstance(packet, bytes) else b""
