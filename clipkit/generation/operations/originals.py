"""The original of an edited picture: its pixels, and what the marks of the edited one say about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from PIL.Image import Image

from clipkit.errors import BadQuery
from clipkit.generation.operations.sources import Source
from clipkit.generation.saving import numbered_file
from clipkit.searching.query import is_url

if TYPE_CHECKING:
    from clipkit.marks.original import Edited
    from clipkit.marks.reading import Marks


@dataclass(frozen=True)
class Original:
    """A picture to be edited: `image` upright, RGB, of full size."""

    source: Source
    image: Image
    marks: Marks | None

    @classmethod
    def read(cls, source: Source) -> Original:
        """Decode a picture and read its marks. Raises UnreadableImage."""
        from clipkit.marks.reading import read_marks

        image = source.open()
        marks = read_marks(source.data, image) if isinstance(source.data, Path | bytes) else None
        return cls(source, image, marks)

    @cached_property
    def pixels(self) -> np.ndarray:
        """The same as uint8 (h, w, 3)."""
        return np.array(self.image)

    @property
    def says_generated(self) -> bool:
        """Whether marks say that a model generated it, or a part of it."""
        return self.marks is not None and self.marks.generated

    def edited(self, painted: np.ndarray, *, invented: bool = True) -> Edited:
        """Return the description of a picture in which `painted`, bool (h, w), is new, and `invented` by a model."""
        from clipkit.marks.original import Edited

        name = self.source.name
        return Edited(
            painted=painted,
            pixels=self.image,
            name=Path(urlsplit(name).path if is_url(name) else name).name,
            content=self.source.content,
            data=self.source.data if isinstance(self.source.data, Path | bytes) else None,
            marks=self.marks.in_words if self.marks else "",
            generated=self.marks is not None and self.marks.generated and not self.marks.edited,
            invented=invented or self.says_generated,
        )


def check_not_overwritten(output: str | Path | None, count: int, *originals: Any) -> None:
    """Raise BadQuery if one of the `count` files to be written is one of the originals."""
    if output is None:
        return
    files = [numbered_file(Path(output), number, count) for number in range(count)]
    for original in originals:
        if not isinstance(original, str | Path) or is_url(original):
            continue
        for file in files:
            if file.exists() and os.path.exists(original) and os.path.samefile(file, original):
                raise BadQuery(f"{file} is the original, which is never overwritten: name another file with -o")
