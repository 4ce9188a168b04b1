"""What the camera wrote beside the pixels: time, place, camera."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image

from clipkit.images.opening import quiet

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_MAKE, _MODEL, _DESCRIPTION, _LENS_MODEL = 0x010F, 0x0110, 0x010E, 0xA434
# When it was taken, else when it was digitised, else when the file was written; each with its UTC offset.
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012), (0x0132, 0x9010))
_NAME_LENGTH, _DESCRIPTION_LENGTH = 100, 500
_FIRST_PHOTOGRAPH = 1826
_COMPANY = re.compile(
    r"[\s,]+(corporation|corp\.?|co\.?,?\s*ltd\.?|company|inc\.?|imaging|optical|electronics|ltd\.?|ag|gmbh)\.?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What EXIF says; every field is None where it says nothing, or nonsense.

    `taken_at` is local time, "YYYY-MM-DDTHH:MM:SS", with an offset ("+02:00") where EXIF gives one; `latitude` and
    `longitude` are degrees, north and east positive, both or neither.
    """

    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    description: str | None = None


def read_metadata(image: Image.Image) -> Metadata:
    """Read the EXIF data of an opened picture. Broken EXIF gives empty fields; nothing is raised, nothing warned of."""
    with quiet():
        return _read(image)


def _read(image: Image.Image) -> Metadata:
    try:
        exif = image.getexif()
    except Exception:  # Pillow's EXIF reader lets through whatever the damaged bytes lead to
        return Metadata()
    main, details, place = _tags(exif), _ifd(exif, _EXIF_IFD), _ifd(exif, _GPS_IFD)
    latitude, longitude = _position(place)
    return Metadata(
        taken_at=_taken_at(main, details),
        camera=_camera(_text(main.get(_MAKE), _NAME_LENGTH), _text(main.get(_MODEL), _NAME_LENGTH)),
        lens=_text(details.get(_LENS_MODEL), _NAME_LENGTH),
        latitude=latitude,
        longitude=longitude,
        description=_text(main.get(_DESCRIPTION), _DESCRIPTION_LENGTH),
    )


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
        value = exif.get(0x0112, 1)
        return int(value) if int(value) in range(1, 9) else 1
    except Exception:  # as above
        return 1


def _tags(exif: Image.Exif) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for tag in (_MAKE, _MODEL, _DESCRIPTION, 0x0132):
        try:
            found[tag] = exif.get(tag)
        except Exception:  # one broken tag should not cost the others
            continue
    return found


def _ifd(exif: Image.Exif, which: int) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(which))
    except Exception:  # as above
        return {}


def _taken_at(main: dict[int, Any], details: dict[int, Any]) -> str | None:
    for time_tag, offset_tag in _TIMES:
        text = _text(details.get(time_tag, main.get(time_tag)), 40)
        match = re.match(r"(\d{4})[:\-/.](\d\d)[:\-/.](\d\d)[ T](\d\d):(\d\d):(\d\d)(?!\d)", text or "", re.ASCII)
        if not match:
            continue
        try:
            moment = datetime.fromisoformat("{}-{}-{}T{}:{}:{}".format(*match.groups()))
        except ValueError:
            continue
        if not _FIRST_PHOTOGRAPH <= moment.year <= datetime.now().year + 1:
            continue
        offset = _text(details.get(offset_tag), 10) or ""
        known = re.fullmatch(r"[+-](0\d|1[0-4]):[0-5]\d", offset, re.ASCII)
        return moment.isoformat() + (offset if known else "")
    return None


def _camera(make: str | None, model: str | None) -> str | None:
    if not make or not model:
        return model or make
    brand = make
    while (shorter := _COMPANY.sub("", brand)) != brand and shorter:
        brand = shorter
    if model.lower().startswith(brand.split()[0].lower()):
        return model
    return f"{brand} {model}"[:_NAME_LENGTH]


def _text(value: Any, longest: int) -> str | None:
    """Return a value as one clean line of real Unicode, cut to `longest` characters; None where nothing is left."""
    try:
        if isinstance(value, tuple | list) and value:
            value = value[0]
        if isinstance(value, str):
            # Pillow reads EXIF's ASCII as Latin-1; phones write UTF-8 there.
            try:
                value = value.encode("latin-1").decode("utf-8")
            except UnicodeError:
                value = value.encode("utf-8", "replace").decode("utf-8")
        elif isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        else:
            return None
    except Exception:  # a str subclass from a broken tag
        return None
    value = value.split("\0", 1)[0]
    value = " ".join("".join(c if c.isprintable() else " " for c in value[: longest * 4]).split())
    if len(value) > longest:
        value = value[: longest - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return value or None


def _position(place: dict[int, Any]) -> tuple[float | None, float | None]:
    latitude = _degrees(place.get(2), place.get(1), "NS", 90.0)
    longitude = _degrees(place.get(4), place.get(3), "EW", 180.0)
    # Exactly 0, 0 is what receivers write before they have a fix; nobody photographs there.
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None, None
    return latitude, longitude


def _degrees(parts: Any, hemisphere: Any, letters: str, limit: float) -> float | None:
    """Turn degrees, minutes, seconds and a hemisphere into signed degrees; without a hemisphere the sign is a guess."""
    sign = (_text(hemisphere, 10) or " ")[0].upper()
    if sign not in letters:
        return None
    try:
        values = [float(part) for part in (parts if isinstance(parts, tuple | list) else (parts,))][:3]
    except Exception:  # EXIF rationals divide by zero in more ways than one
        return None
    if not values or not all(math.isfinite(value) and value >= 0 for value in values):
        return None
    degrees = sum(value / 60**power for power, value in enumerate(values))
    if degrees > limit:
        return None
    return -degrees if sign == letters[1] else degrees
