"""Blends: pictures on the way between two or more pictures or texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from clipkit.catalog.generated import Generated
from clipkit.errors import BadQuery
from clipkit.generation.command_line import named_text
from clipkit.generation.job import JobOptions, prepare
from clipkit.generation.operations.interpolation import interpolate
from clipkit.generation.operations.sources import Source, find_source, names_picture
from clipkit.searching.query import Query, has_words

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.generation.job import Job
    from clipkit.generation.operations.sources import Reference
    from clipkit.generation.synthesis import Input

MAX_STEPS = 100
STRIP_WIDTH = 8192
"""Largest width of a strip in pixels; WebP ends at 16383."""


@dataclass(frozen=True)
class Blend:
    """The pictures of a blend, in order, and all of them side by side; no strip if there is only one."""

    pictures: tuple[Generated, ...]
    strip: Generated | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as `clipkit blend --json` prints it."""
        return {
            "pictures": [picture.to_json() for picture in self.pictures],
            "strip": self.strip.to_json() if self.strip else None,
        }


def blend(
    items: Sequence[Reference],
    steps: int = 5,
    *,
    weights: Sequence[float] | None = None,
    denoising_steps: int | None = None,
    **options: Unpack[JobOptions],
) -> Blend:
    """Blend pictures and texts, mark and save the results; see `Library.blend`."""
    from clipkit.generation import synthesis

    if len(items) < 2:
        raise BadQuery("give at least two pictures or texts to blend")
    path = [shares_of(weights, len(items))] if weights else way(len(items), steps)
    found = [_item(item, options) for item in items]
    sources = [item for item in found if isinstance(item, Source)]
    texts = [item for item in found if isinstance(item, str)]
    terms = [item.term() if isinstance(item, Source) else _text_term(item) for item in found]
    job = prepare("blend", terms, options, steps=denoising_steps, needs_prior=bool(texts))
    embeddings = synthesis.embed_each(job.entry, job.conditions, job.settings.seed, job.device)
    blended = [interpolate(embeddings, shares) for shares in path]
    names = [item.name if isinstance(item, Source) else named_text(item, names_picture) for item in found]
    titles = " ".join(item.title if isinstance(item, Source) else item for item in found)
    record: dict[str, Any] = {
        "query": Query(text=" + ".join(texts), like=tuple(source.name for source in sources)).to_json(),
        "parents": [source.name for source in sources],
    }
    # In this command `--steps` counts pictures.
    parameters: dict[str, Any] = {"arguments": names, "steps": None, "denoising_steps": job.settings.steps}
    pictures: list[Generated] = []
    images: list[Image] = []
    for image, settings in synthesis.sample_each(
        job.entry, _inputs(job, blended), len(path), guard=job.guard, device=job.device, progress=job.progress
    ):
        image = job.enlarged(image)
        number, shares = len(images), path[len(images)]
        file = job.file(f"blend {titles} {number + 1}", settings.seed, number, len(path))
        own = parameters | {"weights": ",".join(map(repr, shares))}
        pictures.append(job.save(image, file, settings, **record, parameters=own))
        images.append(image)
    if len(images) == 1:
        return Blend(tuple(pictures), None)
    file = job.file(f"blend {titles} strip", job.settings.seed)
    strip = job.save(side_by_side(images), file, job.settings, **record, parameters=parameters | {"steps": steps})
    return Blend(tuple(pictures), strip)


def way(items: int, steps: int) -> list[list[float]]:
    """Return the weights of `steps` points, evenly spaced on the way from the first item over all others to the last.

    Raises BadQuery if there are too few or too many.
    """
    if not 2 <= steps <= MAX_STEPS:
        raise BadQuery(f"the number of steps must be from 2 to {MAX_STEPS}, both ends included")
    points = []
    for t in np.linspace(0, items - 1, steps):
        left = min(int(t), items - 2)
        shares = [0.0] * items
        shares[left], shares[left + 1] = 1 - (float(t) - left), float(t) - left
        points.append(shares)
    return points


def shares_of(weights: Sequence[float], items: int) -> list[float]:
    """Return the weights of so many items, scaled to a sum of 1. Raises BadQuery."""
    if len(weights) != items:
        raise BadQuery(f"{len(weights)} weights for {items} pictures and texts: give one for each")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        raise BadQuery("weights must be numbers from 0, not all of them 0")
    total = sum(weights)
    # Left alone if they add up to 1 already, so that recorded weights give the same bytes again.
    return [weight if abs(total - 1) < 1e-9 else weight / total for weight in map(float, weights)]


def side_by_side(images: Sequence[Image]) -> Image:
    """Return square images of one size in a row, reduced if they would be wider than `STRIP_WIDTH`."""
    from PIL import Image as images_module

    side = min(images[0].width, STRIP_WIDTH // len(images))
    strip = images_module.new("RGB", (side * len(images), side))
    for number, image in enumerate(images):
        resized = image if image.width == side else image.resize((side, side), images_module.Resampling.LANCZOS)
        strip.paste(resized, (number * side, 0))
    return strip


def _inputs(job: Job, embeddings: Sequence[np.ndarray]) -> Iterator[Input]:
    """Yield what each picture is sampled from: one seed, so that all have the same initial noise."""
    from clipkit.generation.decoder import Conditioning

    negative = Conditioning(job.unconditional_embedding())
    for embedding in embeddings:
        yield Conditioning(embedding), negative, job.settings


def _item(item: Reference, options: JobOptions) -> Source | str:
    if names_picture(item):
        return find_source(item, options.get("catalog"))
    text = str(item).strip()
    if not has_words(text):
        raise BadQuery(f"there are no words in {text!r}: give a picture, or describe what to blend")
    return text


def _text_term(text: str) -> Any:
    from clipkit.generation.routes import QueryTerm

    return QueryTerm(text, False, 1.0)
