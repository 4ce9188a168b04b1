"""Read EXIF metadata with Pillow's parser of TIFF directories."""

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
_ZONE_HOURS = 0x882A  # of TIFF/EP, in whole hours
# Taken, digitised, file written: (time, UTC offset), in order of preference.
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012), (_WRITTEN, 0x9010))
_WANTED = (
    _DESCRIPTION,
    _MAKE,
    _MODEL,
    _LENS_MODEL,
    _CAMERA_OF_DNG,
    _XP_TITLE,
    _XP_COMMENT,
    _XP_KEYWORDS,
    _ZONE_HOURS,
    *(tag for pair in _TIMES for tag in pair),
)

Tags = dict[int, Any]


def read_exif(exif: Image.Exif) -> Metadata:
    """Read metadata from Pillow's EXIF data. Corrupt tags count as missing; nothing is raised."""
    return metadata_from_tags(_tags(exif), _directory(exif, _EXIF_IFD), _directory(exif, _GPS_IFD))


def metadata_from_tags(main: Tags, details: Tags, place: Tags) -> Metadata:
    """Build metadata from the tags of the main, EXIF and GPS directories.

    Some programs write EXIF tags into the main directory, so they are accepted there too.
    """
    tags = {**main, **{tag: value for tag, value in details.items() if not _is_blank(value)}}
    taken_at, is_file_time = _taken_at(tags)
    latitude = degrees(place.get(2), place.get(1), "NS", 90.0)
    longitude = degrees(place.get(4), place.get(3), "EW", 180.0)
    # Receivers write exactly 0, 0 before they have a fix.
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
    """Convert degrees, minutes, seconds and a hemisphere to signed degrees; None if they are invalid.

    `parts`: numbers, or text such as "48,51.4". Minutes and seconds that are not numbers, such as 0/0, count as 0: the
    place is then less precise, not wrong. Without a hemisphere the sign is unknown, so the result is None.
    """
    sign = (_text(hemisphere, 10) or " ")[0].upper()
    if sign not in letters:
        return None
    if isinstance(parts, str):
        parts = _parts_of(parts)
    try:
        values = [float(part) for part in (parts if isinstance(parts, tuple | list) else (parts,))][:3]
    except Exception:  # EXIF rationals with denominator 0 raise various errors
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
    """Split "48,51.4" or "48 51 24.5"; return () if minutes or seconds reach 60, as with a decimal comma."""
    parts = tuple(text.strip(" \0").replace(",", " ").replace(":", " ").split())
    if not all(re.fullmatch(r"\d{1,3}(\.\d*)?|\d{1,4}/\d{1,4}", part, re.ASCII) for part in parts):
        return ()
    return parts if all(float(part) < 60 for part in parts[1:]) else ()


def _taken_at(tags: Tags) -> tuple[Timestamp | None, bool]:
    """Return when the picture was taken, and whether that is only the time its file was written."""
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
        # The offset may be stored with another tag that has the same time.
        same = (m.offset for m in known if m and (m.day, m.time) == (chosen.day, chosen.time) and m.offset)
        chosen = Timestamp(chosen.day, chosen.time, next(same, None) or _zone(tags.get(_ZONE_HOURS)))
    return chosen, is_file_time and chosen is not None


def _is_blank(value: Any) -> bool:
    """Return whether a tag is only a placeholder: blanks, possibly with the colons of a date."""
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
        except Exception:  # one corrupt tag must not cost the others
            continue
    return found


def _directory(exif: Image.Exif, which: int) -> Tags:
    try:
        return dict(exif.get_ifd(which))
    except Exception:  # corrupt directory
        return {}


def _text(value: Any, longest: int) -> str | None:
    """Return EXIF text as `clean` does, decoding bytes, and Latin-1 that contains UTF-8."""
    try:
        if isinstance(value, tuple | list) and value:
            value = value[0]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, str):
            # Pillow decodes EXIF ASCII as Latin-1, but phones write UTF-8.
            try:
                value = value.encode("latin-1").decode("utf-8")
            except UnicodeError:
                value = str(value)
        return clean(value, longest)
    except Exception:  # a str subclass from a corrupt tag
        return None


def _utf16(value: Any) -> str | None:
    """Decode the text of Windows' XP tags, UTF-16 stored as bytes."""
    try:
        return bytes(value).decode("utf-16-le", "replace") if isinstance(value, bytes | tuple | list) else None
    except (ValueError, TypeError):
        return None
