"""Score generated scenes with the judge, on captions and seeds that training never uses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count as numbers
from itertools import islice

import numpy as np
import torch
from diffusers import KandinskyV22Pipeline
from PIL import Image

from clipkit.generation.latents import initial_latents
from clipkit.samples.captions import caption
from clipkit.samples.painting import paint, sprite_of
from clipkit.samples.world import Scene, random_scene, things
from clipkit.training.judge import Judge, Verdict
from clipkit.training.scrambling import scramble
from clipkit.vectors.unit import unit

BATCH = 50


def evaluation_scenes(count: int, *, things: int, held_out: bool, seed: int = 0) -> list[Scene]:
    """Return scenes of one or two things that training never paints."""

    def endless() -> Iterator[Scene]:
        for number in numbers():
            scene = random_scene(random.Random(f"judged {seed} {number}"))
            if len(scene.placed) == things and scene.held_out == held_out:
                yield scene

    return list(islice(endless(), count))


def evaluation_captions(scenes: Sequence[Scene], seed: int = 0) -> list[str]:
    """Return a complete caption for each scene; for two things it also says where they are."""
    return [caption(s, random.Random(f"judged {seed} {i}"), place=len(s.placed) == 2) for i, s in enumerate(scenes)]


def paint_scenes(scenes: Sequence[Scene], size: int = 64) -> np.ndarray:
    """Render scenes as uint8 (n, size, size, 3)."""
    return np.stack([np.asarray(paint(scene, size)) for scene in scenes])


def paint_scrambled_scenes(count: int, seed: int = 0) -> np.ndarray:
    """Render random scenes in which the shape of every thing is destroyed, uint8 (n, 64, 64, 3)."""
    out = []
    for number in range(count):
        rng = random.Random(f"scrambled {seed} {number}")

        def alter(_: int, sprite: Image.Image, rng: random.Random = rng) -> Image.Image:
            return scramble(sprite, sprite_of(rng.randrange(len(things())), sprite.width), rng)

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
    temperature: float = 1.0,
) -> np.ndarray:
    """Decode each embedding of (n, d) with its own seed; return uint8 (n, size, size, 3).

    `temperature`: standard deviation of the initial latents, see `DecoderEntry`.
    """
    pipeline.set_progress_bar_config(disable=True)
    out = []
    for i in range(0, len(embeddings), BATCH):
        batch = embeddings[i : i + BATCH].float()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[i : i + BATCH]]
        latents = torch.cat([initial_latents(pipeline, size, generator, temperature) for generator in generators])
        pixels = pipeline(
            image_embeds=batch.to(pipeline.device),
            negative_image_embeds=torch.zeros_like(batch).to(pipeline.device),
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            latents=latents.to(pipeline.device),
            output_type="np",
        ).images
        out.append((pixels * 255).round().astype(np.uint8))
    return np.concatenate(out)


def score_verdict(verdict: Verdict, scenes: Sequence[Scene]) -> dict[str, float]:
    """Return the shares of images that show what their scenes contain.

    `object` (one thing): it is recognised and the most probable.
    `both` (two things): both are recognised and the two most probable.
    `placed` (two things): among those, the two are on the correct sides of each other.
    `background`: the setting is correct.
    `nothing`: nothing is recognised.
    """
    background = [v.argmax() == s.setting.index for v, s in zip(verdict.settings, scenes, strict=True)]
    scores = {"background": float(np.mean(background)), "nothing": float(verdict.nothing.mean())}
    recognised, placed = [], []
    for probabilities, places, scene in zip(verdict.things, verdict.places, scenes, strict=True):
        expected = [p.thing.index for p in scene.placed]
        top = probabilities.argsort()[-len(expected) :]
        recognised.append(set(top) == set(expected) and probabilities[top].min() >= Verdict.THRESHOLD)
        if recognised[-1] and len(expected) == 2:
            axis, sign = {"left": (0, 1), "right": (0, -1), "above": (1, 1), "below": (1, -1)}[scene.relation]
            placed.append(sign * (places[expected[1]] - places[expected[0]])[axis] > 0)
    share = float(np.mean(recognised))
    if len(scenes[0].placed) == 1:
        return {"object": share} | scores
    return {"both": share, "placed": float(np.mean(placed)) if placed else float("nan")} | scores


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Frechet distance of features (n, d) and (m, d), assumed to be normal (Heusel et al., 2017)."""
    (mean_a, mean_b), (cov_a, cov_b) = (a.mean(0), b.mean(0)), (np.cov(a.T), np.cov(b.T))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def diversity(features: np.ndarray) -> float:
    """Return the mean pairwise cosine distance of image features (n, d)."""
    directions = unit(features)
    similarity = directions @ directions.T
    return float(1 - similarity[np.triu_indices(len(features), 1)].mean())


def image_grid(images: np.ndarray, columns: int, scale: int = 2) -> Image.Image:
    """Lay images (n, size, size, 3) out in rows, enlarged by `scale`."""
    n, size = images.shape[:2]
    rows = -(-n // columns)
    sheet = np.full((rows * (size + 2), columns * (size + 2), 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (size + 2), (i % columns) * (size + 2)
        sheet[y : y + size, x : x + size] = image
    grid = Image.fromarray(sheet)
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.LANCZOS)


def score_images(judge: Judge, images: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """Return `score_verdict` of the judge's verdict on images, uint8 (n, 64, 64, 3)."""
    return score_verdict(judge.predict(images), scenes)
