"""Read IPTC-IIM records, which agencies and archives fill in: date, title, caption, keywords."""

from __future__ import annotations

from typing import Any

from PIL import Image, IptcImagePlugin

from clipkit.images.metadata_record import DESCRIPTION_LENGTH, Metadata, clean, clean_keywords
from clipkit.images.timestamps import Timestamp, most_precise, parse_timestamp

_CHARACTER_SET, _UTF8 = (1, 90), b"\x1b%G"
_TITLE, _HEADLINE, _CAPTION, _KEYWORDS = (2, 5), (2, 105), (2, 120), (2, 25)
# Created, digitised: (date, time), in order of preference.
_TIMES = (((2, 55), (2, 60)), ((2, 62), (2, 63)))


def read_iptc(image: Image.Image) -> Metadata:
    """Read the metadata of a JPEG or TIFF picture's records; corrupt ones are ignored."""
    try:
        records: dict[Any, Any] = IptcImagePlugin.getiptcinfo(image) or {}  # type: ignore[arg-type]
    except Exception:  # Pillow raises almost anything on corrupt records
        return Metadata()
    encodings = ("utf-8",) if records.get(_CHARACTER_SET) == _UTF8 else ("utf-8", "cp1252", "latin-1")

    def texts(key: tuple[int, int]) -> list[str]:
        value = records.get(key)
        values = value if isinstance(value, list) else [value]
        return [_decoded(one, encodings) for one in values if isinstance(one, bytes)]

    def line(key: tuple[int, int]) -> str | None:
        return next((found for text in texts(key) if (found := clean(text, DESCRIPTION_LENGTH))), None)

    def moment(date: tuple[int, int], time: tuple[int, int]) -> Timestamp | None:
        return parse_timestamp(f"{line(date) or ''}T{line(time) or ''}")

    taken_at = most_precise(moment(date, time) for date, time in _TIMES)
    return Metadata(
        taken_at=str(taken_at) if taken_at else None,
        description=line(_CAPTION),
        title=line(_TITLE) or line(_HEADLINE),
        keywords=clean_keywords(texts(_KEYWORDS)),
    )


def _decoded(data: bytes, encodings: tuple[str, ...]) -> str:
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode(encodings[0], "replace")
