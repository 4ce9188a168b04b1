"""Measure whether the heat of `clipkit explain` lies on the named thing, and draw docs/explain.jpg.

Scenes of the sample world that training never paints, half with one thing and half with two; the query names one of
them. For each way of computing the heat, three numbers:

- pointing: in how many scenes the hottest place lies in the thing's box (the pointing game of Zhang et al., "Top-down
  Neural Attention by Excitation Backprop", ECCV 2016);
- heat inside: the share of all heat that lies in the box;
- overlap: intersection over union of the box and of what is at least half as hot as the hottest place.

Chance is a heat that is the same everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from clipkit.images.contact_sheet import Tile, contact_sheet
from clipkit.matching import Matcher
from clipkit.models.loading import load_encoder
from clipkit.samples.painting import paint
from clipkit.samples.world import PlacedThing, Scene, Thing, scenes, things
from clipkit.searching.heat_picture import overlay
from clipkit.searching.library_matcher import bank_vectors, new_matcher
from clipkit.searching.occlusion import Occlusion, occlude
from clipkit.training.scoring import evaluation_scenes
from clipkit.vectors.unit import unit

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIDE, CELLS = 256, 48
SHOWN, TILE = 16, 200
LIBRARY = 200
"""Scenes in the library whose spread heat is measured by."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
OURS = "both, as clipkit does"


@dataclass(frozen=True)
class Case:
    """A scene, the thing in it that is asked for, and one that is not there."""

    scene: Scene
    thing: PlacedThing
    absent: Thing

    @property
    def words(self) -> str:
        """The query."""
        return self.thing.thing.with_article(self.thing.thing.name)

    @property
    def absent_words(self) -> str:
        """A query for what is not there."""
        return self.absent.with_article(self.absent.name)

    def inside(self) -> np.ndarray:
        """Return which cells lie in the thing's box, bool (CELLS, CELLS)."""
        middles = (np.arange(CELLS) + 0.5) / CELLS
        half = self.thing.width / 2
        return np.outer(abs(middles - self.thing.y) <= half, abs(middles - self.thing.x) <= half)


def cases(count: int) -> list[Case]:
    """Return fixed cases, those with one thing first."""
    found = []
    painted = evaluation_scenes(count // 2, things=1, held_out=False, seed=19)
    painted += evaluation_scenes(count - count // 2, things=2, held_out=False, seed=19)
    for number, scene in enumerate(painted):
        rng = random.Random(f"explain {number}")
        present = {placed.thing.index for placed in scene.placed}
        absent = rng.choice([thing for thing in things() if thing.index not in present])
        found.append(Case(scene, rng.choice(scene.placed), absent))
    return found


def ways(matcher: Matcher) -> dict[str, Callable[[Occlusion, np.ndarray], np.ndarray]]:
    """Return the ways of computing a heat map, (CELLS, CELLS), from an occlusion and the vector of a text."""

    def explained(occlusion: Occlusion, text: np.ndarray) -> np.ndarray:
        direction = matcher.search_vector(text, "text")
        return occlusion.heat(direction, WHOLE, (CELLS, CELLS), matcher.spread(direction))

    def hiding(occlusion: Occlusion, text: np.ndarray) -> np.ndarray:
        return explained(replace(occlusion, alone=tuple(map(np.zeros_like, occlusion.alone))), text)

    def alone(occlusion: Occlusion, text: np.ndarray) -> np.ndarray:
        return explained(replace(occlusion, hidden=tuple(map(np.zeros_like, occlusion.hidden))), text)

    def cosine(occlusion: Occlusion, text: np.ndarray) -> np.ndarray:
        return occlusion.heat(text, WHOLE, (CELLS, CELLS))

    def uniform(occlusion: Occlusion, text: np.ndarray) -> np.ndarray:
        return np.ones((CELLS, CELLS), np.float32)

    return {
        "chance": uniform,
        "hiding windows only": hiding,
        "windows alone only": alone,
        "both, plain cosine": cosine,
        OURS: explained,
    }


def measure(heat: np.ndarray, inside: np.ndarray) -> tuple[float, float, float]:
    """Return the three numbers for one heat map; where several places are hottest, the mean over them."""
    hot = heat >= 0.5 * max(float(heat.max()), 1e-9)
    hottest = heat == heat.max()
    shares = inside[hottest].mean(), heat[inside].sum() / max(float(heat.sum()), 1e-9)
    return float(shares[0]), float(shares[1]), float((hot & inside).sum() / (hot | inside).sum())


def tile(case: Case, heat: np.ndarray) -> Tile:
    """Return a scene with its heat and the thing's box in green."""
    drawn = overlay(paint(case.scene, SIDE), heat, WHOLE)
    left, top, half = case.thing.x, case.thing.y, case.thing.width / 2
    box = tuple(drawn.width * edge for edge in (left - half, top - half, left + half, top + half))
    ImageDraw.Draw(drawn).rectangle(box, outline=(90, 255, 160), width=2)
    return Tile(drawn, case.words)


@click.command(help=__doc__)
@click.option("--count", default=240, show_default=True, help="Number of scenes.")
@click.option("--out", default=DOCS / "explain.jpg", type=click.Path(path_type=Path))
def main(count: int, out: Path) -> None:
    encoder = load_encoder("tiny", "cpu")
    library = [np.asarray(paint(scene, encoder.preprocessing.size)) for scene in islice(scenes(5), LIBRARY)]
    matcher = new_matcher(encoder, bank_vectors(encoder)).update(unit(encoder.encode_images(np.stack(library))))
    chosen = cases(count)
    texts = unit(encoder.encode_texts([case.words for case in chosen]))
    methods = ways(matcher)
    absent = unit(encoder.encode_texts([case.absent_words for case in chosen]))
    found = {name: np.zeros((count, 3)) for name in methods}
    hottest = np.zeros((count, 2))
    tiles = []
    with click.progressbar(chosen, label="hiding parts of scenes") as bar:
        for number, case in enumerate(bar):
            occlusion = occlude(encoder, np.asarray(paint(case.scene, encoder.preprocessing.size)))
            heats = {name: method(occlusion, texts[number]) for name, method in methods.items()}
            explained = methods[OURS]
            hottest[number] = heats[OURS].max(), explained(occlusion, absent[number]).max()
            for name, heat in heats.items():
                found[name][number] = measure(heat, case.inside())
            if number * SHOWN // count != (number - 1) * SHOWN // count:  # evenly spread, not chosen
                tiles.append(tile(case, heats[OURS]))
    click.echo(f"{count} scenes{'':14}  one thing: pointing  inside  overlap   two things: pointing  inside  overlap")
    for name, numbers in found.items():
        one, two = numbers[: count // 2].mean(0), numbers[count // 2 :].mean(0)
        cells = [f"{one[0]:20.3f}  {one[1]:6.3f}  {one[2]:7.3f}", f"{two[0]:21.3f}  {two[1]:6.3f}  {two[2]:7.3f}"]
        click.echo(f"{name:24}  {'   '.join(cells)}")
    there, missing = np.median(hottest, axis=0)
    click.echo(f"hottest place, median: {there:.2f} for the named thing, {missing:.2f} for one that is not there")
    title = "The heat for one thing in each scene; scenes not selected"
    sheet: Image.Image = contact_sheet(tiles, title=title, columns=8, tile_size=TILE)
    sheet.save(out, quality=88)


if __name__ == "__main__":
    main()
