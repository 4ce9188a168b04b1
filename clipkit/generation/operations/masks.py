"""Masks: which pixels of a picture are repainted, and how the new ones fade into the old."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from clipkit.errors import BadQuery
from clipkit.generation.operations.sources import find_source

if TYPE_CHECKING:
    MaskLike = str | Path | bytes | Image.Image | np.ndarray
    """A mask as a file, a URL, the bytes of a file, a Pillow image or an array; white, or above 127, is repainted."""

SEAM = 1 / 24
"""Width of the seam, as a share of the shorter side of what is repainted."""


def read_mask(mask: MaskLike, size: tuple[int, int]) -> np.ndarray:
    """Return a mask for a picture of `size` (width, height), bool (height, width), True where it is repainted.

    A mask of the same shape at another scale is resized. Raises BadQuery, UnreadableImage.
    """
    image = find_source(mask).open() if isinstance(mask, str | Path | bytes) else as_image(mask)
    image = image.convert("L")
    if image.size != size:
        check_shape(image.size, size)
        image = image.resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(image) > 127
    if not inside.any():
        raise BadQuery("the mask is black: paint white what is to be repainted")
    return inside


def as_image(mask: Image.Image | np.ndarray) -> Image.Image:
    """Return a mask in memory as an image; an array is bool, or 0 to 255."""
    if isinstance(mask, np.ndarray):
        return Image.fromarray(mask.astype(np.uint8) * (255 if mask.dtype == bool else 1))
    return mask


def check_shape(mask: tuple[int, int], picture: tuple[int, int]) -> None:
    """Raise BadQuery if a mask of this size does not have the shape of the picture; both are (width, height)."""
    (own_width, own_height), (width, height) = mask, picture
    if abs(width * own_height - height * own_width) > max(width, height):
        raise BadQuery(
            f"the mask has {own_width} x {own_height} pixels and the picture, upright, {width} x {height}: give a "
            "mask of the same shape"
        )


def box_mask(box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a box (x, y, width, height) in pixels of the upright picture; what lies outside is cut off.

    Raises BadQuery if nothing of the box lies in the picture.
    """
    left, top, right, bottom = clipped(box, size)
    inside = np.zeros((size[1], size[0]), bool)
    inside[top:bottom, left:right] = True
    return inside


def clipped(box: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the edges (left, top, right, bottom) of a box (x, y, width, height) within a picture of `size`.

    Raises BadQuery if nothing of the box lies in the picture.
    """
    if len(box) != 4:
        raise BadQuery("a box is X,Y,W,H: its left and upper edge, its width and its height, in pixels")
    x, y, width, height = (round(value) for value in box)
    left, top, right, bottom = max(0, x), max(0, y), min(size[0], x + width), min(size[1], y + height)
    if right <= left or bottom <= top:
        raise BadQuery(
            f"the box {x},{y},{width},{height} is not in the picture, which has {size[0]} x {size[1]} pixels"
        )
    return left, top, right, bottom


def bounds(inside: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) around what a mask repaints; right and bottom are exclusive."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def feathered(inside: np.ndarray) -> np.ndarray:
    """Return the opacity of the new pixels, uint8 (h, w): 0 outside the mask, rising to 255 within a seam inside it.

    There is no seam along the picture's edges.
    """
    left, top, right, bottom = bounds(inside)
    radius = max(1.0, SEAM * min(right - left, bottom - top))
    # Only the surroundings that the blur reaches, because pictures may be large; it takes what lies beyond as equal.
    reach = 4 * round(radius) + 2
    rows, columns = slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach)
    near = inside[rows, columns]
    blurred = Image.fromarray(near.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    ramp = np.clip(2 * np.asarray(blurred, np.float32) - 255, 0, 255) * near
    # Of a line too thin to hold a seam, the middle is opaque.
    ramp = ramp / ramp.max() * 255 if ramp.max() > 0 else near * np.float32(255)
    opacity = np.zeros(inside.shape, np.uint8)
    opacity[rows, columns] = np.rint(ramp)
    return opacity
