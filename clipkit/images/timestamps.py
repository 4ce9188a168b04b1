"""Parse timestamps as cameras and programs write them, valid or not quite."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time

_FIRST_PHOTOGRAPH = 1826
_DAY = r"(\d{4})[:\-/.] ?(\d{1,2})[:\-/.] ?(\d{1,2})(?!\d)"
_TIME = r"(\d{1,2}): ?(\d{1,2})(?:: ?(\d{1,2}))?(?!\d)"
_COMPACT = r"(\d{4})(\d\d)(\d\d)(?:[T ]?(\d\d)(\d\d)(\d\d)?)?(?!\d)"
_MOMENT = re.compile(rf"{_DAY}(?:[T ] ?{_TIME})?", re.ASCII)
_COMPACT_MOMENT = re.compile(_COMPACT, re.ASCII)
_REST = re.compile(r"(?:[.,]\d+)? ?(?:([ap])\.?m\b\.?)?", re.ASCII | re.IGNORECASE)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+\-\u2212])(\d{1,2}):?(\d\d)?|Z|UTC|GMT", re.ASCII | re.IGNORECASE)
_MAX_OFFSET = 14 * 60


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A day, optionally with the local time and its UTC offset, such as "+02:00"."""

    day: str
    time: str | None = None
    offset: str | None = None

    def __str__(self) -> str:
        # A day without a time becomes midnight, without an offset.
        return f"{self.day}T{self.time}{self.offset or ''}" if self.time else f"{self.day}T00:00:00"


def parse_timestamp(text: str | None) -> Timestamp | None:
    """Parse "2019:05:04 23:30:00", ISO 8601 and variants: padded, without seconds, without time, 12-hour clock.

    `text` must not contain two spaces in a row. An invalid time leaves only the day; returns None if the day is
    invalid, or outside the age of photography.
    """
    match = _MOMENT.match(text or "") or _COMPACT_MOMENT.match(text or "")
    if not text or not match:
        return None
    year, month, day, *clock = (int(part) if part else None for part in match.groups())
    try:
        date = datetime(year or 0, month or 0, day or 0).date()
    except ValueError:
        return None
    if not _FIRST_PHOTOGRAPH <= date.year <= datetime.now().year + 1:
        return None
    hour, minute, second = clock
    if hour is None or minute is None:
        return Timestamp(date.isoformat())
    rest = _REST.match(text, match.end())
    if rest and rest[1] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if rest[1] in "pP" else 0)
    try:
        moment = time(hour, minute, second or 0)
    except ValueError:
        return Timestamp(date.isoformat())
    zone = text[rest.end() if rest else match.end() :].split(" ")[0]
    return Timestamp(date.isoformat(), moment.isoformat(), parse_offset(zone))


def parse_offset(text: str | None) -> str | None:
    """Parse a UTC offset such as "+02:00", "+0200", "-5", "UTC+2" or "Z" into "+02:00"; None if it is invalid."""
    match = _OFFSET.fullmatch((text or "").strip())
    if not match:
        return None
    if not match[2]:
        return "+00:00"
    minutes = int(match[3] or 0)
    if minutes > 59 or int(match[2]) * 60 + minutes > _MAX_OFFSET:
        return None
    return f"{'+' if match[1] == '+' else '-'}{int(match[2]):02}:{minutes:02}"


def most_precise(moments: Iterable[Timestamp | None]) -> Timestamp | None:
    """Return the first timestamp, or, if it has no time, the first of the same day that has one."""
    known = [moment for moment in moments if moment]
    if not known:
        return None
    return next((moment for moment in known if moment.time and moment.day == known[0].day), known[0])
