"""The metadata of a picture as one record, and how to clean and merge what several sources say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NAME_LENGTH, DESCRIPTION_LENGTH = 100, 500
_MAX_KEYWORDS = 200
_COMPANY = re.compile(
    r"[\s,]+(corporation|corp\.?|co\.?,?\s*ltd\.?|company|inc\.?|imaging|optical|electronics|ltd\.?|ag|gmbh)\.?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What EXIF, XMP and IPTC say about a picture; missing and invalid fields are empty.

    `taken_at`: local time, "YYYY-MM-DDTHH:MM:SS", plus the UTC offset ("+02:00") if known; midnight if only the day is.
    `is_file_time`: whether that is only the time the file was written, the last resort.
    `latitude`, `longitude`: degrees, north and east positive; both or neither.
    """

    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    description: str | None = None
    title: str | None = None
    keywords: tuple[str, ...] = ()
    is_file_time: bool = False

    @property
    def local_time(self) -> str | None:
        """The local time, "YYYY-MM-DDTHH:MM:SS"."""
        return self.taken_at[:19] if self.taken_at else None

    @property
    def utc_offset(self) -> str | None:
        """The UTC offset of the local time, such as "+02:00"; None if unknown."""
        return self.taken_at[19:] or None if self.taken_at else None


def merge_metadata(*sources: Metadata) -> Metadata:
    """Merge records: each field from the first source that has it, keywords from all.

    File times are used only if no source has a better one. Latitude and longitude always come from the same source.
    """
    dated = sorted((source for source in sources if source.taken_at), key=lambda source: source.is_file_time)
    placed = [source for source in sources if source.latitude is not None and source.longitude is not None]
    return Metadata(
        taken_at=dated[0].taken_at if dated else None,
        camera=_first(source.camera for source in sources),
        lens=_first(source.lens for source in sources),
        latitude=placed[0].latitude if placed else None,
        longitude=placed[0].longitude if placed else None,
        description=_first(source.description for source in sources),
        title=_first(source.title for source in sources),
        keywords=tuple(dict.fromkeys(word for source in sources for word in source.keywords))[:_MAX_KEYWORDS],
        is_file_time=bool(dated) and dated[0].is_file_time,
    )


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


def clean(value: Any, longest: int) -> str | None:
    """Return text as one line of printable Unicode, at most `longest` characters; None if there is none."""
    if not isinstance(value, str):
        return None
    value = value.encode("utf-8", "replace").decode("utf-8").split("\0", 1)[0]
    value = " ".join("".join(c if c.isprintable() else " " for c in value[: longest * 4]).split())
    if len(value) > longest:
        value = value[: longest - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return value or None


def clean_keywords(values: Iterable[Any], longest: int = NAME_LENGTH) -> tuple[str, ...]:
    """Return cleaned keywords without duplicates, in order; at most 200."""
    lines = (clean(value, longest) for value in values)
    return tuple(dict.fromkeys(line for line in lines if line))[:_MAX_KEYWORDS]


def camera_name(make: str | None, model: str | None) -> str | None:
    """Join make and model without repetition: "Canon EOS 5D", not "Canon Canon EOS 5D"."""
    if not make or not model:
        return model or make
    brand = make
    while (shorter := _COMPANY.sub("", brand)) != brand and shorter:
        brand = shorter
    if model.lower().startswith(brand.split()[0].lower()):
        return model
    return f"{brand} {model}"[:NAME_LENGTH]
