"""Compare the judge with a person, on pictures drawn without selection from an old and a new decoder.

    python scripts/label_generated.py draw OLD.npy NEW.npy     # 100 pictures on sheets, shuffled, without captions
    python scripts/label_generated.py agreement                # the judge against docs/generation/labels.json

Pictures are uint8 (n, 64, 64, 3) of the first n scenes of one thing that `evaluate_generation.py` scores. The person
writes what each shows into `labels.json`, by name, or "" for nothing recognisable, before the judge is asked.
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
from clipkit.training.scoring import scenes_to_judge

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "generation"
SHEET, LABELS = DOCS / "labelled.png", DOCS / "labels.json"
EACH, COLUMNS = 50, 10


@click.group()
def main() -> None:
    """Compare the judge with a person."""


@main.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--first", default=100, show_default=True, help="The first scene whose picture may be drawn.")
def draw(old: Path, new: Path, first: int) -> None:
    """Draw pictures of both decoders, and lay them on one sheet in a random order."""
    rng = random.Random(0)
    drawn = [(source, i) for source in ("old", "new") for i in rng.sample(range(first, first + 400), EACH)]
    rng.shuffle(drawn)
    squares = {"old": np.load(old), "new": np.load(new)}
    chosen = np.stack([squares[source][i] for source, i in drawn])
    rows = chosen.reshape(-1, COLUMNS, 64, 64, 3).swapaxes(1, 2).reshape(-1, COLUMNS * 64, 3)
    Image.fromarray(rows).save(SHEET, optimize=True)
    LABELS.write_text(json.dumps([{"from": source, "scene": i, "label": None} for source, i in drawn], indent=0))
    _numbered(chosen).save("to-label.png")
    print(f"label the pictures of to-label.png in {LABELS}")


@main.command()
@click.option("--judge", type=click.Path(path_type=Path, exists=True), default=HERE / "judge.safetensors")
def agreement(judge: Path) -> None:
    """Print how often judge and person agree, and what each says of the two decoders."""
    rows = json.loads(LABELS.read_text())
    sheet = np.asarray(Image.open(SHEET).convert("RGB"))
    squares = sheet.reshape(-1, 64, COLUMNS, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    verdict = judging.load(judge).look(squares)
    names = [thing.name for thing in things()]
    seen = ["" if nothing else names[p.argmax()] for nothing, p in zip(verdict.nothing, verdict.things, strict=True)]
    scenes = scenes_to_judge(500, things=1, held_out=False)
    asked = [names[scenes[row["scene"]].placed[0].thing.index] for row in rows]
    agree = [row["label"] == name for row, name in zip(rows, seen, strict=True)]
    print(f"judge and person agree on {sum(agree)} of {len(rows)}")
    for source in ("old", "new"):
        mine = [i for i, row in enumerate(rows) if row["from"] == source]
        for who, words in (("person", [row["label"] for row in rows]), ("judge", seen)):
            right, nothing = sum(words[i] == asked[i] for i in mine), sum(not words[i] for i in mine)
            print(f"{source} decoder, {who}: the thing asked for in {right}, nothing in {nothing} of {len(mine)}")
    for i, (row, name) in enumerate(zip(rows, seen, strict=True)):
        if row["label"] != name:
            print(f"  {i}: person {row['label'] or 'nothing'}, judge {name or 'nothing'}, asked for {asked[i]}")


def _numbered(squares: np.ndarray) -> Image.Image:
    """A sheet for labelling: pictures at twice their size with their numbers."""
    sheet = Image.new("RGB", (COLUMNS * 140, -(-len(squares) // COLUMNS) * 150), "white")
    pen = ImageDraw.Draw(sheet)
    for i, square in enumerate(squares):
        x, y = i % COLUMNS * 140, i // COLUMNS * 150
        sheet.paste(Image.fromarray(square).resize((128, 128), Image.Resampling.LANCZOS), (x, y + 14))
        pen.text((x, y), str(i), fill="black")
    return sheet


if __name__ == "__main__":
    main()
