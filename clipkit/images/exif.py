"""EXIF: what the camera wrote beside the pixels, read with Pillow's parser of TIFF directories."""

from __future__ import annotations

import math
import re
from typing import Any

from PIL import Image

from clipkit.images.metadata_record import DESCRIPTION_LENGTH, NAME_LENGTH, Metadata, camera_name, clean, clean_keywords
from clipkit.images.timestamps import Timestamp, most_precise, parse_offset, parse_timestamp

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_DESCRIPTION, _MAKE, _MODEL, _WRITTEN, _LENS_MODEL, _CAMERA_OF_DNG = 0x010E, 0x010F, 0x0110, 0x0132, 0xA434, 0xC614
_XP_TITLE, _XP_COMMENT, _XP_KEYWORDS = 0x9C9B, 0x9C9C, 0x9C9E
_ZONE_HOURS = 0x882A  # TIFF/EP's, in whole hours
# When it was taken, else when it was digitised, else when the file was written; each with its UTC offset.
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012), (_WRITTEN, 0x9010))
_WANTED = (
    _DESCRIPTION, _MAKE, _MODEL, _LENS_MODEL, _CAMERA_OF_DNG, _XP_TITLE, _XP_COMMENT, _XP_KEYWORDS, _ZONE_HOURS,
    *(tag for pair in _TIMES for tag in pair),
)  # fmt: skip

Tags = dict[int, Any]


def read_exif(exif: Image.Exif) -> Metadata:
    """Return what Pillow's EXIF data says. Broken tags count as absent; nothing is raised."""
    return metadata_from_tags(_tags(exif), _directory(exif, _EXIF_IFD), _directory(exif, _GPS_IFD))


def metadata_from_tags(main: Tags, details: Tags, place: Tags) -> Metadata:
    """Return what the tags of the main, the EXIF and the GPS directory say.

    Some programs write tags of the EXIF directory into the main one: they are taken from there as well.
    """
    tags = {**main, **{tag: value for tag, value in details.items() if not _is_blank(value)}}
    taken_at, is_file_time = _taken_at(tags)
    latitude = degrees(place.get(2), place.get(1), "NS", 90.0)
    longitude = degrees(place.get(4), place.get(3), "EW", 180.0)
    # Exactly 0, 0 is what receivers write before they have a fix; nobody photographs there.
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        latitude = longitude = None
    camera = camera_name(_text(tags.get(_MAKE), NAME_LENGTH), _text(tags.get(_MODEL), NAME_LENGTH))
    return Metadata(
        taken_at=str(taken_at) if taken_at else None,
        camera=camera or _text(tags.get(_CAMERA_OF_DNG), NAME_LENGTH),
        lens=_text(tags.get(_LENS_MODEL), NAME_LENGTH),
        latitude=latitude,
        longitude=longitude,
        description=_text(tags.get(_DESCRIPTION), DESCRIPTION_LENGTH)
        or clean(_utf16(tags.get(_XP_COMMENT)), DESCRIPTION_LENGTH),
        title=clean(_utf16(tags.get(_XP_TITLE)), DESCRIPTION_LENGTH),
        keywords=clean_keywords((_utf16(tags.get(_XP_KEYWORDS)) or "").split(";")),
        is_file_time=is_file_time,
    )


def degrees(parts: Any, hemisphere: Any, letters: str, limit: float) -> float | None:
    """Turn degrees, minutes, seconds and a hemisphere into signed degrees; without a hemisphere the sign is a guess.

    `parts` are numbers, or text as "48,51.4". Minutes and seconds that are no numbers, as 0/0 is, count as 0: the place
    is then less exact, not wrong.
    """
    sign = (_text(hemisphere, 10) or " ")[0].upper()
    if sign not in letters:
        return None
    if isinstance(parts, str):
        parts = _parts_of(parts)
    try:
        values = [float(part) for part in (parts if isinstance(parts, tuple | list) else (parts,))][:3]
    except Exception:  # EXIF rationals divide by zero in more ways than one
        return None
    if not values or not math.isfinite(values[0]):
        return None
    values = [0.0 if math.isnan(value) else value for value in values]
    if not all(math.isfinite(value) and value >= 0 for value in values):
        return None
    total = sum(value / 60**power for power, value in enumerate(values))
    if total > limit:
        return None
    return -total if sign == letters[1] else total


def _parts_of(text: str) -> tuple[str, ...]:
    """Split "48,51.4" or "48 51 24.5"; nothing for minutes or seconds of 60 and more, as a decimal comma gives."""
    parts = tuple(text.strip(" \0").replace(",", " ").replace(":", " ").split())
    if not all(re.fullmatch(r"\d{1,3}(\.\d*)?|\d{1,4}/\d{1,4}", part, re.ASCII) for part in parts):
        return ()
    return parts if all(float(part) < 60 for part in parts[1:]) else ()


def _taken_at(tags: Tags) -> tuple[Timestamp | None, bool]:
    """Return when the picture was taken, and whether that is merely when its file was written."""
    moments = [(_moment(tags.get(time_tag)), tags.get(offset_tag)) for time_tag, offset_tag in _TIMES]
    known = [
        Timestamp(moment.day, moment.time, _offset(offset) or moment.offset) if moment and moment.time else moment
        for moment, offset in moments
    ]
    chosen = most_precise(known[:2])
    is_file_time = chosen is None
    written = known[2]
    if chosen is None or chosen.time is None and written and written.day == chosen.day:
        chosen = written
    if chosen and chosen.time and not chosen.offset:
        # The offset may stand with another tag that shows the same clock at the same moment.
        same = (m.offset for m in known if m and (m.day, m.time) == (chosen.day, chosen.time) and m.offset)
        chosen = Timestamp(chosen.day, chosen.time, next(same, None) or _zone(tags.get(_ZONE_HOURS)))
    return chosen, is_file_time and chosen is not None


def _is_blank(value: Any) -> bool:
    """Tell a tag that is there for the sake of the format alone: spaces, and the colons of a date between them."""
    return value is None or (isinstance(value, str) and not value.strip(" :\0"))


def _moment(value: Any) -> Timestamp | None:
    return parse_timestamp(_text(value, 40))


def _offset(value: Any) -> str | None:
    return parse_offset(_text(value, 10))


def _zone(value: Any) -> str | None:
    hours = value[0] if isinstance(value, tuple | list) and value else value
    return parse_offset(f"{hours:+d}") if isinstance(hours, int) and not isinstance(hours, bool) else None


def _tags(exif: Image.Exif) -> Tags:
    found: Tags = {}
    for tag in _WANTED:
        try:
            found[tag] = exif.get(tag)
        except Exception:  # one broken tag should not cost the others
            continue
    return found


def _directory(exif: Image.Exif, which: int) -> Tags:
    try:
        return dict(exif.get_ifd(which))
    except Exception:  # as above
        return {}


def _text(value: Any, longest: int) -> str | None:
    """Return EXIF text as `clean` does; bytes and Latin-1 that hold UTF-8 are read as that."""
    try:
        if isinstance(value, tuple | list) and value:
            value = value[0]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, str):
            # Pillow reads EXIF's ASCII as Latin-1; phones write UTF-8 there.
            try:
                value = value.encode("latin-1").decode("utf-8")
            except UnicodeError:
                value = str(value)
        return clean(value, longest)
    except Exception:  # a str subclass from a broken tag
        return None


def _utf16(value: Any) -> str | None:
    """Return the text of Windows' own tags, which hold UTF-16 as bytes."""
    try:
        return bytes(value).decode("utf-16-le", "replace") if isinstance(value, bytes | tuple | list) else None
    except (ValueError, TypeError):
        return None
