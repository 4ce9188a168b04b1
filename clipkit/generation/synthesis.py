"""Making pictures of a query: its terms become one embedding to aim at and one to keep away from."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL.Image import Image

from clipkit.errors import BadQuery
from clipkit.generation.conditioning import Conditions, PictureConditions
from clipkit.generation.decoder import Aim, Settings, enough_memory
from clipkit.generation.loading import load_conditions, load_decoder
from clipkit.generation.registry import DecoderEntry
from clipkit.progress import Progress, ProgressCallback

MOST_STEPS, LARGEST = 1000, 4096


@dataclass(frozen=True)
class Wish:
    """One term of a query, and its weight; a negative weight is to be avoided.

    It is words, a picture, or what a route has made of a picture: an image embedding of the decoder's space, float32
    (d,), not normalised.
    """

    value: str | Image | np.ndarray
    weight: float


def settings(
    entry: DecoderEntry, *, seed: int | None, steps: int | None, guidance: float | None, size: int | None
) -> Settings:
    """What is asked for, with the decoder's own choice for what is not and a random seed. Raises BadQuery."""
    if seed is not None and not 0 <= seed < 2**63:
        raise BadQuery("the seed must be a whole number from 0 to 2^63 - 1")
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise BadQuery(f"steps must be from 1 to {MOST_STEPS}")
    if guidance is not None and not 0 <= guidance <= 100:
        raise BadQuery("the guidance scale must be from 0 to 100; 1 is none")
    if size is not None and not 16 <= size <= LARGEST:
        raise BadQuery(f"the size must be from 16 to {LARGEST} pixels")
    return Settings(
        seed=secrets.randbelow(2**32) if seed is None else seed,
        steps=steps or entry.steps,
        guidance=entry.guidance if guidance is None else guidance,
        size=size or entry.size,
    )


def make(
    entry: DecoderEntry,
    wishes: Sequence[Wish],
    first: Settings,
    count: int,
    *,
    nothing: np.ndarray | None = None,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> Iterator[tuple[Image, Settings]]:
    """`count` pictures, one after the other, from the seed on upwards. Raises DecoderNotAvailable, BadQuery.

    `nothing`: the embedding (d,) that stands for no condition, where the decoder's own cannot be had.
    """
    if progress:
        progress(Progress("loading the decoder", 0, None))
    with enough_memory(entry.id, device):
        conditions, decoder = load_conditions(entry, device), load_decoder(entry, device)
        wishes = embedded(wishes, conditions)
        avoided = [w for w in wishes if w.weight < 0]
        nowhere = None if avoided else Aim(nothing_of(conditions, nothing))
    for number in range(count):
        chosen = Settings(first.seed + number, first.steps, first.guidance, first.size)
        stage = "making the picture" if count == 1 else f"making picture {number + 1} of {count}"

        def on_step(step: int, stage: str = stage) -> None:
            if progress:
                progress(Progress(stage, step, first.steps))

        with enough_memory(entry.id, device):
            wanted = aim([w for w in wishes if w.weight > 0], conditions, chosen.seed)
            away = nowhere or aim(avoided, conditions, chosen.seed)
            if avoided and first.guidance <= 1:
                wanted = turned_away(wanted, away)
            picture = decoder.generate(decoder.prepare(wanted, away), chosen, on_step)
        yield picture, chosen


def embedded(wishes: Sequence[Wish], conditions: PictureConditions) -> list[Wish]:
    """The terms with embeddings in place of pictures: those are the same for every seed."""
    pictures = [w.value for w in wishes if isinstance(w.value, Image)]
    found = iter(conditions.of_pictures(pictures) if pictures else ())
    return [Wish(next(found), w.weight) if isinstance(w.value, Image) else w for w in wishes]


def nothing_of(conditions: PictureConditions, instead: np.ndarray | None) -> np.ndarray | None:
    """What stands for no condition: `instead`, or else what goes with the decoder."""
    return conditions.of_nothing() if instead is None else instead


def aim(wishes: Sequence[Wish], conditions: PictureConditions, seed: int) -> Aim:
    """The terms as what their decoder takes; words go into the embedding, if there is a prior, or to the decoder."""
    if isinstance(conditions, Conditions):
        texts = [w.value for w in wishes if isinstance(w.value, str)]
        made = iter(conditions.of_texts(texts, seed) if texts else ())
        wishes = [Wish(next(made), w.weight) if isinstance(w.value, str) else w for w in wishes]
        return Aim(joined(wishes))
    pictures = [w for w in wishes if not isinstance(w.value, str)]
    words = ", ".join(w.value for w in wishes if isinstance(w.value, str))
    share = sum(abs(w.weight) for w in pictures) / sum(abs(w.weight) for w in wishes)
    return Aim(joined(pictures) if pictures else None, words, share)


def turned_away(wanted: Aim, away: Aim, amount: float = 0.4) -> Aim:
    """Turn an aim's embedding away from another's, in the plane of the two, and keep its length.

    Guidance is what keeps a picture away from something; a scale of 1 is no guidance, and this takes its place.
    `amount` is the part of the difference that is added on the other side.
    """
    if wanted.embedding is None or away.embedding is None:
        return wanted
    length = np.linalg.norm(wanted.embedding)
    unit, other = wanted.embedding / length, away.embedding / np.linalg.norm(away.embedding)
    turned = unit - amount * (other - (other @ unit) * unit)
    return replace(wanted, embedding=(turned / np.linalg.norm(turned) * length).astype(np.float32))


def joined(wishes: Sequence[Wish]) -> np.ndarray:
    """One embedding, float32 (d,), of several: their weighted mean direction, as long as they are on average.

    A plain mean would be shorter than its parts, and decoders take a short embedding for a vague one.
    """
    parts = np.stack([np.asarray(w.value) for w in wishes])
    if len(parts) == 1:
        return parts[0]
    weights = np.abs([w.weight for w in wishes]).astype(np.float32)
    weights /= weights.sum()
    norms = np.linalg.norm(parts, axis=1)
    total = weights @ (parts / np.maximum(norms, 1e-12)[:, None])
    length = np.linalg.norm(total)
    if length < 1e-6:
        raise BadQuery("the parts of the query cancel out: change its words or weights")
    return (total / length * (weights @ norms)).astype(np.float32)
