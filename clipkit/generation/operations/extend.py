"""Outpainting: a picture continued beyond its edges, strip by strip and tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

import numpy as np
from PIL import Image

from clipkit.catalog.generated import Generated
from clipkit.errors import BadQuery
from clipkit.generation.generate import check_count
from clipkit.generation.job import Job, JobOptions, prepare
from clipkit.generation.operations.edit import surroundings, text_term, window_for
from clipkit.generation.operations.masks import feathered
from clipkit.generation.operations.originals import Original, check_not_overwritten
from clipkit.generation.operations.sources import find_source
from clipkit.generation.operations.windows import cut, pasted
from clipkit.generation.painter import choose_painter
from clipkit.searching.query import Query

if TYPE_CHECKING:
    from clipkit.generation.decoder import Settings
    from clipkit.generation.operations.sources import Reference

MAX_SIDE = 16_384
"""Pixels of a side of the result."""
_SEEDS_APART = 1_000_003
"""Difference of the seeds of two tiles: neighbouring pictures of one command have neighbouring seeds."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels; the last two are exclusive."""


def extend(
    picture: Reference,
    text: str = "",
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    count: int = 1,
    steps: int | None = None,
    **options: Unpack[JobOptions],
) -> list[Generated]:
    """Continue a picture beyond its edges, mark and save `count` results; see `Library.extend`."""
    check_count(count)
    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    check_sides(**sides)
    source = find_source(picture, options.get("catalog"))
    check_not_overwritten(options.get("output"), count, source.data)
    entry, options = choose_painter(options)
    original = Original.read(source)
    height, width = original.pixels.shape[:2]
    extended_size((width, height), **sides)
    canvas, new = padded(original.pixels, left, right, top, bottom)
    terms = [source.term()]
    if text.strip():
        terms = [text_term(text), *surroundings(entry, cut(canvas, new, window_for(new, entry)))]
    job = prepare("extend", terms, options, steps=steps)
    results = []
    for number in range(count):
        settings = replace(job.settings, seed=job.settings.seed + number)
        image = Image.fromarray(_painted(canvas, new, job, settings, (left, top, width, height), things=bool(text)))
        results.append(
            job.save(
                image,
                job.file(f"extend {source.title} {text}", settings.seed, number, count),
                settings,
                query=(Query(text=text) if text.strip() else Query(like=(source.name,))).to_json(),
                parents=[source.name],
                parameters={"arguments": [source.name, *([text] if text else [])], "count": 1}
                | {name: value for name, value in sides.items() if value},
                edited=original.edited(new),
            )
        )
    return results


def check_sides(*, left: int, right: int, top: int, bottom: int) -> None:
    """Raise BadQuery if nothing is to be added to any side."""
    if min(left, right, top, bottom) < 0 or not any((left, right, top, bottom)):
        raise BadQuery("say how many pixels to add, as in --right 128; none may be below 0")


def extended_size(size: tuple[int, int], *, left: int, right: int, top: int, bottom: int) -> tuple[int, int]:
    """Return the (width, height) of an extended picture. Raises BadQuery if it is too large."""
    width, height = size[0] + left + right, size[1] + top + bottom
    if max(width, height) > MAX_SIDE:
        raise BadQuery(f"the result would have more than {MAX_SIDE} pixels a side: add fewer")
    return width, height


def padded(pixels: np.ndarray, left: int, right: int, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture with room around it, into which its edges are continued, and the mask of what is new."""
    canvas = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="edge")
    new = np.ones(canvas.shape[:2], bool)
    new[top : top + pixels.shape[0], left : left + pixels.shape[1]] = False
    return canvas, new


def strips(canvas: tuple[int, int], kept: Box, tile: int) -> Iterator[Box]:
    """Yield the boxes to paint, from the picture outwards: beside it first, then above and below over the whole width.

    `canvas`: width and height. `kept`: where the picture lies in it. `tile`: longest side of a box, unless the picture
    is longer than that by less than half.
    """
    left, top, right, bottom = kept
    for start, end in _split(top, bottom, tile):
        yield from ((a, start, b, end) for a, b in reversed(_split(0, left, tile)))
        yield from ((a, start, b, end) for a, b in _split(right, canvas[0], tile))
    for start, end in _split(0, canvas[0], tile):
        yield from ((start, a, end, b) for a, b in reversed(_split(0, top, tile)))
        yield from ((start, a, end, b) for a, b in _split(bottom, canvas[1], tile))


def _split(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Return equal spans from `start` to `end`, none longer than one and a half times `longest`."""
    count = -(-(end - start) * 2 // (3 * longest)) if end > start else 0
    edges = [start + number * (end - start) // max(1, count) for number in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _painted(
    canvas: np.ndarray, new: np.ndarray, job: Job, settings: Settings, kept: Box, *, things: bool
) -> np.ndarray:
    """Return the canvas with all that is new painted. Each tile sees the picture and the tiles before it."""
    from clipkit.generation import synthesis
    from clipkit.generation.operations.painting import paint_patch

    left, top, width, height = kept
    pixels, unpainted = canvas, new.copy()
    tile = max(job.entry.size, *(extent for extent in _thicknesses(new.shape, kept)))
    boxes = strips((new.shape[1], new.shape[0]), (left, top, left + width, top + height), tile)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        inside = np.zeros_like(new)
        inside[y0:y1, x0:x1] = unpainted[y0:y1, x0:x1]
        window = window_for(inside, job.entry)
        # What is not painted yet is not there to be kept either.
        patch = cut(pixels, unpainted, window)
        current = replace(settings, seed=(settings.seed + number * _SEEDS_APART) % 2**63)
        pairs = synthesis.generate_images(
            job.entry,
            job.conditions,
            current,
            1,
            unconditional=job.unconditional,
            draw=partial(paint_patch, patch=patch, things=things),
            device=job.device,
            progress=job.progress,
        )
        painted, _ = next(iter(pairs))
        pixels = pasted(pixels, painted, window, feathered(inside))
        unpainted[y0:y1, x0:x1] = False
    return pixels


def _thicknesses(canvas: tuple[int, ...], kept: Box) -> tuple[int, ...]:
    """Return how many pixels are added on each side, of which a tile need hold no more than the picture is long."""
    left, top, width, height = kept
    added = left, top, canvas[1] - left - width, canvas[0] - top - height
    return tuple(min(extent, width, height) for extent in added)
