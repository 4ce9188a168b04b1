"""Read the JSON objects that jobs are asked for with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from clipkit.errors import BadQuery
from clipkit.images.renditions import Region
from clipkit.searching.query import AVOID_WEIGHT, MAX_WEIGHT, MIN_WEIGHT, has_words
from clipkit.server.parameters import MAX_TERMS, MAX_TEXT, PictureRef, Terms, read_picture, to_region
from clipkit.server.problems import Problem

_HUGE = 1e300
"""No number of a request is as large; NaN is not smaller either."""


async def read_body(request: Request) -> Body:
    """Return the JSON object that a request carries. Raises BadQuery, Problem 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "wrong-type", "send JSON, with Content-Type: application/json")
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise BadQuery("the body is not valid JSON") from error
    if not isinstance(value, dict):
        raise BadQuery("the body must be a JSON object")
    return Body(value)


class Body:
    """The fields of a JSON object, checked as they are read. All methods raise BadQuery."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values, self._known = values, set[str]()

    def get(self, name: str) -> Any:
        """Return a field, None if it is missing."""
        self._known.add(name)
        return self._values.get(name)

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.get(name)
        if value is None:
            return ""
        return _text(name, value)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > 1000:
            raise BadQuery(f"{name} must be a list of texts")
        return [_text(name, item) for item in value]

    def flag(self, name: str, default: bool | None = False) -> bool | None:
        """Return true or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadQuery(f"{name} must be true or false")
        return value

    def integer(self, name: str, default: int | None, least: int, most: int) -> int | None:
        """Return a whole number in [least, most]."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadQuery(f"{name} must be a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float | None, least: float, most: float) -> float | None:
        """Return a number in [least, most]."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise BadQuery(f"{name} must be a number from {least} to {most}")
        return float(value)

    def share(self, name: str, default: float | None = None) -> float | None:
        """Return a number above 0 and at most 1."""
        value = self.get(name)
        if value is None:
            return default
        if not _is_number(value) or not 0 < value <= 1:
            raise BadQuery(f"{name} must be a number above 0 and at most 1")
        return float(value)

    def numbers(self, name: str) -> list[float] | None:
        """Return a list of numbers, None if it is missing."""
        values = self.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or len(values) > MAX_TERMS or not all(map(_is_number, values)):
            raise BadQuery(f"{name} must be a list of at most {MAX_TERMS} numbers")
        return [float(value) for value in values]

    def box(self, name: str) -> Region | None:
        """Return a box [x, y, width, height] in whole pixels, None if it is missing."""
        value = self.get(name)
        return None if value is None else _box(name, value)

    def picture(self, name: str) -> PictureRef | None:
        """Return the picture that a field names, None if it is missing."""
        value = self.get(name)
        return None if value is None else _picture(name, value)

    def items(self, name: str) -> list[PictureRef | str]:
        """Return a list of pictures and, as {"text": ...}, texts."""
        values = self.get(name)
        if not isinstance(values, list) or len(values) > MAX_TERMS:
            raise BadQuery(f"{name} must be a list of at most {MAX_TERMS} pictures and texts")
        return [_item(name, value) for value in values]

    def terms(self) -> Terms:
        """Return the query: text, also, like, not, weights and regions, as in the answer to a search."""
        terms = Terms()
        texts = [*filter(str.strip, [self.text("text")]), *self.texts("also")]
        like, avoid, weights = self._refs("like"), self._refs("not"), self.get("weights")
        regions = self._regions(len(like))
        count = len(texts) + len(like) + len(avoid)
        if weights is None:
            weights = []
        if not isinstance(weights, list) or len(weights) > count:
            raise BadQuery("weights must be a list with at most one number a term")
        for weight in weights:
            if not _is_number(weight):
                raise BadQuery("weights must be numbers")
            if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
                raise BadQuery("weights must be above 0, from 1e-6 to 1e6")
        defaults = [1.0] * (len(texts) + len(like)) + [AVOID_WEIGHT] * len(avoid)
        every = iter([*map(float, weights), *defaults[len(weights) :]])
        if count > MAX_TERMS:
            raise BadQuery(f"the query has {count} terms; at most {MAX_TERMS} are allowed")
        terms.texts = [(text.strip(), next(every)) for text in texts]
        for value, region in zip(like, regions, strict=True):
            terms.like.append((replace(_picture("like", value), region=region), next(every)))
        for value in avoid:
            ref = None if value.strip().isdecimal() else read_picture(value)
            terms.avoid.append((ref or value, next(every)))
        return terms

    def check_all_known(self) -> None:
        """Refuse fields that were not asked for: they may be misspelled."""
        if unknown := sorted(self._values.keys() - self._known):
            raise BadQuery(f"unknown field {unknown[0][:80]!r}; known are {', '.join(sorted(self._known))}")

    def _regions(self, count: int) -> list[Region | None]:
        values = self.get("regions") or []
        if not isinstance(values, list) or len(values) > count:
            raise BadQuery("regions must be a list with at most one box or null for each picture in like")
        boxes = [None if value is None else _box("a region", value) for value in values]
        return [*boxes, *[None] * (count - len(boxes))]

    def _refs(self, name: str) -> list[str]:
        value = self.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [_text(name, str(v) if isinstance(v, int) and not isinstance(v, bool) else v) for v in values]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadQuery(f"{name} must be text")
    if "\0" in value:
        raise BadQuery(f"{name} contains a NUL character")
    if len(value) > MAX_TEXT:
        raise BadQuery(f"{name} has {len(value):,} characters; at most {MAX_TEXT:,} are allowed")
    return value


def _picture(name: str, value: Any) -> PictureRef:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    ref = read_picture(_text(name, value))
    if ref is None:
        raise BadQuery(f"{name} must be the id of a picture, upload:ID, generated:ID or a URL, not {value[:80]!r}")
    return ref


def _item(name: str, value: Any) -> PictureRef | str:
    if not isinstance(value, dict):
        return _picture(name, value)
    if list(value) != ["text"]:
        raise BadQuery(f'a text in {name} is {{"text": "..."}}, without other fields')
    text = _text(name, value["text"]).strip()
    if not has_words(text):
        raise BadQuery(f"there are no words in {text[:80]!r}: describe what to blend")
    return text


def _box(name: str, value: Any) -> Region:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise BadQuery(f"{name} must be [x, y, width, height] in pixels")
    return to_region(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_HUGE < value < _HUGE
