"""Find the colour space that a file declares, in any of the ways that its format allows."""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import ImageFile

from clipkit.images.box_colour import heif_colour, jpeg2000_colour
from clipkit.images.colour import Declared
from clipkit.images.colour_space import ADOBE_RGB, ColourSpace, from_cicp, from_gamma

_EXIF_IFD, _INTEROP_IFD = 0x8769, 0xA005
_COLOUR_SPACE, _INTEROP_INDEX = 0xA001, 1
_SRGB, _ADOBE = 1, 2


def declared_colour(image: ImageFile.ImageFile, file: BinaryIO) -> Declared:
    """Return the colour that an opened picture declares, in the order of precedence of its format.

    PNG: cICP, ICC profile, sRGB, gAMA and cHRM (PNG, third edition, 4.3).
    AVIF and HEIF: ICC profile, then nclx.
    All formats: then EXIF, which can declare sRGB or Adobe RGB (DCF 2.0).
    """
    profile = image.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) and profile else None
    found: Declared = profile
    if image.format == "PNG":
        found = _of_png(image.info, profile)
    elif image.format == "JXL":
        found = profile or image.info.get("colour_space")
    elif image.format in ("AVIF", "HEIF") and profile is None:
        boxes = heif_colour(file)
        found = boxes.icc_profile or (from_cicp(*boxes.cicp) if boxes.cicp else None)
    elif image.format == "JPEG2000" and profile is None:
        found = jpeg2000_colour(file).icc_profile
    return found if found is not None else _of_exif(image)


def _of_png(info: dict[Any, Any], profile: bytes | None) -> Declared:
    cicp = info.get("cicp")
    if isinstance(cicp, tuple) and cicp[2] == 0:  # PNG stores only RGB; any other matrix is an error
        space = from_cicp(cicp[0], cicp[1])
        if space is not None:
            return space
    if profile is not None:
        return profile
    if isinstance(info.get("srgb"), int):
        return ColourSpace()
    gamma, chromaticities = info.get("gamma"), info.get("chromaticity")
    return from_gamma(
        gamma if isinstance(gamma, float) else None, chromaticities if isinstance(chromaticities, tuple) else None
    )


def _of_exif(image: ImageFile.ImageFile) -> ColourSpace | None:
    try:
        exif = image.getexif()
        space = exif.get_ifd(_EXIF_IFD).get(_COLOUR_SPACE)
        if space == _ADOBE:  # not in the standard, but some cameras write it
            return ADOBE_RGB
        if space == _SRGB:
            return None
        index = exif.get_ifd(_INTEROP_IFD).get(_INTEROP_INDEX)
        index = index.encode("latin-1", "replace") if isinstance(index, str) else index
        return ADOBE_RGB if isinstance(index, bytes) and index.startswith(b"R03") else None
    except Exception:  # corrupt EXIF raises almost anything; treat it as no declaration
        return None
