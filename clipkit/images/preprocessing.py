"""Turn a picture into the square of pixels that a CLIP image tower expects, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_FILTERS = ("bicubic", "bilinear")
# Beyond this aspect ratio only the middle is resized: a strip of 1 x 100,000 would otherwise become 22 million pixels
# wide, of which the centre crop keeps 224.
_MAX_STRIP = 64


@dataclass(frozen=True)
class Preprocessing:
    """How a model preprocesses pictures, with the same pixels as open_clip 3.3's `image_transform(is_train=False)`.

    `size`: side of the square, in pixels.
    `mean`, `std`: of the RGB channels, in 0..1.
    `interpolation`: "bicubic" or "bilinear".
    `resize_mode`: "shortest" resizes the shorter side to `size` and crops the centre, "squash" resizes both sides,
    "longest" resizes the longer side and pads with `fill_color` (0 to 255).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the size must be at least 1 pixel, not {self.size}")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"the interpolation must be one of {', '.join(_FILTERS)}, not {self.interpolation!r}")
        if self.resize_mode not in ("shortest", "squash", "longest"):
            raise ValueError(f"the resize mode must be shortest, squash or longest, not {self.resize_mode!r}")

    def pixels(self, image: Image.Image, whole: tuple[int, int] | None = None) -> np.ndarray:
        """Return the picture as uint8 (size, size, 3), RGB.

        `whole` is the (width, height) before the picture was decoded at reduced scale. It determines the aspect ratio:
        reduced sides are rounded, which would shift the crop.
        """
        image = image if image.mode == "RGB" else image.convert("RGB")
        whole = whole or image.size
        if self.resize_mode == "shortest":
            image = _middle(image)
        fill = self.fill_color if self.resize_mode == "longest" else 0
        square = self._crop_or_pad(self._resize(image, *self._resized(whole)), fill)
        return np.array(square, dtype=np.uint8)

    def frame(self, whole: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return which part of a picture of this (width, height) the square of `pixels` shows.

        The result is (left, top, right, bottom) in fractions of the picture's sides, so that the whole picture is
        (0, 0, 1, 1). What lies below 0 or above 1 is padding.
        """
        starts: list[float] = []
        ends: list[float] = []
        for side, resized in zip(whole, self._resized(whole), strict=True):
            # Of a very long strip only the middle was resized.
            strip = _MAX_STRIP * min(whole) / side if self.resize_mode == "shortest" else 1.0
            padding = max(0, self.size - resized) // 2
            start = round((max(resized, self.size) - self.size) / 2.0) - padding
            for edge, found in ((start, starts), (start + self.size, ends)):
                found.append(0.5 + (edge / resized - 0.5) * min(1.0, strip))
        return starts[0], starts[1], ends[0], ends[1]

    def normalise(self, batch: np.ndarray) -> np.ndarray:
        """Convert uint8 (n, size, size, 3) to the network's input, float32 (n, 3, size, size), contiguous."""
        # (x / 255 - mean) / std as one multiplication and one addition per value.
        scale = (1 / (255 * np.asarray(self.std, np.float64))).astype(np.float32)
        shift = (-np.asarray(self.mean, np.float64) / np.asarray(self.std, np.float64)).astype(np.float32)
        out = np.empty((batch.shape[0], 3, *batch.shape[1:3]), np.float32)
        for channel in range(3):
            np.multiply(batch[..., channel], scale[channel], out=out[:, channel], casting="unsafe", dtype=np.float32)
            out[:, channel] += shift[channel]
        return out

    def _resized(self, whole: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height to which a picture of this width and height is resized, before it is cropped."""
        if self.resize_mode == "squash":
            return self.size, self.size
        if self.resize_mode == "longest":
            ratio = max(whole) / self.size
            return max(1, round(whole[0] / ratio)), max(1, round(whole[1] / ratio))
        shortest, longest = sorted(whole)
        long_side = int(self.size * min(longest, shortest * _MAX_STRIP) / shortest)
        return (self.size, long_side) if whole[0] <= whole[1] else (long_side, self.size)

    def _resize(self, image: Image.Image, width: int, height: int) -> Image.Image:
        from PIL.Image import Resampling

        resampling = Resampling[self.interpolation.upper()]
        return image if image.size == (width, height) else image.resize((width, height), resampling)

    def _crop_or_pad(self, image: Image.Image, fill: int) -> Image.Image:
        spare = [max(0, self.size - side) for side in image.size]
        if any(spare):
            from PIL import ImageOps

            border = (spare[0] // 2, spare[1] // 2, (spare[0] + 1) // 2, (spare[1] + 1) // 2)
            image = ImageOps.expand(image, border, (fill, fill, fill))
        # round half to even, as torchvision does
        left, top = (round((side - self.size) / 2.0) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


def _middle(image: Image.Image) -> Image.Image:
    shortest, longest = sorted(image.size)
    if longest <= shortest * _MAX_STRIP:
        return image
    start = (longest - shortest * _MAX_STRIP) // 2
    end = start + shortest * _MAX_STRIP
    return image.crop((start, 0, end, shortest) if image.width > image.height else (0, start, shortest, end))
