"""Queries: text, pictures to resemble, things to avoid, each with a weight; and their embedding."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipkit.errors import BadQuery
from clipkit.matching.parts import parts_of, standalone
from clipkit.models.encoder import Encoder
from clipkit.vectors.unit import unit

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | bytes | Image | np.ndarray
    """A picture as a path, a URL, the bytes of a file, a Pillow image, or its embedding, float32 (d,)."""

Kind = Literal["text", "image", "mixed"]
NAMELESS = "(image)"
"""Stands for a picture that has no name, because it was given in memory."""
AVOID_WEIGHT = 0.5
"""Default weight of a `not_` term: enough to steer the search, too little to dominate it."""
MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e6
"""Only the ratio of weights matters; beyond these limits it exceeds the precision of float32."""


class Words(str):
    """A text of `Query.not_` that is never taken for a file or URL, for texts that come from outside."""


@dataclass(frozen=True)
class Query:
    """A query of words and pictures; needs `text` or at least one `like`.

    `like`: pictures, each as a path, a URL, the bytes of a file, a Pillow image, or its embedding by the model that is
    searched, float32 (d,).
    `not_`: texts or pictures to avoid; a string that is a URL or an existing file is a picture, unless it is `Words`.
    `weights`: for the terms in the order text, every `also`, every `like`, every `not_`; the default is 1, or 0.5 for
    `not_`.
    `also`: further texts, each a term with a weight of its own.

    Raises BadQuery for an empty query, a text without words, or weights outside 1e-6 to 1e6.
    """

    text: str = ""
    like: tuple[Picture, ...] = ()
    not_: tuple[Picture, ...] = ()
    weights: tuple[float, ...] = ()
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("like", "not_", "weights", "also"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list | tuple) else (value,))
        if not self.text.strip() and not self.like:
            raise BadQuery("the query is empty: give some words, or a picture with --like")
        texts = [self.text] if self.text.strip() else []
        avoided = [term for term in self.not_ if isinstance(term, str) and not is_picture(term)]
        for text in (*texts, *self.also, *avoided):
            if not has_words(text):
                raise BadQuery(f"there are no words in {text!r}; describe what to look for, or what to avoid")
        terms = len(texts) + len(self.also) + len(self.like) + len(self.not_)
        if len(self.weights) > terms:
            raise BadQuery(f"{len(self.weights)} weights for {terms} query terms; give at most one weight per term")
        if not all(isinstance(w, int | float) and MIN_WEIGHT <= w <= MAX_WEIGHT for w in self.weights):
            raise BadQuery("weights must be numbers above 0, from 1e-6 to 1e6; to avoid something use --not")

    def terms(self) -> list[Term]:
        """Return the terms with signed weights; negative ones are to be avoided."""
        parts: list[tuple[Picture, bool, int]] = []
        if self.text.strip():
            parts.append((self.text.strip(), False, 1))
        parts += [(text.strip(), False, 1) for text in self.also]
        parts += [(picture, True, 1) for picture in self.like]
        parts += [(value, is_picture(value), -1) for value in self.not_]
        weights = [*self.weights, *([None] * (len(parts) - len(self.weights)))]
        return [
            Term(value, picture, sign * (weight or (1.0 if sign > 0 else AVOID_WEIGHT)))
            for (value, picture, sign), weight in zip(parts, weights, strict=True)
        ]

    def to_json(self) -> dict:
        """Return plain data: text, also if there is any, like, not, weights; pictures without a name are `NAMELESS`."""
        return {
            "text": self.text,
            **({"also": list(self.also)} if self.also else {}),
            "like": [name_of(v) for v in self.like],
            "not": [name_of(v) for v in self.not_],
            "weights": [abs(term.weight) for term in self.terms()],
        }


@dataclass(frozen=True)
class Term:
    """One part of a query; `weight` is negative for what is to be avoided."""

    value: Picture
    is_picture: bool
    weight: float


def name_of(value: Picture) -> str:
    """Return the text, path or URL of a term; `NAMELESS` for a picture without one."""
    return str(value) if isinstance(value, str | Path) else NAMELESS


def in_words(query: Mapping[str, Any]) -> str:
    """Return a query, as `Query.to_json` returns it, in one line: "a dog, at night, like IMG_1.jpg, not in the snow".

    Of pictures it has the file names: a path would tell where a picture lay, and depend on the folder that a command is
    run in.
    """

    def picture(name: str) -> str:
        return "a picture" if name == NAMELESS else Path(name).name

    like = [f"like {picture(name)}" for name in query["like"]]
    avoided = [f"not {picture(name) if name == NAMELESS or is_picture(name) else name}" for name in query["not"]]
    return ", ".join(part for part in (query["text"], *query.get("also", ()), *like, *avoided) if part)


def has_words(text: str) -> bool:
    """Return whether a text has a letter or digit of any script, or a symbol such as an emoji."""
    return any(character.isalnum() or unicodedata.category(character) == "So" for character in text)


def is_url(value: object) -> bool:
    """Return whether a value is an HTTP or HTTPS URL."""
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


def is_picture(value: Picture) -> bool:
    """Return whether a `not_` value is a picture rather than text."""
    if not isinstance(value, str):
        return True
    if isinstance(value, Words):
        return False
    try:
        return is_url(value) or Path(value).is_file()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class ModalityMeans:
    """The mean unit vectors of a library's pictures and of the concept bank, float32 (d,)."""

    image: np.ndarray
    text: np.ndarray


@dataclass(frozen=True)
class EmbeddedQuery:
    """An encoded query.

    `vector`: the unit vector to search with, float32 (d,).
    `wanted`: the same without what is to be avoided, which steers the search but is not part of what a match must show;
    the match decision uses this one.
    `kind`: what `wanted` consists of.
    `unknown_words`: words that the model does not know.
    `parts`: the parts of a text that has several, see `parts_of`; `part_vectors`: as unit vectors, float32 (m, d).
    `terms`: the terms of the query, each with its unit vector, float32 (d,).
    """

    vector: np.ndarray
    wanted: np.ndarray
    kind: Kind
    unknown_words: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    part_vectors: np.ndarray | None = None
    terms: tuple[tuple[Term, np.ndarray], ...] = ()


@dataclass(frozen=True)
class EncodedTerms:
    """The terms of a query with their unit vectors, float32 (d,), before they are combined; see `EmbeddedQuery`."""

    vectors: tuple[tuple[Term, np.ndarray], ...]
    unknown_words: tuple[str, ...]
    parts: tuple[str, ...]
    part_vectors: np.ndarray | None

    def combined(self, means: ModalityMeans) -> EmbeddedQuery:
        """Combine the terms. Raises BadQuery if they cancel out."""
        wanted = [(t, vector) for t, vector in self.vectors if t.weight > 0]
        return EmbeddedQuery(
            vector=_combine(self.vectors, means),
            wanted=_combine(wanted, means),
            kind=_kind([t for t, _ in wanted]),
            unknown_words=self.unknown_words,
            parts=self.parts,
            part_vectors=self.part_vectors,
            terms=self.vectors,
        )


def encode_terms(query: Query, encoder: Encoder) -> EncodedTerms:
    """Encode every term of a query. Raises UnreadableImage or FetchRefused for a picture that cannot be loaded."""
    terms = query.terms()
    texts = [str(t.value) for t in terms if not t.is_picture]
    unknown = tuple(dict.fromkeys(word for text in texts for word in encoder.unknown_words(text)))
    parts = _parts(query)
    encoded = unit(encoder.encode_texts([*texts, *map(standalone, parts)])) if texts else ()
    words = iter(encoded)
    side = 2 * encoder.preprocessing.size
    images = [t.value for t in terms if t.is_picture and not isinstance(t.value, np.ndarray)]
    pixels = [encoder.preprocessing.pixels(*picture_and_size(image, side)) for image in images]
    encoded_images = iter(unit(encoder.encode_images(np.stack(pixels))) if pixels else ())
    pictures = (
        _checked(t.value, encoder) if isinstance(t.value, np.ndarray) else next(encoded_images)
        for t in terms
        if t.is_picture
    )
    return EncodedTerms(
        vectors=tuple((t, next(pictures) if t.is_picture else next(words)) for t in terms),
        unknown_words=unknown,
        parts=parts,
        part_vectors=np.asarray(encoded[len(texts) :]) if parts else None,
    )


def _checked(embedding: np.ndarray, encoder: Encoder) -> np.ndarray:
    """Return a given embedding as a unit vector, float32 (d,). Raises BadQuery."""
    if embedding.shape != (encoder.dimension,) or not np.isfinite(embedding).all() or not embedding.any():
        raise BadQuery(f"an embedding of {encoder.space} is {encoder.dimension} numbers, not all of them 0")
    return unit(embedding)


def _parts(query: Query) -> tuple[str, ...]:
    """Return the parts of a query's texts; none if there is only one, or if pictures are wanted."""
    parts = () if query.like else tuple(part for text in (query.text, *query.also) for part in parts_of(str(text)))
    return parts if len(parts) > 1 else ()


def _kind(terms: Sequence[Term]) -> Kind:
    modalities = {term.is_picture for term in terms}
    if len(modalities) == 2:
        return "mixed"
    return "image" if modalities == {True} else "text"


def _combine(parts: Sequence[tuple[Term, np.ndarray]], means: ModalityMeans) -> np.ndarray:
    """Combine terms and their unit vectors into one unit vector, float32 (d,).

    A single term is returned as it is. Several are centred on the mean of their modality first, because text and image
    embeddings occupy two narrow, separate cones (Liang et al., "Mind the Gap", NeurIPS 2022), and a picture would
    otherwise outweigh the words. The weighted sum of the centred unit vectors is scaled to their mean length and added
    to the weighted mean of the wanted terms' centres, so that the result lies where embeddings of its kind lie.
    """
    if len(parts) == 1:
        return parts[0][1]
    centres = np.stack([means.image if t.is_picture else means.text for t, _ in parts])
    offsets = np.stack([vector for _, vector in parts]) - centres
    weights = np.array([t.weight for t, _ in parts])
    weights = (weights / np.abs(weights).max()).astype(np.float32)
    total = weights @ unit(offsets)
    if np.linalg.norm(total) < 1e-6:
        raise BadQuery("the terms of the query cancel out; change its words or weights")
    shares = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
    return unit(shares @ centres + shares @ np.linalg.norm(offsets, axis=1) * unit(total))


def picture_of(picture: Picture, shortest_side: int) -> Image:
    """Open or fetch a picture, RGB; it may be reduced, but not below `shortest_side` pixels.

    Raises UnreadableImage or FetchRefused.
    """
    return picture_and_size(picture, shortest_side)[0]


def picture_and_size(picture: Picture, shortest_side: int) -> tuple[Image, tuple[int, int]]:
    """As `picture_of`; also return its width and height before it was reduced."""
    from clipkit.images.decoding import open_picture
    from clipkit.images.fetching import fetch

    if isinstance(picture, np.ndarray):
        raise BadQuery("an embedding has no pixels: give the picture itself")
    if not isinstance(picture, str | Path | bytes):
        return picture.convert("RGB"), picture.size
    source = fetch(picture) if is_url(picture) else picture  # type: ignore[arg-type]
    source = Path(source) if isinstance(source, str) else source
    opened = open_picture(source, shortest_side=shortest_side)
    return opened.image, opened.whole


def as_query(query: Query | str | Sequence[str]) -> Query:
    """Return a query unchanged, and a string as the text of one."""
    return query if isinstance(query, Query) else Query(text=str(query))
