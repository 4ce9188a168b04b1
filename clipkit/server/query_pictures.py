"""Load the pictures that a query names: found by their ids, fetched under guard, decoded in child processes."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from clipkit.catalog.browsing import find_images
from clipkit.catalog.generated import list_generated
from clipkit.errors import UnreadableImage
from clipkit.images.preprocessing import Preprocessing
from clipkit.images.renditions import ModelInput
from clipkit.library import Library
from clipkit.searching.query import Query, Words
from clipkit.server.parameters import PictureRef, Terms
from clipkit.server.problems import NotFound
from clipkit.server.uploads import Uploads


def to_query(terms: Terms, library: Library, uploads: Uploads, preprocessing: Preprocessing) -> Query:
    """Return the query that the terms describe, with its pictures preprocessed for the model.

    Raises BadQuery, UnreadableImage, FetchRefused, and NotFound for an id that there is not.
    """

    def load(ref: PictureRef) -> Image.Image:
        path = locate(ref, library, uploads)
        pixels = uploads.pool.run(path, ModelInput(preprocessing, ref.region))
        if isinstance(pixels, UnreadableImage):
            raise pixels
        return Image.fromarray(pixels)  # of the model's size: preprocessing it again changes nothing

    (text, *_), *more = terms.texts or [("", 1.0)]
    return Query(
        text=text,
        also=tuple(also for also, _ in more),
        like=tuple(load(ref) for ref, _ in terms.like),
        not_=tuple(Words(value) if isinstance(value, str) else load(value) for value, _ in terms.avoid),
        weights=weights_of(terms),
    )


def weights_of(terms: Terms) -> tuple[float, ...]:
    """Return the weights in the order of `Query`."""
    return tuple(weight for _, weight in (*terms.texts, *terms.like, *terms.avoid))


def locate(ref: PictureRef, library: Library, uploads: Uploads) -> Path:
    """Return the file of a picture; a URL is downloaded. Raises NotFound, FetchRefused, UnreadableImage."""
    if ref.source == "upload":
        return uploads.get(ref.key).path
    if ref.source == "url":
        return uploads.fetch(ref.key).path
    number = int(ref.key)
    if ref.source == "generated":
        for picture in list_generated(library.catalog):
            if picture.id == number:
                return picture.path
        raise NotFound(f"there is no generated picture {number}")
    record = find_images(library.catalog, [number]).get(number)
    if record is None or not record.shown:
        raise NotFound(f"there is no picture {number} in the library")
    return record.path
