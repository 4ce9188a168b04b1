"""Saving generated pictures: the file's name, the provenance marks in it, and the row in the catalog."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import Generated, record_generated
from clipkit.errors import BadQuery, ClipkitError
from clipkit.searching.query import is_picture

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


def save_generated(catalog: Catalog | None, picture: Generated, image: Image) -> Generated:
    """Write a picture with its marks, and record it if there is a catalog.

    Returns it with its id in the catalog. Raises ClipkitError if the file cannot be written.
    """
    from clipkit.marks.provenance import Provenance
    from clipkit.marks.writing import save_marked

    provenance = Provenance(
        query=_one_line(picture.query),
        model=picture.decoder,
        seed=picture.seed,
        steps=picture.steps,
        guidance=picture.guidance,
        operation=None if picture.operation == "generate" else picture.operation,
    )

    def write() -> None:
        try:
            save_marked(image, picture.path, provenance)
        except OSError as error:
            raise ClipkitError(f"cannot write the picture {picture.path}: {error}") from error

    if catalog is None:
        write()
        return picture
    return record_generated(catalog, picture, write)


def _one_line(query: dict[str, Any]) -> str:
    like: Sequence[str] = [f"like {Path(name).name}" for name in query["like"]]
    avoided: Sequence[str] = [
        # Names only: a path would tell where the picture lay, and differ with the folder a command is run in.
        f"not {Path(name).name if is_picture(name) else name}"
        for name in query["not"]
    ]
    return ", ".join(part for part in (query["text"], *like, *avoided) if part)
