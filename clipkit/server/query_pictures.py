"""Load the pictures that a query names: found by their ids, fetched under guard, decoded in child processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clipkit.catalog.browsing import ImageRecord, find_files, find_images
from clipkit.catalog.embeddings import load_embedding
from clipkit.catalog.generated import Generated, find_generated_by_id
from clipkit.catalog.root_drives import RootDrives
from clipkit.errors import UnreadableImage
from clipkit.images.renditions import ModelInput
from clipkit.library import Library
from clipkit.models.encoder import Encoder
from clipkit.searching.presence import PresenceChecker
from clipkit.searching.query import Query, Words
from clipkit.server.parameters import PictureRef, Terms
from clipkit.server.problems import NotFound, Problem
from clipkit.server.uploads import Uploads

if TYPE_CHECKING:
    from clipkit.searching.query import Picture


class PictureAway(Problem):
    """The file of a picture is not there now."""

    def __init__(self, detail: str) -> None:
        super().__init__(422, "picture-away", detail)


def to_query(terms: Terms, library: Library, uploads: Uploads, encoder: Encoder) -> Query:
    """Return the query that the terms describe, with its pictures preprocessed for the model.

    A picture of the library whose drive is away is replaced by the embedding that the library has of it.

    Raises BadQuery, UnreadableImage, FetchRefused, PictureAway, and NotFound for an id that there is not.
    """

    def load(ref: PictureRef) -> Picture:
        try:
            path = locate(ref, library, uploads)
        except PictureAway:
            stored = None if ref.region else _stored(ref, library, encoder.space)
            if stored is None:
                raise
            return stored
        pixels = uploads.pool.run(path, ModelInput(encoder.preprocessing, ref.region))
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
    """Return the file of a picture; a URL is downloaded.

    Raises NotFound, PictureAway, FetchRefused, UnreadableImage.
    """
    if ref.source == "upload":
        return uploads.get(ref.key).path
    if ref.source == "url":
        return uploads.fetch(ref.key).path
    number = int(ref.key)
    if ref.source == "generated":
        return find_made(library, number).path
    return _file_that_is_here(find_image(library, number), library)


def find_image(library: Library, number: int) -> ImageRecord:
    """Return what the catalog knows about a picture that searches show. Raises NotFound."""
    record = find_images(library.catalog, [number]).get(number)
    if record is None or not record.shown:
        raise NotFound(f"there is no picture {number} in the library")
    return record


def find_made(library: Library, number: int) -> Generated:
    """Return the record of a generated picture. Raises NotFound."""
    picture = find_generated_by_id(library.catalog, number)
    if picture is None:
        raise NotFound(f"there is no generated picture {number}")
    return picture


def _file_that_is_here(record: ImageRecord, library: Library) -> Path:
    """Return the file of a picture, or a copy of it if that is not there. Raises PictureAway."""
    files = find_files(library.catalog, record.id)
    if path := next((path for path in files if path.exists()), None):
        return path
    presence = PresenceChecker(RootDrives(library.catalog)).check(record.path)
    advice = {
        "away": "is on a drive or in a folder that is away: connect it and try again",
        "unreadable": "cannot be read by the server: give it the permission, or take another picture",
    }.get(presence, "was moved or deleted: index its folder again, or take another picture")
    raise PictureAway(f"the file of picture {record.id} {advice}")


def _stored(ref: PictureRef, library: Library, space: str) -> np.ndarray | None:
    """Return the embedding that the library has of a picture, float32 (d,); None if it has none in this space."""
    return load_embedding(library.catalog, find_image(library, int(ref.key)).hash, space)
