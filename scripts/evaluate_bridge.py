"""Score the bridge: how much of the decoder's accuracy survives it?

    python scripts/evaluate_bridge.py --work DIR --judge JUDGE.safetensors

Trains a second `tiny` from another seed in DIR (resumable; an existing DIR/second is reused), embeds painted scenes
with both models, and fits the bridge from the second to the first. The bundled decoder then generates images from
embeddings of new scenes, directly and across the bridge, with the same seeds, and the judge (`python
scripts/train_bundled.py judge`) recognises their objects. The target is 0.8 of the direct route's object accuracy over
all scenes of one thing. `--steps` shortens the training for a trial run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch

if TYPE_CHECKING:
    from clipkit.models.encoder import Encoder
    from clipkit.samples.world import Scene

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parent / "clipkit" / "bundled"
GROUPS = (("one thing, seen", 1, False), ("one thing, held out", 1, True), ("both of two things", 2, False))
TARGET = 0.8


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the second model.")
@click.option(
    "--judge",
    "judge_path",
    type=click.Path(path_type=Path, exists=True),
    default=HERE / "judge.safetensors",
    help="The judge's weights.",
)
@click.option("--seed", default=1, show_default=True, help="The second model's seed; the bundled one's is 0.")
@click.option("--steps", default=None, type=int, help="Training steps of each part. [default: the recipe's]")
@click.option("--sample", default=5000, show_default=True, help="Scenes to fit the bridge on.")
@click.option("--count", default=300, show_default=True, help="Images in each row.")
@click.option("--denoising", default=20, show_default=True, help="Denoising steps.")
@click.option("--device", default="cpu", show_default=True, help="The device that trains the second model.")
@click.option("--compiled", is_flag=True, help="Compile the second model for training.")
def main(
    work: Path,
    judge_path: Path,
    seed: int,
    steps: int | None,
    sample: int,
    count: int,
    denoising: int,
    device: str,
    compiled: bool,
) -> None:
    """Print the bridge's scores and a table of object accuracies."""
    from clipkit.generation import bridge
    from clipkit.models.loading import load_encoder
    from clipkit.training import clip, clip_export, judge, scoring
    from clipkit.training.decoder import load_pipeline

    recipe = clip.ClipRecipe(seed=seed)
    if steps is not None:
        recipe = replace(recipe, parts=tuple(replace(part, steps=steps) for part in recipe.parts))
    second = work / "second"
    if not (second / "open_clip_config.json").is_file():
        model = clip.train(recipe, work, device=device, report=_report, compiled=compiled)
        clip_export.export(model.cpu(), recipe, second)
    first_encoder, second_encoder = (
        load_encoder(str(f.resolve()), "cpu", export=False) for f in (BUNDLED / "clip", second)
    )
    size = first_encoder.preprocessing.size

    per_group = -(-sample // 2)
    scenes = [s for n in (1, 2) for s in scoring.evaluation_scenes(per_group, things=n, held_out=False, seed=11)]
    chunks = _embed(scenes, size, second_encoder, first_encoder)
    x, y = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    fitted = bridge.fit("second tiny", "tiny", x, y)
    r = fitted.report
    print(
        f"bridge fitted on {r.pictures:,} scenes; of {r.held_out:,} held out: cosine {r.cosine:.3f}, recall@1 "
        f"{r.recall_1:.3f}, recall@10 {r.recall_10:.3f}, norm error {r.norm_error:.1%}",
        flush=True,
    )

    config = json.loads((BUNDLED / "decoder" / "clipkit.json").read_text())
    pipeline = load_pipeline(BUNDLED / "decoder")
    judge_model, side = judge.load(judge_path), pipeline.unet.config.sample_size * pipeline.movq_scale_factor
    print(f"{'object accuracy':22} {'direct':>8} {'bridge':>8} {'ratio':>7}   {count} images per row and route")
    singles = []
    for title, things, held_out in GROUPS:
        scenes = scoring.evaluation_scenes(count, things=things, held_out=held_out)
        chunks = _embed(scenes, size, second_encoder, first_encoder)
        x, y = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        scores = []
        for embeddings in (y, fitted.apply(x)):
            generated = scoring.sample(
                pipeline,
                torch.from_numpy(embeddings),
                range(count),
                size=side,
                steps=denoising,
                guidance=config["guidance"],
                temperature=config["temperature"],
            )
            row = scoring.score_images(judge_model, generated, scenes)
            scores.append(row["object"] if things == 1 else row["both"])
        print(_row(title, *scores), flush=True)
        if things == 1:
            singles.append(scores)
    direct, bridged = np.mean(singles, axis=0)
    print(_row("one thing, all", direct, bridged))
    print(f"at least {TARGET} of the direct route's object accuracy: {'yes' if bridged >= TARGET * direct else 'no'}")


def _row(title: str, direct: float, bridged: float) -> str:
    return f"{title:22} {direct:8.3f} {bridged:8.3f} {bridged / max(direct, 1e-9):7.3f}"


def _embed(scenes: Sequence[Scene], size: int, *encoders: Encoder) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the scenes' embeddings by each encoder in chunks, float32 (n, d), not normalised."""
    from clipkit.training import scoring

    for start in range(0, len(scenes), 250):
        images = scoring.paint_scenes(scenes[start : start + 250], size)
        yield tuple(encoder.encode_images(images) for encoder in encoders)


def _report(line: dict) -> None:
    if line["step"] % 50 == 0 or line["step"] == line["steps"] or "recall@1" in line:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
