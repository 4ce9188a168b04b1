"""Save a drawing of a picture's heat, with the marks of the picture if a model made it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.atomic import atomic_write
from clipkit.errors import BadQuery, ClipkitError
from clipkit.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.marks.reading import Marks


def save_heat(sheet: Image, path: Path, *, words: str, picture: str, model: str, marks: Marks | None) -> None:
    """Write a drawing as PNG, JPEG or WebP, by the extension.

    words: the query. picture: the path or URL of the picture that was drawn on. model: the one that was asked.
    marks: those of the picture. If they say that a model generated or edited it, the file is marked as a composite with
    such a picture, and names its marks; otherwise it carries none, because no pixel of it was invented.

    Raises BadQuery if `path` is the picture itself, ClipkitError for another extension, or if it cannot be written.
    """
    from clipkit.marks.writing import format_for

    format_name = format_for(path)
    if os.path.exists(picture) and path.exists() and os.path.samefile(path, picture):
        raise BadQuery(f"{path} is the picture itself, which is never overwritten: name another file")
    try:
        if marks is not None and marks.generated:
            _save_marked(sheet, path, words, Path(picture).name, model, marks)
        else:
            _save(sheet, path, format_name, words)
    except OSError as error:
        raise ClipkitError(f"cannot write {path}: {error}") from error


def _save(sheet: Image, path: Path, format_name: str, words: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    out = io.BytesIO()
    if format_name == "PNG":
        texts = PngInfo()
        texts.add_itxt("Software", f"clipkit {__version__}")
        texts.add_itxt("Description", words.replace("\0", " ").encode("utf-8", "replace").decode())
        sheet.save(out, "PNG", pnginfo=texts)
    else:
        sheet.save(out, format_name, quality=92)
    with atomic_write(path) as file:
        file.write(out.getvalue())


def _save_marked(sheet: Image, path: Path, words: str, name: str, model: str, marks: Marks) -> None:
    from clipkit.marks.original import Edited
    from clipkit.marks.provenance import Provenance
    from clipkit.marks.writing import save_marked

    everywhere = np.ones((sheet.height, sheet.width), bool)
    provenance = Provenance(query=words, model=model, seed=0, operation="explain")
    save_marked(sheet, path, provenance, edited=Edited(everywhere, sheet, name, marks=marks.in_words))
