"""Score edits by the bundled decoder: is the named thing in the box afterwards, and is all else untouched?

    python scripts/operations_edit.py [--count 200] [--out docs/operations]

In each picture of the sample world, half of them with one thing and half with two, the box around one thing is
repainted with another thing. The judge (`scripts/judge.safetensors`) classifies by shape. An edit counts if the judge
recognises the named thing, as the most probable one besides those that were kept, and with its centre in the box.
Pictures, things and seeds are fixed, unseen in training, and others than those that defaults were chosen on. The grids
show pictures evenly spread over all, not the best.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from clipkit.generation.operations.edit import edit
from clipkit.generation.operations.extend import extend
from clipkit.marks.reading import verify
from clipkit.samples.painting import paint
from clipkit.samples.world import PlacedThing, Scene, Thing, things
from clipkit.training.judge import Verdict
from clipkit.training.judge import load as load_judge
from clipkit.training.scoring import evaluation_scenes

HERE = Path(__file__).resolve().parent
SIDE, JUDGED = 256, 64
SHOWN, TILE = 16, 160
ROOM = 1.25
"""Side of a box as a multiple of the width of the thing in it."""


@dataclass(frozen=True)
class Case:
    """A scene, the thing in it that is replaced, what replaces it, and the box (x, y, width, height) in pixels."""

    scene: Scene
    replaced: PlacedThing
    new: Thing
    box: tuple[int, int, int, int]


def cases(count: int) -> list[Case]:
    """Return fixed cases, those with one thing first."""
    scenes = evaluation_scenes(count // 2, things=1, held_out=False)
    scenes += evaluation_scenes(count - count // 2, things=2, held_out=False)
    found = []
    for number, scene in enumerate(scenes):
        rng = random.Random(f"edit {number}")
        present = {placed.thing.index for placed in scene.placed}
        new = rng.choice([thing for thing in things() if thing.index not in present])
        found.append(Case(scene, replaced := rng.choice(scene.placed), new, _box(replaced)))
    return found


def _box(placed: PlacedThing) -> tuple[int, int, int, int]:
    half = ROOM * placed.width / 2
    left, top = max(0.0, placed.x - half), max(0.0, placed.y - half)
    right, bottom = min(1.0, placed.x + half), min(1.0, placed.y + half)
    x, y = round(left * SIDE), round(top * SIDE)
    return x, y, round(right * SIDE) - x, round(bottom * SIDE) - y


@click.command(help=__doc__)
@click.option("--count", default=200, show_default=True)
@click.option("--out", default=HERE.parent / "docs" / "operations", type=click.Path(path_type=Path))
def main(count: int, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    chosen = cases(count)
    before, after, found = [], [], 0
    with tempfile.TemporaryDirectory() as folder, click.progressbar(chosen, label="editing") as bar:
        for number, case in enumerate(bar):
            picture, result = Path(folder, f"{number}.png"), Path(folder, f"{number}-edited.png")
            paint(case.scene, SIDE).save(picture)
            words = case.new.with_article(case.new.name)
            edit(picture, words, box=case.box, decoder="tiny", seed=number, output=result)
            before.append(np.array(Image.open(picture)))
            after.append(np.array(Image.open(result)))
            marks = verify(result)
            found += marks.edited and marks.watermark.found
        shown = [Path(folder, f"{number}.png") for number in _spread(count)]
        extended = [_extended(picture) for picture in shown[:8]]
    report(chosen, np.stack(before), np.stack(after), found)
    edit_grid(chosen, before, after).save(out / "edit.jpg", quality=90)
    extend_grid(extended).save(out / "extend.jpg", quality=90)


def report(chosen: Sequence[Case], before: np.ndarray, after: np.ndarray, found: int) -> None:
    """Print the shares of edits that show what was asked for."""
    small = after.reshape(len(after), JUDGED, SIDE // JUDGED, JUDGED, SIDE // JUDGED, 3).mean((2, 4))
    verdict = load_judge(HERE / "judge.safetensors").predict(small.round().astype(np.uint8))
    there = np.array([_is_in_box(verdict, number, case) for number, case in enumerate(chosen)])
    kept = [_kept(case, before[number], after[number]) for number, case in enumerate(chosen)]
    setting = [verdict.settings[number].argmax() == case.scene.setting.index for number, case in enumerate(chosen)]
    half = len(chosen) // 2
    click.echo(f"edits of {len(chosen)} pictures")
    click.echo(f"named thing in the box       {there.mean():.3f}")
    click.echo(f"  pictures of one thing      {there[:half].mean():.3f}")
    click.echo(f"  pictures of two things     {there[half:].mean():.3f}")
    click.echo(f"setting recognised           {np.mean(setting):.3f}")
    click.echo(f"pixels outside identical     {np.mean(kept):.3f}")
    click.echo(f"verified as edited, by watermark too  {found / len(chosen):.3f}")


def _is_in_box(verdict: Verdict, number: int, case: Case) -> bool:
    scores = verdict.things[number]
    kept = len(case.scene.placed) - 1
    if scores[case.new.index] < verdict.THRESHOLD or case.new.index not in np.argsort(-scores)[: 1 + kept]:
        return False
    x, y = verdict.places[number, case.new.index] * SIDE
    left, top, width, height = case.box
    return bool(left <= x <= left + width and top <= y <= top + height)


def _kept(case: Case, before: np.ndarray, after: np.ndarray) -> bool:
    x, y, width, height = case.box
    outside = np.ones(before.shape[:2], bool)
    outside[y : y + height, x : x + width] = False
    return bool((before[outside] == after[outside]).all())


def _spread(count: int) -> list[int]:
    """Return sixteen numbers spread evenly over all pictures."""
    return [number * count // SHOWN for number in range(min(SHOWN, count))]


def _extended(picture: Path) -> np.ndarray:
    result = picture.with_name(f"{picture.stem}-extended.png")
    extend(picture, left=SIDE // 4, right=SIDE // 4, decoder="tiny", seed=1, output=result)
    return np.array(Image.open(result))


def edit_grid(chosen: Sequence[Case], before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Image.Image:
    """Return a sheet of sixteen pictures with their boxes, each above its edit and the words."""
    numbers = _spread(len(chosen))
    columns, height = 8, 2 * TILE + 16
    sheet = Image.new("RGB", (columns * TILE, -(-len(numbers) // columns) * height), "white")
    for place, number in enumerate(numbers):
        x, y = place % columns * TILE, place // columns * height
        boxed = Image.fromarray(before[number])
        left, top, wide, high = chosen[number].box
        ImageDraw.Draw(boxed).rectangle((left, top, left + wide - 1, top + high - 1), outline="red", width=2)
        sheet.paste(boxed.resize((TILE, TILE)), (x, y))
        sheet.paste(Image.fromarray(after[number]).resize((TILE, TILE)), (x, y + TILE))
        ImageDraw.Draw(sheet).text((x + 3, y + 2 * TILE + 2), chosen[number].new.name, fill="black")
    return sheet


def extend_grid(pictures: Sequence[np.ndarray]) -> Image.Image:
    """Return a sheet of extended pictures, with white ticks where the originals end."""
    columns, width, height = 4, TILE * 3 // 2, TILE
    sheet = Image.new("RGB", (columns * (width + 8), -(-len(pictures) // columns) * (height + 8)), "white")
    for place, pixels in enumerate(pictures):
        image = Image.fromarray(pixels).resize((width, height))
        for x in (TILE // 4, TILE // 4 + TILE):
            ImageDraw.Draw(image).line((x, 0, x, 6), fill="white")
        sheet.paste(image, (place % columns * (width + 8), place // columns * (height + 8)))
    return sheet


if __name__ == "__main__":
    main()
