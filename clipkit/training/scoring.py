"""How good generated scenes are, in the eyes of the judge."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count as numbers
from itertools import islice

import numpy as np
import torch
from diffusers import KandinskyV22Pipeline
from PIL import Image

from clipkit.samples.painting import paint, sprite_of
from clipkit.samples.world import Scene, caption, random_scene, things
from clipkit.training.judge import Judge, Verdict
from clipkit.training.scrambling import scrambled
from clipkit.vectors.unit import unit

BATCH = 50


def scenes_to_judge(count: int, *, things: int, held_out: bool, seed: int = 0) -> list[Scene]:
    """Scenes of one or two things that no training ever painted."""

    def endless():
        for number in numbers():
            scene = random_scene(random.Random(f"judged {seed} {number}"))
            if len(scene.placed) == things and scene.held_out == held_out:
                yield scene

    return list(islice(endless(), count))


def captions_of(scenes: Sequence[Scene], seed: int = 0) -> list[str]:
    """A caption for each that names all things and the setting; for two things also where they are."""
    return [caption(s, random.Random(f"judged {seed} {i}"), place=len(s.placed) == 2) for i, s in enumerate(scenes)]


def painted(scenes: Sequence[Scene], size: int = 64) -> np.ndarray:
    """The true pictures, uint8 (n, size, size, 3)."""
    return np.stack([np.asarray(paint(scene, size)) for scene in scenes])


def scrambled_scenes(count: int, seed: int = 0) -> np.ndarray:
    """Pictures, uint8 (n, 64, 64, 3), of scenes whose things all have their shape destroyed."""
    out = []
    for number in range(count):
        rng = random.Random(f"scrambled {seed} {number}")

        def alter(_: int, sprite: Image.Image, rng: random.Random = rng) -> Image.Image:
            return scrambled(sprite, sprite_of(rng.randrange(len(things())), sprite.width), rng)

        out.append(np.asarray(paint(random_scene(rng), 64, alter)))
    return np.stack(out)


def sample(
    pipeline: KandinskyV22Pipeline,
    embeddings: torch.Tensor,
    seeds: Sequence[int],
    *,
    size: int = 64,
    steps: int = 20,
    guidance: float = 1.0,
) -> np.ndarray:
    """A picture for each embedding (n, d) from the seed beside it; uint8 (n, size, size, 3)."""
    pipeline.set_progress_bar_config(disable=True)
    out = []
    for i in range(0, len(embeddings), BATCH):
        batch = embeddings[i : i + BATCH].float()
        pixels = pipeline(
            image_embeds=batch.to(pipeline.device),
            negative_image_embeds=torch.zeros_like(batch).to(pipeline.device),
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[i : i + BATCH]],
            output_type="np",
        ).images
        out.append((pixels * 255).round().astype(np.uint8))
    return np.concatenate(out)


def judged(verdict: Verdict, scenes: Sequence[Scene]) -> dict[str, float]:
    """Shares of pictures that show what their scenes have.

    For one thing: `object`, it is recognised, and surest of all. For two: `both` are recognised, and surest of all, and
    `placed`, of those the share with the two on the right sides of each other. `background`: the setting is right.
    `nothing`: nothing is recognised.
    """
    background = [v.argmax() == s.setting.index for v, s in zip(verdict.settings, scenes, strict=True)]
    scores = {"background": float(np.mean(background)), "nothing": float(verdict.nothing.mean())}
    shown, placed = [], []
    for likely, places, scene in zip(verdict.things, verdict.places, scenes, strict=True):
        there = [p.thing.index for p in scene.placed]
        surest = likely.argsort()[-len(there) :]
        shown.append(set(surest) == set(there) and likely[surest].min() >= Verdict.THRESHOLD)
        if shown[-1] and len(there) == 2:
            axis, sign = {"left": (0, 1), "right": (0, -1), "above": (1, 1), "below": (1, -1)}[scene.relation]
            placed.append(sign * (places[there[1]] - places[there[0]])[axis] > 0)
    if len(scenes[0].placed) == 1:
        return {"object": float(np.mean(shown))} | scores
    return {"both": float(np.mean(shown)), "placed": float(np.mean(placed)) if placed else float("nan")} | scores


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two sets of features (n, d) and (m, d), as normal distributions (Heusel et al., 2017)."""
    (mean_a, mean_b), (cov_a, cov_b) = (a.mean(0), b.mean(0)), (np.cov(a.T), np.cov(b.T))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def spread(features: np.ndarray) -> float:
    """Mean cosine distance between the features (n, d) of pictures: how much they differ."""
    directions = unit(features)
    similarity = directions @ directions.T
    return float(1 - similarity[np.triu_indices(len(features), 1)].mean())


def grid(squares: np.ndarray, columns: int, scale: int = 2) -> Image.Image:
    """Pictures (n, size, size, 3) in rows, enlarged."""
    n, size = squares.shape[:2]
    rows = -(-n // columns)
    sheet = np.full((rows * (size + 2), columns * (size + 2), 3), 255, np.uint8)
    for i, square in enumerate(squares):
        y, x = (i // columns) * (size + 2), (i % columns) * (size + 2)
        sheet[y : y + size, x : x + size] = square
    image = Image.fromarray(sheet)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)


def look(judge: Judge, squares: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """`judged` of pictures (n, 64, 64, 3)."""
    return judged(judge.look(squares), scenes)
