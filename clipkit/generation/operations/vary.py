"""Variations: pictures that share what a picture shows, and its layout if that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from clipkit.catalog.generated import Generated
from clipkit.generation.generate import check_count
from clipkit.generation.job import JobOptions, prepare
from clipkit.generation.operations.layout import layout_start
from clipkit.generation.operations.sources import find_source
from clipkit.searching.query import Query

if TYPE_CHECKING:
    from clipkit.generation.operations.sources import Reference


def vary(
    picture: Reference,
    count: int = 4,
    *,
    strength: float = 1.0,
    steps: int | None = None,
    **options: Unpack[JobOptions],
) -> list[Generated]:
    """Make `count` variations of a picture, mark and save them; see `Library.vary`."""
    from clipkit.generation import synthesis

    check_count(count)
    source = find_source(picture, options.get("catalog"))
    job = prepare("vary", [source.term()], options, steps=steps, strength=strength)
    pairs = synthesis.generate_images(
        job.entry,
        job.conditions,
        job.settings,
        count,
        unconditional=job.unconditional,
        start=layout_start(source, job.entry, strength),
        guard=job.guard,
        device=job.device,
        progress=job.progress,
    )
    return [
        job.save(
            job.enlarged(image),
            job.file(f"vary {source.title}", settings.seed, number, count),
            settings,
            query=Query(like=(source.name,)).to_json(),
            parents=[source.name],
            parameters={"arguments": [source.name], "count": 1} | ({"strength": strength} if strength < 1 else {}),
        )
        for number, (image, settings) in enumerate(pairs)
    ]
