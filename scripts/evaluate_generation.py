"""Score the bundled decoder: does a person's text come out as a picture that shows it?

    python scripts/evaluate_generation.py [--count 500] [--out DIR]

Prints a table and writes grids. The judge (`scripts/judge.safetensors`) was trained apart from the CLIP that conditions
the decoder: `python scripts/train_bundled.py judge`. All scenes, captions and seeds are fixed, and none was trained on.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parent / "clipkit" / "bundled"
GROUPS = (("one thing, seen", 1, False), ("one thing, held out", 1, True), ("two things, seen", 2, False),
          ("two things, held out", 2, True))  # fmt: skip


@click.command()
@click.option("--count", default=500, show_default=True, help="Pictures in each row.")
@click.option("--bundled", type=click.Path(path_type=Path, exists=True), default=BUNDLED, help="The model to score.")
@click.option("--judge", type=click.Path(path_type=Path, exists=True), default=HERE / "judge.safetensors")
@click.option("--out", type=click.Path(path_type=Path), default=Path("generation-scores"), show_default=True)
@click.option("--steps", default=20, show_default=True, help="Denoising steps.")
@click.option("--guidance", default=None, type=float, help="Guidance scale. [default: the decoder's]")
@click.option("--threads", default=0, help="CPU threads; 0 leaves torch's default.")
def main(count: int, bundled: Path, judge: Path, out: Path, steps: int, guidance: float | None, threads: int) -> None:
    """Print the table and write the grids."""
    from diffusers import KandinskyV22Pipeline

    from clipkit.generation.conditions import load_trained_prior
    from clipkit.generation.decoder import quiet_diffusers
    from clipkit.spaces.encoder import load_encoder
    from clipkit.training import judge as judging
    from clipkit.training import scoring

    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    referee, encoder = judging.load(judge), load_encoder(str(bundled / "clip"))
    facts = json.loads((bundled / "decoder" / "clipkit.json").read_text())
    scale = guidance if guidance is not None else facts["guidance"]
    with quiet_diffusers():
        pipeline = KandinskyV22Pipeline.from_pretrained(
            bundled / "decoder", dtype=torch.float32, low_cpu_mem_usage=False
        )
    prior = load_trained_prior(bundled / "decoder" / "prior")
    size = pipeline.unet.config.sample_size * pipeline.movq_scale_factor

    def pictures(embeddings: np.ndarray, first_seed: int = 0) -> np.ndarray:
        seeds = range(first_seed, first_seed + len(embeddings))
        return scoring.sample(
            pipeline,
            torch.from_numpy(np.asarray(embeddings, np.float32)),
            seeds,
            size=size,
            steps=steps,
            guidance=scale,
        )

    print(f"guidance {scale}, {steps} steps, {count} pictures a row\n")
    print(f"{'scenes':22} {'from':16} {'object(s)':>10} {'placed':>7} {'background':>11} {'Frechet':>8}")
    started, made = time.perf_counter(), 0
    for title, things, held_out in GROUPS:
        scenes = scoring.scenes_to_judge(count, things=things, held_out=held_out)
        captions = scoring.captions_of(scenes)
        true = scoring.painted(scenes, size)
        codec_view = _through_codec(pipeline.movq, true)
        texts = torch.from_numpy(encoder.encode_texts(captions))
        sources = {
            "the picture itself": true,
            "codec alone": codec_view,
            "image embedding": pictures(encoder.encode_images(true)),
            "text and prior": pictures(prior.predict(texts, torch.Generator().manual_seed(0)).numpy()),
            "text, no prior": pictures(texts.numpy()),
        }
        made += 3 * count
        reference = referee.look(true).features
        for name, squares in sources.items():
            verdict = referee.look(squares)
            row = scoring.judged(verdict, scenes)
            objects, placed = row.get("object", row.get("both")), row.get("placed")
            distance = scoring.frechet(verdict.features, reference)
            print(
                f"{title:22} {name:16.16} {objects:10.3f} {'' if placed is None else f'{placed:.3f}':>7} "
                f"{row['background']:11.3f} {distance:8.2f}",
                flush=True,
            )
        first = sources["text and prior"][:16]
        scoring.grid(first, 8).save(out / f"{title.replace(', ', '-').replace(' ', '-')}.png")
        (out / f"{title.replace(', ', '-').replace(' ', '-')}.txt").write_text("\n".join(captions[:16]) + "\n")
    print(f"\n{made / (time.perf_counter() - started):.1f} pictures/s, judging included")
    _diversity(scoring, encoder, prior, pictures, referee, size, out)
    _nearest(scoring, encoder, prior, pictures, out)
    print(f"grids: {out}")


def _through_codec(movq, squares: np.ndarray) -> np.ndarray:
    from clipkit.training.upsampler import through_codec

    return through_codec(movq, squares)


def _diversity(scoring, encoder, prior, pictures, referee, size: int, out: Path) -> None:
    """Sixteen seeds of one caption, for eight captions, against sixteen true pictures of such a scene."""
    import random

    from clipkit.training.world import compose

    scenes = scoring.scenes_to_judge(8, things=1, held_out=False, seed=5)
    texts = prior.predict(torch.from_numpy(encoder.encode_texts(scoring.captions_of(scenes, seed=5)))).numpy()
    made = [pictures(np.repeat(text[None], 16, 0)) for text in texts]
    true = [
        scoring.painted([compose(s.setting, [s.placed[0].thing], random.Random(i)) for i in range(16)], size)
        for s in scenes
    ]
    spread_made = np.mean([scoring.spread(referee.look(squares).features) for squares in made])
    spread_true = np.mean([scoring.spread(referee.look(squares).features) for squares in true])
    print(f"diversity over 16 seeds of one caption: {spread_made:.3f}; of true scenes {spread_true:.3f}")
    scoring.grid(np.concatenate([m[:8] for m in made]), 8).save(out / "seeds.png")


def _nearest(scoring, encoder, prior, pictures, out: Path) -> None:
    """Sixteen samples, each above the training scene that it is nearest to in pixels, so that copying would show."""
    from clipkit.training.pictures import EmojiWorld

    scenes = scoring.scenes_to_judge(8, things=1, held_out=False, seed=6)
    scenes += scoring.scenes_to_judge(8, things=2, held_out=False, seed=6)
    texts = prior.predict(torch.from_numpy(encoder.encode_texts(scoring.captions_of(scenes, seed=6)))).numpy()
    made = pictures(texts)
    facts = json.loads((BUNDLED / "decoder" / "scores.json").read_text())
    world = EmojiWorld(facts["pictures"])
    small = _reduced(made)
    best = np.full(len(made), np.inf)
    which = np.zeros(len(made), int)
    with click.progressbar(range(0, len(world), 500), label="nearest training scenes") as starts:
        for start in starts:
            chunk = np.stack([np.asarray(world.picture(i, 32)) for i in range(start, min(start + 500, len(world)))])
            gaps = ((small[:, None] - _reduced(chunk)[None]) ** 2).mean(2)
            nearer = gaps.min(1) < best
            which[nearer], best[nearer] = start + gaps.argmin(1)[nearer], gaps.min(1)[nearer]
    found = np.stack([np.asarray(world.picture(i, made.shape[1])) for i in which])
    rows = [np.concatenate([made[i : i + 8], found[i : i + 8]]) for i in (0, 8)]
    scoring.grid(np.concatenate(rows), 8).save(out / "nearest.png")
    error = ((made.astype(float) - found) ** 2).mean((1, 2, 3))
    print(
        f"nearest training scene of 16 samples: {10 * np.log10(255**2 / error).mean():.1f} dB on average (nearest.png)"
    )


def _reduced(squares: np.ndarray, size: int = 16) -> np.ndarray:
    """Pictures (n, s, s, 3) as means over blocks, float32 (n, size * size * 3)."""
    n, side = squares.shape[:2]
    blocks = squares.reshape(n, size, side // size, size, side // size, 3).astype(np.float32)
    return blocks.mean((2, 4)).reshape(n, -1)


if __name__ == "__main__":
    main()
