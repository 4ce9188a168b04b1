"""What is asked for: words, pictures to resemble, things to avoid, each with a weight."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipkit.errors import BadQuery
from clipkit.models.encoder import Encoder
from clipkit.vectors.unit import unit

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | bytes | Image
    """A picture as a path, a URL, the bytes of a file, or a Pillow image."""

Kind = Literal["text", "image", "mixed"]
AVOID_WEIGHT = 0.5
"""The weight of a `not_` term that has none of its own: enough to turn away, too little to lead the search."""
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e6
"""Only the ratio of weights counts, and beyond these it leaves the precision of float32."""


@dataclass(frozen=True)
class Query:
    """Words and pictures. At least `text` or one `like` is needed.

    `not_` holds texts, or pictures: a string that is a URL or the path of a file is a picture. `weights` belong to
    the terms in the order text, every `like`, every `not_`; missing ones are 1, or 0.5 for `not_`.
    Raises BadQuery for an empty query, a text without words, or weights that are not between 1e-6 and 1e6.
    """

    text: str = ""
    like: tuple[Picture, ...] = ()
    not_: tuple[Picture, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("like", "not_", "weights"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list | tuple) else (value,))
        if not self.text.strip() and not self.like:
            raise BadQuery("the query is empty: give some words, or a picture with --like")
        texts = [self.text] if self.text.strip() else []
        for text in (*texts, *(term for term in self.not_ if isinstance(term, str) and not is_picture(term))):
            if not has_words(text):
                raise BadQuery(f"there is no word in {text!r}: describe in words what to look for, or what to avoid")
        terms = bool(self.text.strip()) + len(self.like) + len(self.not_)
        if len(self.weights) > terms:
            raise BadQuery(f"{len(self.weights)} weights for {terms} query terms: give at most one weight a term")
        if not all(isinstance(w, int | float) and LEAST_WEIGHT <= w <= LARGEST_WEIGHT for w in self.weights):
            raise BadQuery("weights must be numbers above 0, from 1e-6 to 1e6; to avoid something use --not")

    def terms(self) -> list[Term]:
        """Its parts with signed weights; negative ones are avoided."""
        parts: list[tuple[Picture, bool, int]] = []
        if self.text.strip():
            parts.append((self.text.strip(), False, 1))
        parts += [(picture, True, 1) for picture in self.like]
        parts += [(value, is_picture(value), -1) for value in self.not_]
        weights = [*self.weights, *([None] * (len(parts) - len(self.weights)))]
        return [
            Term(value, picture, sign * (weight or (1.0 if sign > 0 else AVOID_WEIGHT)))
            for (value, picture, sign), weight in zip(parts, weights, strict=True)
        ]

    def to_json(self) -> dict:
        """Plain data: text, like, not, weights; pictures without a name are "(image)"."""

        def name(value: Picture) -> str:
            return str(value) if isinstance(value, str | Path) else "(image)"

        return {
            "text": self.text,
            "like": [name(v) for v in self.like],
            "not": [name(v) for v in self.not_],
            "weights": [abs(term.weight) for term in self.terms()],
        }


@dataclass(frozen=True)
class Term:
    """One part of a query; `weight` is negative for what is avoided."""

    value: Picture
    is_picture: bool
    weight: float


def has_words(text: str) -> bool:
    """Whether a text says anything: a letter or digit of any script, or a symbol such as an emoji."""
    return any(character.isalnum() or unicodedata.category(character) == "So" for character in text)


def is_url(value: object) -> bool:
    """Whether a string is a web address."""
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


def is_picture(value: Picture) -> bool:
    """Whether a `not_` value means a picture rather than words."""
    if not isinstance(value, str):
        return True
    try:
        return is_url(value) or Path(value).is_file()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Means:
    """The mean unit vectors of a library's pictures and of its bank of concepts, float32 (d,)."""

    image: np.ndarray
    text: np.ndarray


@dataclass(frozen=True)
class EmbeddedQuery:
    """A query as a unit vector, float32 (d,), to search with.

    `wanted` is the vector without what is avoided, and `kind` what it was made of: whether a picture matches is asked
    of that, since avoiding turns the search but adds nothing that a picture must show. `unknown_words` are those that
    the space was never taught.
    """

    vector: np.ndarray
    wanted: np.ndarray
    kind: Kind
    unknown_words: tuple[str, ...] = ()


def embed(query: Query, encoder: Encoder, means: Means) -> EmbeddedQuery:
    """Encodes every term and joins them.

    Raises UnreadableImage or FetchRefused for a picture that cannot be had, BadQuery if the terms cancel out.
    """
    terms = query.terms()
    texts = [str(t.value) for t in terms if not t.is_picture]
    unknown = tuple(dict.fromkeys(word for text in texts for word in encoder.unknown_words(text)))
    words = iter(unit(encoder.encode_texts(texts)) if texts else ())
    side = 2 * encoder.preprocessing.size
    pictures = [encoder.preprocessing.pixels(*picture_and_size(t.value, side)) for t in terms if t.is_picture]
    looks = iter(unit(encoder.encode_images(np.stack(pictures))) if pictures else ())
    parts = [(t, next(looks) if t.is_picture else next(words)) for t in terms]
    wanted = [(t, vector) for t, vector in parts if t.weight > 0]
    modalities = {t.is_picture for t, _ in wanted}
    kind: Kind = "mixed" if len(modalities) == 2 else "image" if modalities == {True} else "text"
    return EmbeddedQuery(_join(parts, means), _join(wanted, means), kind, unknown)


def _join(parts: Sequence[tuple[Term, np.ndarray]], means: Means) -> np.ndarray:
    """One vector, float32 (d,) of unit length, of terms and their unit vectors.

    One term is its own vector. Several are first centred, each on the mean of its modality, because texts and
    pictures lie in two narrow cones apart (Liang et al., "Mind the Gap", NeurIPS 2022) and a picture would otherwise
    drown the words. The unit directions are added with their weights, and their sum, as long as the parts are on
    average, starts from the means of what is wanted: so the result lies where texts and pictures of its kind lie.
    """
    if len(parts) == 1:
        return parts[0][1]
    centres = np.stack([means.image if t.is_picture else means.text for t, _ in parts])
    away = np.stack([vector for _, vector in parts]) - centres
    weights = np.array([t.weight for t, _ in parts])
    weights = (weights / np.abs(weights).max()).astype(np.float32)
    total = weights @ unit(away)
    if np.linalg.norm(total) < 1e-6:
        raise BadQuery("the parts of the query cancel out: change its words or weights")
    shares = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
    return unit(shares @ centres + shares @ np.linalg.norm(away, axis=1) * unit(total))


def picture_of(picture: Picture, shortest_side: int) -> Image:
    """The picture that a term means, RGB, decoded at no less than `shortest_side` pixels where it has them.

    Raises UnreadableImage or FetchRefused.
    """
    return picture_and_size(picture, shortest_side)[0]


def picture_and_size(picture: Picture, shortest_side: int) -> tuple[Image, tuple[int, int]]:
    """The same, with the width and height that it has before it is reduced."""
    from clipkit.images.decoding import open_picture
    from clipkit.images.fetching import fetch

    if not isinstance(picture, str | Path | bytes):
        return picture.convert("RGB"), picture.size
    source = fetch(picture) if is_url(picture) else picture  # type: ignore[arg-type]
    source = Path(source) if isinstance(source, str) else source
    opened = open_picture(source, shortest_side=shortest_side)
    return opened.image, opened.whole


def as_query(query: Query | str | Sequence[str]) -> Query:
    """A Query as it is; a string as its text."""
    return query if isinstance(query, Query) else Query(text=str(query))
