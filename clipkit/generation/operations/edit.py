"""Edits: what a text says is painted into a box or a mask of a picture, and all other pixels are kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from PIL import Image

from clipkit.catalog.generated import Generated
from clipkit.errors import BadQuery
from clipkit.generation.command_line import named_absolutely
from clipkit.generation.generate import check_count
from clipkit.generation.job import JobOptions, prepare
from clipkit.generation.operations.masks import box_mask, feathered, read_mask
from clipkit.generation.operations.originals import Original, check_not_overwritten
from clipkit.generation.operations.sources import find_source
from clipkit.generation.operations.windows import Patch, Window, around, cut_and_fill, pasted
from clipkit.generation.painter import choose_painter
from clipkit.searching.query import Query

if TYPE_CHECKING:
    from clipkit.generation.operations.masks import MaskLike
    from clipkit.generation.operations.sources import Reference
    from clipkit.generation.registry import DecoderEntry
    from clipkit.generation.routes import QueryTerm

SURROUNDINGS = 0.25
"""Weight of what surrounds the mask, against the text, for decoders that only know whole pictures."""


def edit(
    picture: Reference,
    text: str,
    *,
    mask: MaskLike | None = None,
    box: Sequence[int] | None = None,
    count: int = 1,
    steps: int | None = None,
    **options: Unpack[JobOptions],
) -> list[Generated]:
    """Paint what a text says into a picture, mark and save `count` results; see `Library.edit`."""
    from clipkit.generation import synthesis
    from clipkit.generation.operations.painting import paint_patch

    check_count(count)
    if (mask is None) == (box is None):
        raise BadQuery("say what to repaint: either a box, as X,Y,W,H, or a mask")
    query = Query(text=text)
    if not query.text.strip():
        raise BadQuery("say in words what to paint")
    source = find_source(picture, options.get("catalog"))
    check_not_overwritten(options.get("output"), count, source.data, mask)
    entry, options = choose_painter(options)
    original = Original.read(source)
    size = original.image.size
    inside = box_mask(box, size) if box is not None else read_mask(mask, size)  # type: ignore[arg-type]
    window = window_for(inside, entry)
    patch = cut_and_fill(original.pixels, inside, window)
    terms = [text_term(text), *surroundings(entry, patch)]
    job = prepare("edit", terms, options, steps=steps, picture_size=size)
    opacity = feathered(inside)
    pairs = synthesis.generate_images(
        job.entry,
        job.conditions,
        job.settings,
        count,
        unconditional=job.unconditional,
        draw=partial(paint_patch, patch=patch),
        guard=job.guard,
        device=job.device,
        progress=job.progress,
    )
    parameters: dict[str, Any] = {"arguments": [source.name, text], "count": 1}
    parameters |= {"box": ",".join(str(round(v)) for v in box)} if box is not None else {"mask": named_absolutely(mask)}
    return [
        job.save(
            job.enlarged(Image.fromarray(pasted(original.pixels, painted, window, opacity))),
            job.file(f"edit {source.title} {text}", settings.seed, number, count),
            settings,
            query=query.to_json(),
            parents=[source.name],
            parameters=parameters,
            edited=original.edited(inside),
        )
        for number, (painted, settings) in enumerate(pairs)
    ]


def window_for(inside: np.ndarray, entry: DecoderEntry) -> Window:
    """Return the window that a decoder paints to fill a mask.

    An inpainting checkpoint gets as much again of what is around the mask. Decoders of whole pictures paint what they
    are asked for in the middle of theirs, so the mask stays there and fills most of it.
    """
    from clipkit.generation.operations.masks import bounds

    size = inside.shape[1], inside.shape[0]
    if entry.inpaints_only:
        return around(bounds(inside), size, 0.5, smallest=entry.size)
    return around(bounds(inside), size, 0.15, centred=True)


def surroundings(entry: DecoderEntry, patch: Patch) -> list[QueryTerm]:
    """Return a term for what is around the mask, for decoders that cannot see it and take embeddings only.

    Nothing if there is no image tower on disk to embed it: the text alone does without.
    """
    from clipkit.generation.loading import local_model
    from clipkit.generation.routes import QueryTerm, has_image_tower

    if entry.inpaints_only or entry.takes_prompt or not (has_image_tower(entry) or local_model(entry)):
        return []
    image = Image.fromarray(patch.pixels)
    return [QueryTerm("the surroundings", True, SURROUNDINGS, open=lambda _: image)]


def text_term(text: str) -> QueryTerm:
    """Return a text as a term for `clipkit.generation.routes`."""
    from clipkit.generation.routes import QueryTerm

    return QueryTerm(text, False, 1.0)
