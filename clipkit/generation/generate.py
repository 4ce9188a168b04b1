"""Generating pictures of a query: choose a decoder, plan a route for each term, synthesise, save."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from clipkit.catalog.generated import Generated
from clipkit.errors import BadQuery
from clipkit.generation.command_line import named_absolutely, query_parameters
from clipkit.generation.job import JobOptions, prepare
from clipkit.searching.query import Query, picture_of

if TYPE_CHECKING:
    from clipkit.generation.routes import QueryTerm

MAX_PICTURES = 1000


def generate(
    query: Query, count: int = 1, *, steps: int | None = None, **options: Unpack[JobOptions]
) -> list[Generated]:
    """Generate, mark and save `count` pictures of a query; see `Library.generate`."""
    from clipkit.generation import synthesis

    check_count(count)
    job = prepare("generate", query_terms(query), options, steps=steps)
    pairs = synthesis.generate_images(
        job.entry,
        job.conditions,
        job.settings,
        count,
        unconditional=job.unconditional,
        guard=job.guard,
        device=job.device,
        progress=job.progress,
    )
    return [
        job.save(
            job.enlarged(image),
            job.file(query.text, settings.seed, number, count),
            settings,
            query=query.to_json(),
            parents=[named_absolutely(picture) for picture in query.like if isinstance(picture, str | Path)],
            parameters=query_parameters(query),
            contents=contents_of(query),
        )
        for number, (image, settings) in enumerate(pairs)
    ]


def check_count(count: int) -> None:
    """Raise BadQuery for a number of pictures that cannot be made."""
    if not 1 <= count <= MAX_PICTURES:
        raise BadQuery(f"the number of pictures must be from 1 to {MAX_PICTURES}")


def contents_of(query: Query) -> str:
    """Return a hash of a query's pictures, by content where that is known, else by name; empty if it has none."""
    from clipkit.images.hashing import hash_of_bytes, hash_of_picture

    pictures = [hash_of_picture(term.value) or str(term.value) for term in query.terms() if term.is_picture]
    return hash_of_bytes("\n".join(pictures).encode("utf-8", "surrogateescape")) if pictures else ""


def query_terms(query: Query) -> list[QueryTerm]:
    """Return the terms of a query for `clipkit.generation.routes`."""
    from clipkit.generation.routes import QueryTerm
    from clipkit.images.hashing import hash_of_picture

    return [
        QueryTerm(
            term.value,
            term.is_picture,
            term.weight,
            hash_of_picture(term.value) if term.is_picture else "",
            partial(picture_of, term.value) if term.is_picture else None,
        )
        for term in query.terms()
    ]
