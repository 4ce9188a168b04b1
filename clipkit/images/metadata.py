"""What a picture's file says of how it was taken: EXIF, then XMP, then IPTC."""

from __future__ import annotations

from PIL import Image

from clipkit.images.exif import read_exif
from clipkit.images.iptc import read_iptc
from clipkit.images.metadata_record import Metadata, merge_metadata
from clipkit.images.opening import quiet
from clipkit.images.xmp import read_xmp


def read_metadata(image: Image.Image) -> Metadata:
    """Read the metadata of an opened picture. What is broken gives empty fields; nothing is raised, nothing warned of.

    Where EXIF has nothing, XMP is asked, then IPTC.
    """
    with quiet():
        try:
            exif = read_exif(image.getexif())
        except Exception:  # Pillow's EXIF reader lets through whatever the damaged bytes lead to
            exif = Metadata()
        return merge_metadata(exif, read_xmp(_packet(image)), read_iptc(image))


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
