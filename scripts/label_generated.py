"""Compare the judge with a human labeller, on a random sample of images from an old and a new decoder.

    python scripts/label_generated.py sample OLD.npy NEW.npy   # 100 images on one sheet, shuffled, without captions
    python scripts/label_generated.py agreement                # the judge against the labels in docs/generation/

Two sets are labelled. The judge is chosen by its agreement on the development set (`--set development`); the test set,
which shares no scenes with it, measures the judge that was chosen.

The arrays, as `evaluate_generation.py` saves them, are uint8 (n, 64, 64, 3): images of the first n scenes of one thing.
The labeller enters the name of what each image shows, or "" for nothing recognisable, before the judge is run.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from clipkit.samples.world import things
from clipkit.training import judge as judging
from clipkit.training.scoring import evaluation_scenes

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "generation"
SETS = {"test": ("labelled.png", "labels.json"), "development": ("development.png", "development.json")}
EACH, COLUMNS = 50, 10

choose_set = click.option("--set", "name", type=click.Choice(list(SETS)), default="test", show_default=True)


@click.group()
def main() -> None:
    """Compare the judge with a human labeller."""


@main.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@choose_set
@click.option("--first", default=100, show_default=True, help="The first of the scenes to sample from.")
@click.option("--count", default=400, show_default=True, help="How many scenes to sample from.")
def sample(old: Path, new: Path, name: str, first: int, count: int) -> None:
    """Sample images of both decoders onto one sheet, shuffled."""
    sheet, labels = (DOCS / file for file in SETS[name])
    rng, scenes = random.Random(0 if name == "test" else name), list(range(first, first + count))
    if name != "test":
        tested = {row["scene"] for row in json.loads((DOCS / SETS["test"][1]).read_text())}
        scenes = [scene for scene in scenes if scene not in tested]
    sampled = [(source, i) for source in ("old", "new") for i in rng.sample(scenes, EACH)]
    rng.shuffle(sampled)
    arrays = {"old": np.load(old), "new": np.load(new)}
    images = np.stack([arrays[source][i] for source, i in sampled])
    rows = images.reshape(-1, COLUMNS, 64, 64, 3).swapaxes(1, 2).reshape(-1, COLUMNS * 64, 3)
    Image.fromarray(rows).save(sheet, optimize=True)
    labels.write_text(json.dumps([{"from": source, "scene": i, "label": None} for source, i in sampled], indent=0))
    _numbered(images).save("to-label.png")
    print(f"enter the labels of to-label.png into {labels}")


@main.command()
@click.option("--judge", type=click.Path(path_type=Path, exists=True), default=HERE / "judge.safetensors")
@choose_set
def agreement(judge: Path, name: str) -> None:
    """Compare the judge's labels with the human ones.

    Also prints the scores of both decoders according to each.
    """
    sheet, labels = (DOCS / file for file in SETS[name])
    rows = json.loads(labels.read_text())
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    images = pixels.reshape(-1, 64, COLUMNS, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    verdict = judging.load(judge).predict(images)
    names = [thing.name for thing in things()]
    by_judge = ["" if none else names[p.argmax()] for none, p in zip(verdict.nothing, verdict.things, strict=True)]
    by_labeller = [row["label"] for row in rows]
    scenes = evaluation_scenes(500, things=1, held_out=False)
    expected = [names[scenes[row["scene"]].placed[0].thing.index] for row in rows]
    agree = [a == b for a, b in zip(by_labeller, by_judge, strict=True)]
    print(f"judge and labeller agree on {sum(agree)} of {len(rows)}")
    for source in ("old", "new"):
        subset = [i for i, row in enumerate(rows) if row["from"] == source]
        print(f"{source} decoder: they agree on {sum(agree[i] for i in subset)} of {len(subset)}")
        for who, seen in (("labeller", by_labeller), ("judge", by_judge)):
            correct, nothing = sum(seen[i] == expected[i] for i in subset), sum(not seen[i] for i in subset)
            print(f"{source} decoder, {who}: {correct} correct, {nothing} unrecognisable of {len(subset)}")
    for i, (a, b) in enumerate(zip(by_labeller, by_judge, strict=True)):
        if a != b:
            print(f"  {i}: labeller {a or 'nothing'}, judge {b or 'nothing'}, expected {expected[i]}")


def _numbered(images: np.ndarray) -> Image.Image:
    """Return a sheet for labelling: images at twice their size with their numbers."""
    sheet = Image.new("RGB", (COLUMNS * 140, -(-len(images) // COLUMNS) * 150), "white")
    pen = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        x, y = i % COLUMNS * 140, i // COLUMNS * 150
        sheet.paste(Image.fromarray(image).resize((128, 128), Image.Resampling.LANCZOS), (x, y + 14))
        pen.text((x, y), str(i), fill="black")
    return sheet


if __name__ == "__main__":
    main()
