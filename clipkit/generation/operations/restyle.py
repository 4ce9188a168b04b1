"""Text diffs: a picture changed from what one text says to what another says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import numpy as np

from clipkit.catalog.generated import Generated
from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation.generate import check_count
from clipkit.generation.job import JobOptions, choose_decoder, prepare
from clipkit.generation.operations.interpolation import turn
from clipkit.generation.operations.layout import layout_start
from clipkit.generation.operations.sources import find_source
from clipkit.searching.query import Query

if TYPE_CHECKING:
    from clipkit.generation.job import Job
    from clipkit.generation.operations.sources import Reference
    from clipkit.generation.registry import DecoderEntry
    from clipkit.generation.synthesis import Condition, Input

AMOUNT, STRENGTH = 0.45, 0.95
"""Defaults, chosen for the bundled decoder by `scripts/evaluate_operations.py`; see docs/operations.md."""


def restyle(
    picture: Reference,
    from_: str,
    to: str,
    count: int = 1,
    *,
    amount: float | None = None,
    strength: float | None = None,
    steps: int | None = None,
    **options: Unpack[JobOptions],
) -> list[Generated]:
    """Change a picture from what one text says to what another says, mark and save it; see `Library.restyle`."""
    from clipkit.generation import synthesis
    from clipkit.generation.routes import QueryTerm

    check_count(count)
    entry = choose_decoder(options.get("catalog"), options.get("layout"), options.get("decoder"))
    check_change(entry, from_, to, amount)
    amount, strength = AMOUNT if amount is None else amount, STRENGTH if strength is None else strength
    source = find_source(picture, options.get("catalog"))
    query = Query(text=to, like=(source.name,), not_=(from_,))
    terms = [source.term(), QueryTerm(from_, False, -1.0), QueryTerm(to, False, 1.0)]
    job = prepare("restyle", terms, options, steps=steps, strength=strength)
    start = layout_start(source, job.entry, strength)
    if job.entry.takes_prompt:
        pairs = synthesis.generate_images(
            job.entry,
            _as_prompts(job.conditions, amount),
            job.settings,
            count,
            start=start,
            device=job.device,
            progress=job.progress,
        )
    else:
        inputs = _turned(job, amount, count)
        pairs = synthesis.sample_each(job.entry, inputs, count, start=start, device=job.device, progress=job.progress)
    return [
        job.save(
            image,
            job.file(f"{source.title} {from_} to {to}", settings.seed, number, count),
            settings,
            query=query.to_json(),
            parents=[source.name],
            parameters={
                "arguments": [source.name],
                "from": from_,
                "to": to,
                "amount": None if entry.takes_prompt and not entry.weighs_prompt else amount,
                "strength": strength,
            },
        )
        for number, (image, settings) in enumerate(pairs)
    ]


def check_change(entry: DecoderEntry, from_: str, to: str, amount: float | None) -> None:
    """Raise BadQuery or DecoderNotAvailable if the decoder cannot change a picture so."""
    if entry.takes_prompt and not entry.weighs_prompt and amount is not None:
        raise DecoderNotAvailable(f"the decoder {entry.id} has no weight of words against pictures: omit --amount")
    if amount is not None and not 0 < amount <= 1:
        raise BadQuery("the amount must be above 0 and at most 1; 0.25 to 0.5 is usual")
    Query(text=to, not_=(from_,))  # checks that both texts have words
    if " ".join(from_.split()) == " ".join(to.split()):
        raise BadQuery(f"--from and --to are the same, {to!r}: say what to change the picture into")


def _turned(job: Job, amount: float, count: int) -> Iterator[Input]:
    """Yield the picture's embedding, turned by the difference of the texts' embeddings, which the prior samples."""
    from clipkit.generation.decoder import Conditioning
    from clipkit.generation.synthesis import embed_each

    negative = Conditioning(job.unconditional_embedding())
    for number in range(count):
        settings = replace(job.settings, seed=job.settings.seed + number)
        picture, before, after = embed_each(job.entry, job.conditions, settings.seed, job.device)
        difference = after - before
        if np.linalg.norm(difference) < 1e-6 * np.linalg.norm(after):
            raise BadQuery("--from and --to mean the same to the model: use other words")
        yield Conditioning(turn(picture, difference, amount)), negative, settings


def _as_prompts(conditions: Sequence[Condition], amount: float) -> list[Condition]:
    """Return what does the same with a decoder that takes a prompt: guidance towards one text, away from the other.

    `amount`: the weight of the text against the picture.
    """
    picture, before, after = conditions
    return [replace(picture, weight=1 - amount), before, replace(after, weight=amount)]
