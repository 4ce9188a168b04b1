"""Read a picture's metadata from EXIF, XMP and IPTC, in that order of preference."""

from __future__ import annotations

from PIL import Image

from clipkit.images.exif import read_exif
from clipkit.images.iptc import read_iptc
from clipkit.images.metadata_record import Metadata, merge_metadata
from clipkit.images.opening import quiet
from clipkit.images.xmp import read_xmp


def read_metadata(image: Image.Image) -> Metadata:
    """Read the metadata of an opened picture: EXIF first, then XMP, then IPTC.

    Corrupt fields are left empty, without errors or warnings.
    """
    with quiet():
        try:
            exif = read_exif(image.getexif())
        except Exception:  # on corrupt EXIF data, Pillow raises almost anything
            exif = Metadata()
        return merge_metadata(exif, read_xmp(_packet(image)), read_iptc(image))


def _packet(image: Image.Image) -> bytes | str:
    info = getattr(image, "info", {})
    for name in ("xmp", "XML:com.adobe.xmp"):
        if isinstance(packet := info.get(name), bytes | str):
            return packet
    try:
        packet = image.getexif().get(700)  # in TIFF files
    except Exception:  # on corrupt EXIF data, Pillow raises almost anything
        return b""
    return packet if isinstance(packet, bytes) else b""
