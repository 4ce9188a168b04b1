"""Save a generated or edited picture with all its marks, atomically."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clipkit.atomic import atomic_write
from clipkit.errors import ClipkitError
from clipkit.marks.credentials import Certificate, sign
from clipkit.marks.original import Edited
from clipkit.marks.provenance import Provenance
from clipkit.marks.source_type import COMPOSITE, ENHANCED, TRAINED
from clipkit.marks.watermark import detect, embed
from clipkit.marks.xmp import packet

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""File extension -> format, of what `save_marked` can write."""

PNG_KEYWORD = "clipkit"
"""Keyword of the PNG text chunk with the provenance."""

_QUALITY = 95
_SOFTWARE, _DESCRIPTION, _EXIF_IFD, _USER_COMMENT = 0x0131, 0x010E, 0x8769, 0x9286


def save_marked(
    image: Image.Image,
    path: str | Path,
    provenance: Provenance,
    *,
    certificate: Certificate | None = None,
    edited: Edited | None = None,
) -> bool:
    """Save a picture as PNG, JPEG or WebP, by the file extension, with marks that say that it is generated or edited.

    The marks: the invisible watermark in the pixels (RGB; transparency is dropped); IPTC's DigitalSourceType
    "trainedAlgorithmicMedia", software, query, model and seed as XMP and as PNG texts or EXIF; and a C2PA manifest, if
    `certificate` or the environment names a certificate. Except for the manifest, the bytes are deterministic. The file
    is written atomically.

    `edited`: says what of the picture is new. The marks then say "compositeWithTrainedAlgorithmicMedia" and name the
    original, and PNG and WebP files are lossless: only pixels that are new carry the watermark, and all others are
    written as they are. If no model made anything of it, they say "algorithmicallyEnhanced", and nothing of AI: there
    is no watermark.
    Returns whether the file carries the watermark; what is new of an edited picture may be too small for one.
    Raises ClipkitError for another extension and for a certificate that cannot sign; OSError if writing fails.
    """
    path = Path(path)
    format_name = format_for(path)
    source_type = _source_type(edited)
    if edited:
        provenance = _naming(edited, provenance)
    invented = edited is None or edited.invented
    marked = embed(image, edited.painted if edited else None) if invented else image.convert("RGB")
    data = _encode(marked, format_name, provenance, source_type, lossless=edited is not None)
    certificate = certificate or Certificate.from_environment()
    if certificate:
        data = sign(data, format_name, provenance, certificate, source_type=source_type, edited=edited)
    with atomic_write(path) as file:
        file.write(data)
    return invented and detect(marked).found


def _source_type(edited: Edited | None) -> str:
    """Return IPTC's DigitalSourceType: what was generated stays generated."""
    if edited is None or edited.generated:
        return TRAINED
    return COMPOSITE if edited.invented else ENHANCED


def _naming(edited: Edited, provenance: Provenance) -> Provenance:
    """Return the provenance with the original's name, hash and marks."""
    return replace(
        provenance,
        model=provenance.model if edited.invented else "",
        parent=edited.content or None,
        parent_name=edited.name,
        parent_marks=edited.marks or None,
        region=edited.region if edited.invented else None,
    )


def format_for(path: Path) -> str:
    """Return the format for a file extension. Raises ClipkitError if it is not one of `FORMATS`."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise ClipkitError(f"cannot save a picture as {path.name!r}: use the extension .png, .jpg or .webp") from None


def _encode(image: Image.Image, format_name: str, provenance: Provenance, source_type: str, *, lossless: bool) -> bytes:
    out = io.BytesIO()
    xmp = packet(provenance, source_type)
    if format_name == "PNG":
        texts = PngInfo()
        texts.add_itxt("Software", _clean(provenance.software))
        texts.add_itxt("Description", _clean(provenance.query))
        texts.add_itxt(PNG_KEYWORD, provenance.to_text())
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image.save(out, "PNG", pnginfo=texts)
    else:
        quality = {"subsampling": 0} if format_name == "JPEG" else {"lossless": lossless, "exact": lossless}
        image.save(out, format_name, quality=_QUALITY, exif=_exif(provenance), xmp=xmp, **quality)
    return out.getvalue()


def _exif(provenance: Provenance) -> Image.Exif:
    exif = Image.Exif()
    exif[_SOFTWARE] = _clean(provenance.software).encode()
    exif[_DESCRIPTION] = _clean(provenance.query).encode()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"ASCII\0\0\0" + provenance.to_text().encode("ascii")
    return exif


def _clean(text: str) -> str:
    """Replace NULs, which end a text in both formats, and lone surrogates, which cannot be encoded."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
