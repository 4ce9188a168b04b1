"""Generate pictures from weighted conditions: combine them into positive and negative conditioning, then decode."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from clipkit.errors import BadQuery
from clipkit.generation.conditioning import ImageConditioner, TextConditioner
from clipkit.generation.decoder import Conditioning, Decoder, Settings, Start, explain_out_of_memory
from clipkit.generation.loading import load_conditioner, load_decoder
from clipkit.generation.registry import DecoderEntry
from clipkit.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from clipkit.generation.safety import Guard

MAX_STEPS, MAX_SIZE = 1000, 4096

Draw = Callable[[Decoder, Any, Settings, Callable[[int], None]], Image]
"""A function of a decoder, its inputs, settings and a callback for the steps to a picture, as `Decoder.generate` is."""


Input = tuple[Conditioning, Conditioning, Settings]
"""What one picture is sampled from: positive and negative conditioning, and settings."""


@dataclass(frozen=True)
class Condition:
    """One weighted term of a query; a negative weight means to avoid it.

    `value`: text, an image, or an image embedding of the decoder's model, float32 (d,), not normalised.
    """

    value: str | Image | np.ndarray
    weight: float


def resolve_settings(
    entry: DecoderEntry, *, seed: int | None, steps: int | None, guidance: float | None, size: int | None
) -> Settings:
    """Check the settings; None means the decoder's default, or a random seed. Raises BadQuery."""
    if seed is not None and not 0 <= seed < 2**63:
        raise BadQuery("the seed must be a whole number from 0 to 2^63 - 1")
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise BadQuery(f"steps must be from 1 to {MAX_STEPS}")
    if guidance is not None and not 0 <= guidance <= 100:
        raise BadQuery("the guidance scale must be from 0 to 100; 1 turns guidance off")
    if size is not None and not 16 <= size <= MAX_SIZE:
        raise BadQuery(f"the size must be from 16 to {MAX_SIZE} pixels")
    return Settings(
        seed=secrets.randbelow(2**32) if seed is None else seed,
        steps=steps or entry.steps,
        guidance=entry.guidance if guidance is None else guidance,
        size=size or entry.size,
    )


def generate_images(
    entry: DecoderEntry,
    conditions: Sequence[Condition],
    settings: Settings,
    count: int,
    *,
    unconditional: np.ndarray | None = None,
    start: Start | None = None,
    draw: Draw | None = None,
    guard: Guard | None = None,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> Iterator[tuple[Image, Settings]]:
    """Return an iterator over `count` pictures with their settings; seeds count up from the first.

    `unconditional`: the unconditional embedding (d,), if it must replace the decoder's own.
    `start`: a picture whose layout they keep.
    `draw`: makes each picture in place of `Decoder.generate`.
    `guard`: checks what each picture is conditioned on, and each picture.
    Raises DecoderNotAvailable, BadQuery, GenerationRefused.
    """
    if progress:
        progress(Progress("loading the decoder", 0, None))
    with explain_out_of_memory(entry.id, device):
        conditioner = load_conditioner(entry, device)
        conditions = encode_images(conditions, conditioner)
        wanted = [condition for condition in conditions if condition.weight > 0]
        avoided = [condition for condition in conditions if condition.weight < 0]
        if not avoided and unconditional is None:
            unconditional = conditioner.unconditional_embedding()

    def inputs() -> Iterator[Input]:
        for number in range(count):
            current = replace(settings, seed=settings.seed + number)
            positive = combine(wanted, conditioner, current.seed)
            negative = combine(avoided, conditioner, current.seed) if avoided else Conditioning(unconditional)
            if avoided and settings.guidance <= 1:
                positive = steer_away(positive, negative)
            yield positive, negative, current

    return sample_each(entry, inputs(), count, start=start, draw=draw, guard=guard, device=device, progress=progress)


def sample_each(
    entry: DecoderEntry,
    inputs: Iterator[Input],
    count: int,
    *,
    start: Start | None = None,
    draw: Draw | None = None,
    guard: Guard | None = None,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> Iterator[tuple[Image, Settings]]:
    """Yield the picture of each of `count` inputs, with its settings; `start` is a picture whose layout they keep.

    `draw`: makes each picture in place of `Decoder.generate`.
    `guard`: checks what each picture is conditioned on, and each picture.
    Raises DecoderNotAvailable, GenerationRefused.
    """
    with explain_out_of_memory(entry.id, device):
        decoder = load_decoder(entry, device)
    for number in range(count):
        stage = "generating the picture" if count == 1 else f"generating picture {number + 1} of {count}"
        with explain_out_of_memory(entry.id, device):
            positive, negative, settings = next(inputs)
            if guard:
                guard.check_embedding(positive.embedding)

            def on_step(step: int, stage: str = stage, steps: int = settings.steps) -> None:
                if progress:
                    progress(Progress(stage, step, steps))

            prepared = decoder.prepare(positive, negative)
            if draw is not None:
                image = draw(decoder, prepared, settings, on_step)
            else:
                image = decoder.generate(prepared, settings, on_step, start)
            if guard:
                guard.check_made(image)
        yield image, settings


def embed_each(entry: DecoderEntry, conditions: Sequence[Condition], seed: int, device: str = "auto") -> np.ndarray:
    """Return the image embedding of each condition, float32 (n, d), not normalised; text goes through the prior."""
    with explain_out_of_memory(entry.id, device):
        conditioner = load_conditioner(entry, device)
        embedded = [combine([condition], conditioner, seed) for condition in encode_images(conditions, conditioner)]
    return np.stack([np.asarray(one.embedding, np.float32) for one in embedded])


def unconditional_of(entry: DecoderEntry, device: str = "auto") -> np.ndarray | None:
    """Return the decoder's unconditional embedding (d,), None if the decoder supplies it itself."""
    with explain_out_of_memory(entry.id, device):
        return load_conditioner(entry, device).unconditional_embedding()


def encode_images(conditions: Sequence[Condition], conditioner: ImageConditioner) -> list[Condition]:
    """Replace images by their embeddings, which are the same for every seed."""
    images = [c.value for c in conditions if isinstance(c.value, Image)]
    embeddings = iter(conditioner.embed_images(images) if images else ())
    return [replace(c, value=next(embeddings)) if isinstance(c.value, Image) else c for c in conditions]


def combine(conditions: Sequence[Condition], conditioner: ImageConditioner, seed: int) -> Conditioning:
    """Combine conditions without images: text becomes part of the embedding if there is a prior, else the prompt."""
    if isinstance(conditioner, TextConditioner):
        texts = [c.value for c in conditions if isinstance(c.value, str)]
        embeddings = iter(conditioner.embed_texts(texts, seed) if texts else ())
        return Conditioning(
            blend([replace(c, value=next(embeddings)) if isinstance(c.value, str) else c for c in conditions])
        )
    embedded = [c for c in conditions if not isinstance(c.value, str)]
    return Conditioning(
        embedding=blend(embedded) if embedded else None,
        prompt=", ".join(c.value for c in conditions if isinstance(c.value, str)),
        image_share=sum(abs(c.weight) for c in embedded) / sum(abs(c.weight) for c in conditions),
    )


def steer_away(positive: Conditioning, negative: Conditioning, amount: float = 0.4) -> Conditioning:
    """Rotate the positive embedding away from the negative one, in their plane; the norm stays.

    Replaces classifier-free guidance, which a scale of 1 turns off. `amount`: multiple of the negative direction's
    orthogonal part to subtract.
    """
    if positive.embedding is None or negative.embedding is None:
        return positive
    norm = np.linalg.norm(positive.embedding)
    unit, other = positive.embedding / norm, negative.embedding / np.linalg.norm(negative.embedding)
    steered = unit - amount * (other - (other @ unit) * unit)
    return replace(positive, embedding=(steered / np.linalg.norm(steered) * norm).astype(np.float32))


def blend(conditions: Sequence[Condition]) -> np.ndarray:
    """Blend embeddings into one, float32 (d,): the weighted mean of their directions, times that of their norms.

    A plain mean would be shorter than its parts, and decoders treat a short embedding as a vague one. Raises BadQuery
    if the directions cancel out.
    """
    embeddings = np.stack([np.asarray(c.value) for c in conditions])
    if len(embeddings) == 1:
        return embeddings[0]
    weights = np.abs([c.weight for c in conditions]).astype(np.float32)
    weights /= weights.sum()
    norms = np.linalg.norm(embeddings, axis=1)
    direction = weights @ (embeddings / np.maximum(norms, 1e-12)[:, None])
    length = np.linalg.norm(direction)
    if length < 1e-6:
        raise BadQuery("the terms of the query cancel out: change the words or weights")
    return (direction / length * (weights @ norms)).astype(np.float32)
