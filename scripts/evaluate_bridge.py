"""Score the bridge: are pictures that cross it as right as those made directly?

    python scripts/evaluate_bridge.py --work DIR --judge JUDGE.safetensors

Trains a second `tiny` from another seed (resumable, in DIR), embeds painted scenes in both spaces, fits the bridge
from the second to the first, and has the bundled decoder make pictures from image embeddings of new scenes, directly
and across the bridge, with the same seeds. The judge (`python scripts/train_bundled.py judge`) says which show their
object. The aim: at least 0.8 of the direct route's object accuracy, over all scenes of one thing. A model that
DIR/second holds is taken as it is. `--steps` shortens the training, to see that the script runs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parent / "clipkit" / "bundled"
GROUPS = (("one thing, seen", 1, False), ("one thing, held out", 1, True), ("both of two things", 2, False))
AIM = 0.8


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Where the second model is trained.")
@click.option("--judge", type=click.Path(path_type=Path, exists=True), default=HERE / "judge.safetensors")
@click.option("--seed", default=1, show_default=True, help="The second model's seed; the bundled one's is 0.")
@click.option("--steps", default=None, type=int, help="Training steps of each part. [default: the recipe's]")
@click.option("--sample", default=5000, show_default=True, help="Scenes to fit the bridge on.")
@click.option("--count", default=300, show_default=True, help="Pictures in each row.")
@click.option("--denoising", default=20, show_default=True, help="Denoising steps.")
@click.option("--device", default="cpu", show_default=True, help="Where the second model is trained.")
@click.option("--compiled", is_flag=True, help="Compile the second model for its training.")
def main(
    work: Path,
    judge: Path,
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
    from clipkit.models.encoder import load_encoder
    from clipkit.training import clip, scoring
    from clipkit.training import judge as judging
    from clipkit.training.decoder import load_pipeline

    recipe = clip.ClipRecipe(seed=seed)
    if steps is not None:
        recipe = replace(recipe, parts=tuple(replace(part, steps=steps) for part in recipe.parts))
    second = work / "second"
    if not (second / "open_clip_config.json").is_file():
        model = clip.train(recipe, work, device=device, report=_report, compiled=compiled)
        clip.export(model.cpu(), recipe, second)
    first_encoder, second_encoder = (load_encoder(str(f), "cpu", export=False) for f in (BUNDLED / "clip", second))
    size = first_encoder.preprocessing.size

    per_group = -(-sample // 2)
    scenes = [s for n in (1, 2) for s in scoring.scenes_to_judge(per_group, things=n, held_out=False, seed=11)]
    x, y = (np.concatenate(parts) for parts in zip(*_both(scenes, size, second_encoder, first_encoder), strict=True))
    fitted = bridge.fit("second tiny", "tiny", x, y)
    r = fitted.report
    print(
        f"bridge fitted on {r.pictures:,} scenes; of {r.held_out:,} held out: cosine {r.cosine:.3f}, recall@1 "
        f"{r.recall_1:.3f}, recall@10 {r.recall_10:.3f}, norms off by {r.norm_error:.1%}",
        flush=True,
    )

    facts = json.loads((BUNDLED / "decoder" / "clipkit.json").read_text())
    pipeline = load_pipeline(BUNDLED / "decoder")
    referee, side = judging.load(judge), pipeline.unet.config.sample_size * pipeline.movq_scale_factor
    print(f"{'object accuracy':22} {'direct':>8} {'bridge':>8} {'share':>7}   {count} pictures a row and route")
    singles = []
    for title, things, held_out in GROUPS:
        judged = scoring.scenes_to_judge(count, things=things, held_out=held_out)
        x, y = (
            np.concatenate(parts) for parts in zip(*_both(judged, size, second_encoder, first_encoder), strict=True)
        )
        scores = []
        for embeddings in (y, fitted.apply(x)):
            made = scoring.sample(
                pipeline, torch.from_numpy(embeddings), range(count), size=side, steps=denoising,
                guidance=facts["guidance"],
            )  # fmt: skip
            row = scoring.judged(referee.look(made), judged)
            scores.append(row.get("object", row.get("both")))
        print(_row(title, *scores), flush=True)
        if things == 1:
            singles.append(scores)
    direct, bridged = np.mean(singles, axis=0)
    print(_row("one thing, all", direct, bridged))
    print(f"at least {AIM} of the direct route's object accuracy: {'yes' if bridged >= AIM * direct else 'no'}")


def _row(title: str, direct: float, bridged: float) -> str:
    return f"{title:22} {direct:8.3f} {bridged:8.3f} {bridged / max(direct, 1e-9):7.3f}"


def _both(scenes, size: int, *encoders):
    """Chunks of the scenes' embeddings by each encoder, float32 (n, d), not normalised."""
    from clipkit.training import scoring

    for start in range(0, len(scenes), 250):
        painted = scoring.painted(scenes[start : start + 250], size)
        yield tuple(encoder.encode_images(painted) for encoder in encoders)


def _report(line: dict) -> None:
    if line["step"] % 50 == 0 or line["step"] == line["steps"] or "recall@1" in line:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
