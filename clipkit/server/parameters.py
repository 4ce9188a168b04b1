"""Read the parameters of requests: numbers in range, filters, and the terms of a query."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from starlette.datastructures import FormData, QueryParams

from clipkit.catalog.filters import Filters, parse_day, parse_near
from clipkit.errors import BadQuery
from clipkit.images.renditions import Region
from clipkit.searching.query import AVOID_WEIGHT, MAX_WEIGHT, MIN_WEIGHT, is_url

MAX_OFFSET = 10_000
"""Search results can be paged up to here; what comes later is far from the query."""
MAX_LIMIT = 1000
MAX_TERMS = 32
MAX_TEXT = 2000
"""Characters of a text in a query."""

_MAX_PIXEL = 10**6
"""No picture is as wide or high."""
_SQLITE_INTEGER = 2**63
N = TypeVar("N", int, float)
Source = Literal["image", "generated", "upload", "url"]


class Parameters:
    """The parameters of a request, from its query string or form; uploads are left to the route."""

    def __init__(self, *sources: QueryParams | FormData) -> None:
        self._values: dict[str, list[str]] = {}
        for source in sources:
            for name, value in source.multi_items():
                if isinstance(value, str):
                    if "\0" in value:
                        raise BadQuery(f"the value of {name} contains a NUL character")
                    self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Return every value of a parameter, without empty ones."""
        return [value for value in self._values.get(name, ()) if value.strip()]

    def text(self, name: str, default: str = "") -> str:
        """Return the only value of a parameter. Raises BadQuery if there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise BadQuery(f"{name} is given {len(values)} times; give it once")
        return values[0] if values else default

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number in [least, most]. Raises BadQuery."""
        return self._number(name, default, least, most, whole_number, "whole number")

    def number(self, name: str, default: float | None, least: float, most: float) -> float | None:
        """Return a number in [least, most]. Raises BadQuery."""
        if default is None and not self.text(name):
            return None
        return self._number(name, default or 0.0, least, most, float, "number")

    def choice(self, name: str, default: str, *values: str) -> str:
        """Return one of the values. Raises BadQuery."""
        value = self.text(name, default)
        if value not in values:
            raise BadQuery(f"{name} must be one of {', '.join(filter(None, values))}, not {value[:40]!r}")
        return value

    def filters(self) -> Filters:
        """Return the filters: under, after, before, camera, near and where. Raises BadQuery."""
        after, before, near = self.text("after"), self.text("before"), self.text("near")
        return Filters(
            under=tuple(Path(folder) for folder in self.all("under")[:MAX_TERMS]),
            after=parse_day(after) if after else None,
            before=parse_day(before) if before else None,
            camera=self.text("camera") or None,
            near=parse_near(near) if near else None,
            where=self.text("where") or None,
        )

    def _number(self, name: str, default: N, least: N, most: N, read: Callable[[str], N], kind: str) -> N:
        text = self.text(name)
        if not text:
            return default
        try:
            value = read(text)
        except ValueError:
            raise BadQuery(f"{name} must be a {kind}, not {text[:40]!r}") from None
        if not least <= value <= most:  # NaN too
            raise BadQuery(f"{name} must be from {least} to {most}, not {text[:40]}")
        return value


@dataclass(frozen=True)
class PictureRef:
    """A picture that a query names: the number of an image or generated picture, the id of an upload, or a URL.

    `text`: how the client wrote it.
    """

    source: Source
    key: str
    text: str
    region: Region | None = None


@dataclass
class Terms:
    """The terms of a query before its pictures are loaded, in the order of `Query`, each with its weight."""

    texts: list[tuple[str, float]] = field(default_factory=list)
    like: list[tuple[PictureRef, float]] = field(default_factory=list)
    avoid: list[tuple[str | PictureRef, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts) + len(self.like) + len(self.avoid)


def read_terms(parameters: Parameters, uploaded: Iterable[str] = (), avoided: Iterable[str] = ()) -> Terms:
    """Read q, like, not, term and region, and the weights q_weight, like_weight and not_weight.

    uploaded, avoided: ids of pictures that came with the request.

    Raises BadQuery.
    """
    terms = Terms()
    if text := parameters.text("q").strip():
        terms.texts.append((text, parameters.number("q_weight", 1.0, MIN_WEIGHT, MAX_WEIGHT) or 1.0))
    likes = [*parameters.all("like"), *(f"upload:{name}" for name in uploaded)]
    regions = [read_region(value) for value in parameters.all("region")]
    if len(regions) > len(likes):
        raise BadQuery("there are more regions than pictures")
    weights = _weights(parameters, "like_weight", len(likes), 1.0)
    for number, (like, weight) in enumerate(zip(likes, weights, strict=True)):
        ref = read_picture(like)
        if ref is None:
            raise BadQuery(f"like must be the id of a picture, upload:ID, generated:ID or a URL, not {like[:80]!r}")
        region = regions[number] if number < len(regions) else None
        terms.like.append((PictureRef(ref.source, ref.key, ref.text, region), weight))
    nots = [*parameters.all("not"), *(f"upload:{name}" for name in avoided)]
    for value, weight in zip(nots, _weights(parameters, "not_weight", len(nots), AVOID_WEIGHT), strict=True):
        avoid = None if value.strip().isdecimal() else read_picture(value)  # a number alone is a text here
        terms.avoid.append((avoid or value.strip(), weight))
    for value in parameters.all("term"):
        text, separator, number_text = value.rpartition("~")
        if not separator:
            text, number_text = value, "1"
        try:
            weight = float(number_text)
        except ValueError:
            raise BadQuery(f"a term is TEXT~WEIGHT, not {value[:80]!r}") from None
        if not (text.strip() and MIN_WEIGHT <= abs(weight) <= MAX_WEIGHT):
            raise BadQuery(f"a term is TEXT~WEIGHT with a weight other than 0, not {value[:80]!r}")
        if weight > 0:
            terms.texts.append((text.strip(), weight))
        else:
            terms.avoid.append((text.strip(), -weight))
    if len(terms) > MAX_TERMS:
        raise BadQuery(f"the query has {len(terms)} terms; at most {MAX_TERMS} are allowed")
    for words, _ in (*terms.texts, *terms.avoid):
        if isinstance(words, str) and len(words) > MAX_TEXT:
            raise BadQuery(f"a text of the query has {len(words):,} characters; at most {MAX_TEXT:,} are allowed")
    return terms


def read_picture(value: str) -> PictureRef | None:
    """Return the picture that a value names: 12, id:12, generated:3, upload:ID or a URL; None if it names none."""
    value = value.strip()
    if is_url(value):
        return PictureRef("url", value, value)
    source, _, key = value.rpartition(":")
    if source in ("", "id", "generated") and key.isascii() and key.isdecimal() and int(key) < _SQLITE_INTEGER:
        return PictureRef("generated" if source == "generated" else "image", key, value)
    if source == "upload" and re.fullmatch(r"[0-9a-f]{32}", key):
        return PictureRef("upload", key, value)
    return None


def read_region(value: str) -> Region:
    """Return the region "X,Y,W,H" in whole pixels. Raises BadQuery."""
    try:
        return to_region([float(part) for part in value.split(",")])
    except ValueError:
        raise BadQuery(f"a region is X,Y,WIDTH,HEIGHT in pixels, not {value[:80]!r}") from None


def to_region(values: Sequence[float]) -> Region:
    """Return the region of four numbers, in whole pixels. Raises BadQuery, ValueError if there are not four."""
    left, top, width, height = (math.floor(value) if abs(value) < _MAX_PIXEL else _MAX_PIXEL for value in values)
    if width < 1 or height < 1 or max(abs(left), abs(top), width, height) >= _MAX_PIXEL:
        raise BadQuery("a region must be at least one pixel wide and high, and lie in the picture")
    return left, top, width, height


def read_id(text: str) -> int:
    """Return an id from a path; one that cannot exist becomes 0, which none has."""
    return int(text) if text.isascii() and text.isdecimal() and int(text) < _SQLITE_INTEGER else 0


def whole_number(text: str) -> int:
    """Read digits with an optional sign, nothing else; raise ValueError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


def _weights(parameters: Parameters, name: str, count: int, default: float) -> list[float]:
    values = parameters.all(name)
    if len(values) > count:
        raise BadQuery(f"there are {len(values)} values of {name} for {count} terms")
    weights = []
    for value in values:
        try:
            weight = float(value)
        except ValueError:
            raise BadQuery(f"{name} must be a number, not {value[:40]!r}") from None
        if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
            raise BadQuery(f"{name} must be above 0, not {value[:40]}")
        weights.append(weight)
    return [*weights, *[default] * (count - len(weights))]
