"""What a child process of `DecodePool` makes of a picture other than the pixels of a whole file: tasks to run there."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import Picture, open_picture
from clipkit.images.limits import Limits
from clipkit.images.preprocessing import Preprocessing

Region = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the full upright picture."""


@dataclass(frozen=True)
class Thumbnail:
    """The whole picture as WebP, its longer side at most `side` pixels; with an XMP packet if one is given."""

    side: int
    xmp: bytes = b""
    quality: int = 80

    def __call__(self, path: Path, limits: Limits) -> bytes:
        # A long strip needs more than `side` on its shorter side for nothing; decoders keep the shape.
        image = open_picture(path, shortest_side=self.side, limits=limits).image
        image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        out = io.BytesIO()
        image.save(out, "WEBP", quality=self.quality, method=2, **({"xmp": self.xmp} if self.xmp else {}))
        return out.getvalue()


@dataclass(frozen=True)
class ModelInput:
    """The picture, or a region of it, preprocessed for a model: uint8 (size, size, 3), RGB.

    Without a region the pixels are those that `clipkit.searching.query` makes of the same file.
    """

    preprocessing: Preprocessing
    region: Region | None = None

    def __call__(self, path: Path, limits: Limits) -> np.ndarray:
        if self.region is None:
            picture = open_picture(path, shortest_side=2 * self.preprocessing.size, limits=limits)
            return self.preprocessing.pixels(picture.image, picture.whole)
        return self.preprocessing.pixels(cropped(open_picture(path, limits=limits), self.region, path))


@dataclass(frozen=True)
class Checked:
    """The width, height and format of a picture that can be decoded."""

    def __call__(self, path: Path, limits: Limits) -> tuple[int, int, str]:
        picture = open_picture(path, shortest_side=64, limits=limits)
        return picture.width, picture.height, picture.format


@dataclass(frozen=True)
class Brightest:
    """The largest luminance of the picture's pixels, 0 to 255."""

    def __call__(self, path: Path, limits: Limits) -> int:
        return int(np.asarray(open_picture(path, limits=limits).image.convert("L")).max())


def cropped(picture: Picture, region: Region, path: Path) -> Image.Image:
    """Return a region of a picture, cut to its edges. Raises `UnreadableImage` if nothing is left."""
    width, height = picture.image.size
    across, down = width / picture.width, height / picture.height  # of a RAW file there may be only a preview
    left, top = max(0, round(region[0] * across)), max(0, round(region[1] * down))
    right = min(width, round((region[0] + region[2]) * across))
    bottom = min(height, round((region[1] + region[3]) * down))
    if right <= left or bottom <= top:
        raise UnreadableImage(
            path,
            "unreadable",
            f"the region lies outside the picture, which has {picture.width} x {picture.height} pixels",
        )
    return picture.image.crop((left, top, right, bottom))
