"""Windows: square pieces of a picture, each of which a decoder repaints at its own size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Window:
    """A square of a picture, in pixels; it may reach beyond the picture."""

    left: int
    top: int
    side: int

    def rows(self) -> np.ndarray:
        """Return the picture's rows in it, int (side,); those beyond the picture are negative or too large."""
        return np.arange(self.top, self.top + self.side)

    def columns(self) -> np.ndarray:
        """Return the picture's columns in it, as `rows`."""
        return np.arange(self.left, self.left + self.side)

    def overlap(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where window and picture overlap: (rows, columns) of the picture, and the same of the window."""
        top, bottom = max(0, self.top), min(height, self.top + self.side)
        left, right = max(0, self.left), min(width, self.left + self.side)
        here = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return (slice(top, bottom), slice(left, right)), here


@dataclass(frozen=True)
class Patch:
    """The content of a window: `pixels` uint8 (s, s, 3), and `inside` bool (s, s), True where it is to be painted.

    The pixels there are a guess from what is around them, which decoders improve on.
    """

    pixels: np.ndarray
    inside: np.ndarray

    def image(self, side: int) -> Image.Image:
        """Return the pixels, RGB, at `side` pixels a side."""
        return _resized(Image.fromarray(self.pixels), side)

    def mask(self, side: int) -> Image.Image:
        """Return the mask at `side` pixels a side, mode L, white where any pixel is to be painted."""
        grown = _resized(Image.fromarray(self.inside.astype(np.uint8) * 255), side)
        return grown.point(lambda value: 255 if value else 0)


def cut(pixels: np.ndarray, inside: np.ndarray, window: Window) -> Patch:
    """Return the content of a window of a picture, uint8 (h, w, 3), with a mask, bool (h, w).

    Beyond the picture, whose edges are continued, there is nothing to keep: those pixels count as to be painted.
    """
    height, width = inside.shape
    rows, columns = np.clip(window.rows(), 0, height - 1), np.clip(window.columns(), 0, width - 1)
    unknown = np.ones((window.side, window.side), bool)
    there, here = window.overlap(height, width)
    unknown[here] = inside[there]
    return Patch(pixels[rows][:, columns], unknown)


def cut_and_fill(pixels: np.ndarray, inside: np.ndarray, window: Window) -> Patch:
    """Return the same with what is to be painted filled in smoothly."""
    patch = cut(pixels, inside, window)
    return Patch(filled(patch.pixels, patch.inside), patch.inside)


def around(
    bounds: tuple[int, int, int, int], size: tuple[int, int], margin: float, *, smallest: int = 0, centred: bool = False
) -> Window:
    """Return the window around a box (left, top, right, bottom) in a picture of `size` (width, height).

    `margin`: on every side, as a share of the box's longer side.
    `smallest`: make it no smaller than this, if the picture is as large.
    `centred`: keep the box in the middle even if the window then reaches beyond the picture; otherwise the window is
    moved, and made smaller down to the box, to stay within it.
    """
    left, top, right, bottom = bounds
    longest, shortest_side = max(right - left, bottom - top), min(size)
    side = max(round(longest * (1 + 2 * margin)), min(smallest, shortest_side))
    if not centred:
        side = max(longest, min(side, shortest_side))
    x, y = (left + right - side) // 2, (top + bottom - side) // 2
    if not centred:
        x, y = (
            position if side > whole else min(max(0, position), whole - side)
            for position, whole in zip((x, y), size, strict=True)
        )
    return Window(x, y, side)


def filled(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return pixels, uint8 (h, w, 3), with those of the mask filled in smoothly from around it.

    By means over pairs of rows and columns, at every scale from fine to coarse, and back: Gortler et al., "The
    lumigraph" (SIGGRAPH 1996), section 3.4. Without any pixel to start from, they are grey.
    """
    if inside.all():
        return np.full_like(pixels, 128)
    return np.rint(_pull_push(pixels.astype(np.float32), ~inside)).astype(np.uint8)


def _pull_push(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    if known.all():
        return pixels
    height, width = known.shape
    even = ((0, height % 2), (0, width % 2))
    weights = np.pad(known.astype(np.float32), even)
    values = np.pad(pixels * known[..., None], (*even, (0, 0)))
    rows, columns = weights.shape[0] // 2, weights.shape[1] // 2
    counts = weights.reshape(rows, 2, columns, 2).sum((1, 3))
    means = values.reshape(rows, 2, columns, 2, 3).sum((1, 3)) / np.maximum(counts, 1)[..., None]
    coarse = _pull_push(means, counts > 0)
    size = weights.shape[1], weights.shape[0]
    channels = [Image.fromarray(coarse[..., c]).resize(size, Image.Resampling.BILINEAR) for c in range(3)]
    enlarged = np.stack([np.asarray(channel) for channel in channels], -1)[:height, :width]
    return np.where(known[..., None], pixels, enlarged)


def pasted(pixels: np.ndarray, painted: Image.Image, window: Window, opacity: np.ndarray) -> np.ndarray:
    """Return the picture, uint8 (h, w, 3), with a painted window over it.

    `opacity`: uint8 (h, w); where it is 0, every pixel is kept bit for bit.
    """
    there, here = window.overlap(*opacity.shape)
    side = (window.side, window.side)
    new = painted if painted.size == side else painted.resize(side, Image.Resampling.LANCZOS)
    share = (opacity[there].astype(np.float32) / 255)[..., None]
    old = pixels[there].astype(np.float32)
    result = pixels.copy()
    result[there] = np.where(share > 0, np.rint(old + share * (np.asarray(new)[here] - old)), old).astype(np.uint8)
    return result


def _resized(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    shrinks = image.width > side
    return image.resize((side, side), Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
