"""The picture that an operation starts from: a file, a URL, a hit of the library, or a generated picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from clipkit.catalog.browsing import find_files
from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import list_generated
from clipkit.errors import BadQuery
from clipkit.images.extensions import EXTENSIONS
from clipkit.images.file_access import why_absent
from clipkit.searching.query import NAMELESS, Words, is_url

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.generation.routes import QueryTerm

    Reference: TypeAlias = "int | str | Path | bytes | Image | Source"
    """A picture as the id of a hit, "generated:N", a path, a URL, the bytes of a file, a Pillow image, or a source."""

GENERATED = "generated:"
"""Prefix of the number of a generated picture, as `clipkit generated` lists it."""


@dataclass(frozen=True)
class Source:
    """A picture that was found, not decoded yet.

    `name`: what names it again: an absolute path, a URL, or `NAMELESS` for one that was given in memory.
    `data`: where its pixels come from: a file, the bytes of one, or a Pillow image.
    `content`: the hash of the file's bytes, as in the catalog; empty for a Pillow image.
    """

    name: str
    data: Path | bytes | Image
    content: str

    @property
    def title(self) -> str:
        """Its name in words, for file names: the file's own, without folder and extension."""
        return Path(urlsplit(self.name).path if is_url(self.name) else self.name).stem

    def term(self) -> QueryTerm:
        """Return it as a term for `clipkit.generation.routes`."""
        from clipkit.generation.routes import QueryTerm

        return QueryTerm(self.name, True, 1.0, self.content, self.open)

    def open(self, shortest_side: int | None = None) -> Image:
        """Decode it, RGB and upright; with `shortest_side` it may be reduced, but not below that many pixels.

        Raises UnreadableImage.
        """
        from clipkit.images.decoding import open_picture

        if not isinstance(self.data, Path | bytes):
            return self.data.convert("RGB")
        return open_picture(self.data, shortest_side=shortest_side).image


def find_source(picture: Reference, catalog: Catalog | None = None) -> Source:
    """Return the picture that `picture` names; a URL is fetched, once.

    A whole number, also as text, is the `id` of a hit; a file with such a name is written as `./12`. A number, or
    "generated:N", needs the library's catalog. Raises BadQuery, UnreadableImage, FetchRefused.
    """
    from clipkit.images.hashing import hash_of_bytes

    if isinstance(picture, Source):
        return picture
    if isinstance(picture, bytes):
        return Source(NAMELESS, picture, hash_of_bytes(picture))
    if isinstance(picture, int) or (isinstance(picture, str) and picture.isascii() and picture.isdigit()):
        return _from_file(_file_of_hit(int(picture), catalog))
    if isinstance(picture, str) and picture.startswith(GENERATED):
        return _from_file(_file_of_generated(picture, catalog))
    if isinstance(picture, str) and is_url(picture):
        from clipkit.images.fetching import fetch

        data = fetch(picture)
        return Source(picture, data, hash_of_bytes(data))
    if isinstance(picture, str | Path):
        return _from_file(Path(picture))
    return Source(NAMELESS, picture, "")


def is_number_of_picture(value: str) -> bool:
    """Return whether a text is the number of a hit or of a generated picture, rather than a file or words."""
    return (value.isascii() and value.isdigit()) or value.startswith(GENERATED)


def names_picture(value: Reference) -> bool:
    """Return whether a value is meant as a picture, where a text is possible too.

    These are numbers, URLs, existing files, and whatever has a path's separator and a picture's extension: a file name
    with a typing error must not pass for words. `Words` never are.
    """
    if not isinstance(value, str):
        return True
    if isinstance(value, Words):
        return False
    if is_number_of_picture(value) or is_url(value):
        return True
    looks_like_file = Path(value).suffix.lower() in EXTENSIONS and (os.sep in value or len(value.split()) == 1)
    try:
        return looks_like_file or Path(value).is_file()
    except (OSError, ValueError):
        return looks_like_file


def _from_file(path: Path) -> Source:
    from clipkit.images.hashing import content_hash
    from clipkit.images.limits import Limits

    path = Path(os.path.abspath(path.expanduser()))
    reason = why_absent(path)
    if reason:
        raise BadQuery(
            f"{reason}; a picture is a file, a URL, the id of a hit (`clipkit search --json`), or "
            f"{GENERATED}N (`clipkit generated`)"
        )
    return Source(str(path), path, content_hash(path, Limits().bytes))


def _file_of_hit(number: int, catalog: Catalog | None) -> Path:
    if catalog is None:
        raise BadQuery(f"{number} is the id of a hit, and there is no library here: name a file as ./{number}")
    files = find_files(catalog, number) if number < 2**63 else []
    if not files:
        raise BadQuery(
            f"the library has no picture with the id {number}: `clipkit search --json` prints the ids of hits"
        )
    return next((path for path in files if path.is_file()), files[0])


def _file_of_generated(reference: str, catalog: Catalog | None) -> Path:
    if catalog is None:
        raise BadQuery(f"{reference} is a generated picture of a library, and there is no library here")
    number = reference.removeprefix(GENERATED)
    found = next((picture for picture in list_generated(catalog) if str(picture.id) == number), None)
    if found is None:
        raise BadQuery(f"there is no generated picture {number!r}: `clipkit generated` lists them by number")
    return found.path
