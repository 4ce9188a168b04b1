"""Saving generated pictures: the file's name, the provenance marks in it, and the row in the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import Generated, record_generated
from clipkit.errors import BadQuery, ClipkitError
from clipkit.searching.query import in_words

if TYPE_CHECKING:
    from clipkit.marks.original import Edited

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")

MAX_NAME = 60
"""Characters of the query in a file's name."""


def check_extension(output: Path) -> None:
    """Raise BadQuery if the file extension is not one that marks can be written to."""
    if output.suffix.lower() not in EXTENSIONS:
        raise BadQuery(f"{output} is not the name of a picture: use one of {', '.join(EXTENSIONS)}")


def unused_file(folder: Path, text: str, seed: int) -> Path:
    """Return a file that does not exist yet, named after the query's text and the seed: "a-red-car-17.png"."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAX_NAME].strip("-") or "picture"
    path, number = folder / f"{words}-{seed}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{words}-{seed}-{number}.png"
    return path


def numbered_file(output: Path, number: int, count: int) -> Path:
    """Return the file for picture `number` of `count`, from 0: `output` itself if there is only one."""
    return output if count == 1 else output.with_stem(f"{output.stem}-{number + 1}")


def save_generated(
    catalog: Catalog | None,
    picture: Generated,
    image: Image,
    *,
    edited: Edited | None = None,
    label: bool = False,
    say: Callable[[str], None] | None = None,
) -> Generated:
    """Write a picture with its marks, and record it if there is a catalog.

    `edited`: what of an edited picture is new. `label`: draw a visible mark too. `say`: told what the marks lack.
    Returns it with its id in the catalog. Raises ClipkitError if the file cannot be written.
    """
    from clipkit.marks.label import EDITED, GENERATED, draw_label
    from clipkit.marks.provenance import Provenance
    from clipkit.marks.writing import save_marked

    provenance = Provenance(
        query=in_words(picture.query),
        model=picture.decoder,
        seed=picture.seed,
        steps=picture.steps,
        guidance=picture.guidance,
        operation=None if picture.operation == "generate" else picture.operation,
    )

    if label:
        part = edited.painted if edited and not edited.whole else None
        image = draw_label(image, EDITED if edited and not (edited.whole and edited.generated) else GENERATED, part)

    def write() -> None:
        try:
            has_watermark = save_marked(image, picture.path, provenance, edited=edited)
        except OSError as error:
            raise ClipkitError(f"cannot write the picture {picture.path}: {error}") from error
        if say is not None:
            for note in _notes(picture.path, edited, has_watermark):
                say(note)

    if catalog is None:
        write()
        return picture
    return record_generated(catalog, picture, write)


def _notes(path: Path, edited: Edited | None, has_watermark: bool) -> Iterator[str]:
    if edited is not None and edited.invented and not has_watermark:
        yield f"the invisible watermark has no room in what is new in {path.name}; its metadata says that it is edited"
    if edited is not None and not edited.whole and path.suffix.lower() in (".jpg", ".jpeg"):
        yield f"JPEG is lossy: the other pixels of {path.name} are not exactly the original's, as in PNG or WebP"
