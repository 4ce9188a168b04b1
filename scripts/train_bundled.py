"""Train the bundled model. Killed runs go on where they stopped; the result goes to clipkit/bundled/.

    python scripts/train_bundled.py clip [--quick] [--device cpu|cuda] [--threads N] [--work DIR] [--output DIR]

`--quick` goes through everything in about a minute and gives a loadable, poor model: for tests.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

BUNDLED = Path(__file__).resolve().parent.parent / "clipkit" / "bundled"


@click.group()
def main() -> None:
    """Train the parts of the bundled model."""


@main.command()
@click.option("--quick", is_flag=True, help="A minute of training, to test the whole way.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", default=0, help="CPU threads of torch; 0 leaves its default.")
@click.option("--work", type=click.Path(path_type=Path), default="training-work", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=BUNDLED, show_default="clipkit/bundled")
def clip(quick: bool, device: str, threads: int, work: Path, output: Path) -> None:
    """The image and text towers."""
    import torch

    from clipkit.spaces.encoder import load_torch_encoder
    from clipkit.spaces.onnx_weightless import write_graphs
    from clipkit.training import card
    from clipkit.training.clip import ClipRecipe, Part, add_to_config, evaluate, export, placement_accuracy, train
    from clipkit.training.matching import SIZES, calibrate

    if threads:
        torch.set_num_threads(threads)
    recipe = ClipRecipe(parts=(Part(8, 1e-3, 0.15), Part(4, 4e-4, 1.0)), batch=64) if quick else ClipRecipe()
    console = Console(stderr=True)
    columns = (
        TextColumn("clip"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn()
    )  # fmt: skip
    last: dict = {"seconds": 0.0}
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("clip", total=recipe.steps, loss="")

        def report(line: dict) -> None:
            last.update(line)
            progress.update(task, completed=line["step"], loss=f"loss {line['loss']:.3f}")
            if "recall@1" in line:
                progress.console.print(f"step {line['step']}: recall@1 {line['recall@1']:.3f}")

        model = train(recipe, work, device=device, report=report)
    count = 100 if quick else 1000
    retrieval = {
        name: {"scenes": count} | evaluate(model, recipe, count=count, seed=seed, held_out=held_out, device=device)
        for name, seed, held_out in (("seen combinations", 101, False), ("held-out combinations", 102, True))
    }
    folder = output / "clip"
    rows = export(model, recipe, folder)
    decision = calibrate(load_torch_encoder(str(folder), device), sizes=(10, 30) if quick else SIZES)
    add_to_config(folder, match=decision.to_json())
    write_graphs(folder)
    scores = {
        "recipe": asdict(recipe),
        "token_rows": rows,
        "seconds": last["seconds"] or torch.load(work / "clip.pt", weights_only=True)["seconds"],
        "hardware": card.hardware(device),
        "retrieval": retrieval,
        "placement": placement_accuracy(model, recipe, count=count, seed=103, device=device),
        "placement_scenes": count,
    }
    card.write_scores(folder, scores)
    card.write_card(output)
    for name, row in retrieval.items():
        print(f"{name}: recall@1 {row['recall@1']:.3f}, recall@10 {row['recall@10']:.3f} over {count} scenes")
    print(f"left and right told apart: {scores['placement']:.3f}")


if __name__ == "__main__":
    main()
