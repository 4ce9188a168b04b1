"""Enlarge a picture tile by tile, so that memory does not grow with the picture; tiles overlap and fade into another.

Every tile is given with a margin of context, which is thrown away. Between two tiles lies a feather of some pixels in
which the result changes from the one to the other. What the network makes is reduced tile by tile to the size that is
wanted, so that nothing larger than the result is ever held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image


class Upscaler(Protocol):
    """A network that enlarges pictures by a whole factor.

    `multiple`: tiles start at multiples of this many pixels, so that the network's own grid is the same in all.
    `tile`, `margin`, `feather`: side of a tile, context on each side of it, and width of the fade, in pixels of what
    is enlarged.
    """

    factor: int
    multiple: int
    tile: int
    margin: int
    feather: int

    def enlarge(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels, uint8 (h, w, 3), enlarged to uint8 (factor * h, factor * w, 3)."""
        ...


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels of the picture.

    `start`, `stop`: what the network is given. `begin`, `end`: the part of the result that it makes.
    `fade`: over how many pixels it fades in from `begin`; 0 for the first tile.
    """

    start: int
    stop: int
    begin: float
    end: float
    fade: int


def spans(length: int, upscaler: Upscaler) -> list[Span]:
    """Return the tiles that cover `length` pixels, each of `tile` pixels at most."""
    tile, multiple, feather = upscaler.tile, upscaler.multiple, upscaler.feather
    if length <= tile:
        return [Span(0, length, 0.0, float(length), 0)]
    step = (tile - 2 * upscaler.margin - feather) // multiple * multiple
    last = -(-(length - tile) // multiple) * multiple
    starts = [*range(0, last, step), last]
    stops = [min(start + tile, length) for start in starts]
    middles = [(start + stop) / 2 for start, stop in zip(starts[1:], stops, strict=False)]
    begins = [0.0, *(middle - feather / 2 for middle in middles)]
    ends = [*(middle + feather / 2 for middle in middles), float(length)]
    fades = [0, *(feather for _ in middles)]
    return [Span(*one) for one in zip(starts, stops, begins, ends, fades, strict=True)]


def tile_count(size: tuple[int, int], upscaler: Upscaler) -> int:
    """Return the number of tiles of a picture of `size` (width, height)."""
    return len(spans(size[0], upscaler)) * len(spans(size[1], upscaler))


def enlarge_in_tiles(
    pixels: np.ndarray, size: tuple[int, int], upscaler: Upscaler, on_tile: Callable[[], None]
) -> np.ndarray:
    """Return a picture, uint8 (h, w, 3), enlarged to `size` (width, height), at most by the network's factor.

    `on_tile`: called after every tile.
    """
    height, width = pixels.shape[:2]
    exact = size == (width * upscaler.factor, height * upscaler.factor)
    result = np.empty((size[1], size[0], 3), np.uint8)
    for row in spans(height, upscaler):
        down = _part(row, height, size[1], upscaler.factor)
        for column in spans(width, upscaler):
            across = _part(column, width, size[0], upscaler.factor)
            large = upscaler.enlarge(pixels[row.start : row.stop, column.start : column.stop])
            there = result[down.first : down.last, across.first : across.last]
            _fade_in(there, _cut(large, across, down, exact), np.outer(down.opacity, across.opacity))
            on_tile()
    return result


@dataclass(frozen=True)
class _Part:
    """What a tile makes of the result along one axis: the pixels `first` to `last`, and the opacity of each.

    `box`: the same edges in pixels of the network's output.
    """

    first: int
    last: int
    box: tuple[float, float]
    opacity: np.ndarray


def _part(span: Span, length: int, target: int, factor: int) -> _Part:
    scale = length / target
    first, last = math.floor(span.begin / scale), min(target, math.ceil(span.end / scale))
    limit = (span.stop - span.start) * factor
    low, high = (min(float(limit), max(0.0, (edge * scale - span.start) * factor)) for edge in (first, last))
    opacity = np.ones(last - first, np.float32)
    if span.fade:
        middles = (np.arange(first, last) + 0.5) * scale
        opacity = np.clip((middles - span.begin) / span.fade, 0, 1).astype(np.float32)
    return _Part(first, last, (low, high), opacity)


def _cut(large: np.ndarray, across: _Part, down: _Part, exact: bool) -> np.ndarray:
    """Return the part of a network's output that is used, at the result's size."""
    if exact:
        rows, columns = (slice(*map(round, part.box)) for part in (down, across))
        return large[rows, columns]
    # Pillow also weighs pixels outside the box, so that tiles are reduced as the whole picture would be. The width is
    # reduced first in all: left to itself it takes the order that is faster, and rounds differently in between.
    image, width = Image.fromarray(large), across.last - across.first
    (left, right), (top, bottom) = across.box, down.box
    image = image.resize((width, image.height), Image.Resampling.LANCZOS, box=(left, 0, right, image.height))
    size = width, down.last - down.first
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, box=(0, top, width, bottom)))


def _fade_in(there: np.ndarray, tile: np.ndarray, opacity: np.ndarray) -> None:
    """Put a tile over what is there, in place."""
    if opacity.min() == 1:
        there[...] = tile
    else:
        before = there.astype(np.float32)
        there[...] = np.rint(before + opacity[..., None] * (tile - before)).astype(np.uint8)
