"""The picture that an edited one was made from, as the marks of the edited one name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Edited:
    """What of a picture is new, and what it was before.

    `painted`: bool (h, w), True where the pixels are new.
    `pixels`: the original, upright, RGB.
    `name`: the original's file name, without its folder.
    `content`: the hash of its bytes, as in the catalog; empty if it was given as pixels.
    `data`: its bytes, or the file that holds them, to be the ingredient of a C2PA manifest; None if there are none.
    `marks`: those it carries itself, in words. `generated`: whether they say that it was generated, all of it.
    `invented`: False if no model made anything of the new picture, as when a photograph is enlarged by interpolation.
    """

    painted: np.ndarray
    pixels: Image
    name: str
    content: str = ""
    data: Path | bytes | None = None
    marks: str = ""
    generated: bool = False
    invented: bool = True

    @property
    def whole(self) -> bool:
        """Whether no pixel is the original's any more."""
        return bool(self.painted.all())

    @property
    def region(self) -> str:
        """The box around what is new, as "x,y,width,height" in pixels."""
        rows, columns = np.flatnonzero(self.painted.any(1)), np.flatnonzero(self.painted.any(0))
        left, top = columns[0], rows[0]
        return f"{left},{top},{columns[-1] + 1 - left},{rows[-1] + 1 - top}"
