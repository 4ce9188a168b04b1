"""Score the bundled decoder: does a person's text come out as a picture that shows it?

    python scripts/evaluate_generation.py [--count 500] [--out DIR] [--card]

Prints a table and writes grids; `--card` also puts both into the model card and docs/generation/. The judge
(`scripts/judge.safetensors`, `python scripts/train_bundled.py judge`) goes by shape, and says when nothing is
recognisable. Beside it stands a measure with no network in it: whether the true sprite correlates best with the picture
(`clipkit/training/correlation.py`). Scenes, captions and seeds are fixed, and none was trained on. How far the judge
agrees with a person: `scripts/label_generated.py`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import torch
from diffusers import KandinskyV22Pipeline
from PIL import Image

from clipkit.generation.conditioning import load_trained_prior
from clipkit.generation.prior import Prior
from clipkit.generation.upsampler import Upsampler
from clipkit.models.encoder import Encoder
from clipkit.models.loading import load_encoder
from clipkit.models.reference import ModelRef
from clipkit.samples.world import Scene, calmed, compose
from clipkit.training import card as model_card
from clipkit.training import judge as judging
from clipkit.training import scoring
from clipkit.training.correlation import best_correlations
from clipkit.training.decoder import load_pipeline
from clipkit.training.pictures import CalmWorld
from clipkit.training.upsampler import as_pixels, enlarge

FEWER, CORRELATED, NEAREST_OF = 100, 200, 20_000
HERE = Path(__file__).resolve().parent
BUNDLED, GRIDS = HERE.parent / "clipkit" / "bundled", HERE.parent / "docs" / "generation"
GROUPS = {
    "one thing, seen": (1, False),
    "one thing, held out": (1, True),
    "two things, seen": (2, False),
    "two things, held out": (2, True),
}


@dataclass
class Maker:
    """The bundled model, asked as the evaluation asks it."""

    pipeline: KandinskyV22Pipeline
    encoder: Encoder
    prior: Prior
    upsampler: Upsampler
    steps: int
    guidance: float
    size: int

    def from_embeddings(self, embeddings: np.ndarray) -> np.ndarray:
        """A picture for each image embedding (n, d), of the seeds 0, 1, 2, ...; uint8 (n, size, size, 3).

        It is what users get, decoder and upsampler, reduced to what the judge sees.
        """
        batch = torch.from_numpy(np.asarray(embeddings, np.float32))
        made = scoring.sample(
            self.pipeline, batch, range(len(batch)), size=self.size, steps=self.steps, guidance=self.guidance
        )
        large = (enlarge(self.upsampler, made[i : i + 50], embeddings[i : i + 50]) for i in range(0, len(made), 50))
        return np.concatenate([reduced(part, self.size) for part in large])

    @torch.inference_mode()
    def sketches(self, embeddings: np.ndarray) -> np.ndarray:
        """The sketch of each embedding, without any diffusion; uint8 (n, size, size, 3)."""
        unet = self.pipeline.unet
        batch = torch.from_numpy(np.asarray(embeddings, np.float32))
        return as_pixels(torch.cat([unet.sketch(unet.scaled(part)) for part in batch.split(100)]))

    def prior_of(self, captions: list[str]) -> np.ndarray:
        """What the prior makes of captions, float32 (n, d)."""
        texts = torch.from_numpy(self.encoder.encode_texts(captions))
        return self.prior.predict(texts, torch.Generator().manual_seed(0)).numpy()


@dataclass
class Report:
    """Lines that are printed as they come, and kept for the model card."""

    folder: Path
    rows: list[tuple[str, ...]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def row(self, *cells: str) -> None:
        self.rows.append(cells)
        widths = (24, 24, 12, 9, 12, 10, 14, 9)
        print("".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)

    def remark(self, text: str) -> None:
        self.remarks.append(text)
        print(text, flush=True)

    def markdown(self) -> str:
        """The section of the model card."""
        table = ["| " + " | ".join(cells) + " |" for cells in self.rows]
        table.insert(1, "|" + "---|" * len(self.rows[0]))
        return "\n".join(("## What it makes", "", *table, "", *(f"- {text}" for text in self.remarks), "", ""))


@click.command()
@click.option("--count", default=500, show_default=True, help="Pictures in each row.")
@click.option("--bundled", type=click.Path(path_type=Path, exists=True), default=BUNDLED, help="The model to score.")
@click.option("--judge", type=click.Path(path_type=Path, exists=True), default=HERE / "judge.safetensors")
@click.option("--out", type=click.Path(path_type=Path), default=Path("generation-scores"), show_default=True)
@click.option("--steps", default=20, show_default=True, help="Denoising steps.")
@click.option("--guidance", type=float, help="Guidance scale. [default: the decoder's]")
@click.option("--card", is_flag=True, help="Write table and grids into the model card and docs/.")
@click.option("--threads", default=0, help="CPU threads; 0 leaves torch's default.")
def main(
    count: int, bundled: Path, judge: Path, out: Path, steps: int, guidance: float | None, card: bool, threads: int
) -> None:
    """Print the table and write the grids."""
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    referee = judging.load(judge)
    folder = bundled / "decoder"
    facts = json.loads((folder / "clipkit.json").read_text())
    maker = Maker(
        load_pipeline(folder),
        load_encoder(ModelRef.resolve(str(bundled / "clip"))),
        load_trained_prior(folder / "prior"),
        Upsampler.from_pretrained(folder / "upsampler", dtype=torch.float32, low_cpu_mem_usage=False).eval(),
        steps,
        facts["guidance"] if guidance is None else guidance,
        facts["native"],
    )
    report = Report(out)
    report.row("scenes", "made from", "object(s)", "placed", "background", "nothing", "sprite first", "Frechet")
    started = time.perf_counter()
    grids = {title: score(maker, referee, report, count, title, *kind) for title, kind in GROUPS.items()}
    took = time.perf_counter() - started
    report.remark(
        f"{count} pictures a row unless a row says otherwise, seeds 0 to {count - 1}, {steps} steps, guidance "
        f"{maker.guidance:g}; 256 px, reduced to {maker.size} px for the judge; the sprite was looked for in the first "
        f"{min(count, CORRELATED)}. {took:,.0f} s on {model_card.hardware('cpu')}, judging included."
    )
    grids["sixteen seeds, a caption a row"] = diversity(maker, referee, report)
    grids["samples above their nearest training scenes"] = nearest(
        maker, report, min(training_pictures(folder), NEAREST_OF)
    )
    for title, image in grids.items():
        name = title.replace(",", "").replace(" ", "-")
        image.save(out / f"{name}.png")
        if card:
            GRIDS.mkdir(parents=True, exist_ok=True)
            image.save(GRIDS / f"{name}.jpg", quality=88)
    if card:
        links = [f"![{t}](../../docs/generation/{t.replace(',', '').replace(' ', '-')}.jpg)\n\n{t}\n" for t in grids]
        shown = (
            "[What each part adds, and what a person sees](../../docs/generation/parts.md).\n\n"
            "Grids, not selected: the first sixteen captions of each kind with the seeds 0 to 15.\n"
        )
        (bundled / "generation.md").write_text("\n".join((report.markdown(), shown, *links)))
        model_card.write_card(bundled)
    print(f"grids: {out}")


def score(
    maker: Maker, referee: judging.Judge, report: Report, count: int, title: str, things: int, held_out: bool
) -> Image.Image:
    """Print the rows of one kind of scenes; return the grid of its first sixteen captions."""
    scenes = scoring.scenes_to_judge(count, things=things, held_out=held_out)
    captions = scoring.captions_of(scenes)
    true, guessed = scoring.painted(scenes, maker.size), maker.prior_of(captions)
    from_text = "text through the prior"
    sources = {
        "true picture": true,
        "true picture, calm": scoring.painted([calmed(scene) for scene in scenes], maker.size),
        f"image embedding ({min(count, FEWER)})": maker.from_embeddings(maker.encoder.encode_images(true[:FEWER])),
        "text, sketch alone": maker.sketches(guessed),
        from_text: maker.from_embeddings(guessed),
    }
    np.save(report.folder / f"{title.replace(',', '').replace(' ', '-')}.npy", sources[from_text])
    reference = referee.look(sources["true picture, calm"]).features
    for name, squares in sources.items():
        verdict, shown = referee.look(squares), scenes[: len(squares)]
        row = scoring.judged(verdict, shown)
        report.row(
            title,
            name,
            f"{row.get('object', row.get('both')):.3f}",
            f"{row['placed']:.3f}" if "placed" in row else "",
            f"{row['background']:.3f}",
            f"{row['nothing']:.3f}",
            f"{first_by_correlation(squares[:CORRELATED], shown[:CORRELATED]):.3f}"
            if things == 1 and name == from_text
            else "",
            f"{max(0.0, scoring.frechet(verdict.features, reference)):.2f}",
        )
    return scoring.grid(sources[from_text][:16], 8)


def first_by_correlation(squares: np.ndarray, scenes: Sequence[Scene]) -> float:
    """The share of pictures of one thing with which that thing's sprite correlates better than all others."""
    fits = best_correlations(squares, [scene.setting.index for scene in scenes])
    return float(np.mean(fits.argmax(1) == [scene.placed[0].thing.index for scene in scenes]))


def diversity(maker: Maker, referee: judging.Judge, report: Report) -> Image.Image:
    """Sixteen seeds of each of eight captions, against sixteen true pictures of such a scene."""

    def true_pictures(scene: Scene) -> np.ndarray:
        thing = scene.placed[0].thing
        return scoring.painted([compose(scene.setting, [thing], random.Random(i)) for i in range(16)], maker.size)

    scenes = scoring.scenes_to_judge(8, things=1, held_out=False, seed=5)
    made = [
        maker.from_embeddings(np.repeat(text[None], 16, 0)) for text in maker.prior_of(scoring.captions_of(scenes, 5))
    ]
    of_made = np.mean([scoring.spread(referee.look(squares).features) for squares in made])
    of_true = np.mean([scoring.spread(referee.look(true_pictures(scene)).features) for scene in scenes])
    report.remark(
        f"Diversity (mean cosine distance of the judge's features) over 16 seeds of one caption: {of_made:.3f}; "
        f"of true pictures of such a scene, in free poses: {of_true:.3f}."
    )
    return scoring.grid(np.concatenate(made), 16)


def nearest(maker: Maker, report: Report, pictures: int) -> Image.Image:
    """Sixteen samples, each above the training scene nearest to it in pixels, so that copying would be seen."""
    scenes = scoring.scenes_to_judge(8, things=1, held_out=False, seed=6)
    scenes += scoring.scenes_to_judge(8, things=2, held_out=False, seed=6)
    made = maker.from_embeddings(maker.prior_of(scoring.captions_of(scenes, 6)))
    world, small = CalmWorld(pictures), coarse(made)
    best, which = np.full(len(made), np.inf), np.zeros(len(made), int)
    with click.progressbar(range(0, len(world), 500), label="nearest training scenes") as starts:
        for start in starts:
            chunk = np.stack([np.asarray(world.picture(i, 32)) for i in range(start, min(start + 500, len(world)))])
            gaps = np.square(small[:, None] - coarse(chunk)[None]).mean(2)
            nearer = gaps.min(1) < best
            which[nearer], best[nearer] = start + gaps.argmin(1)[nearer], gaps.min(1)[nearer]
    found = np.stack([np.asarray(world.picture(int(i), maker.size)) for i in which])
    error = np.square(made.astype(np.float32) - found).mean((1, 2, 3))
    decibels = (10 * np.log10(255**2 / error)).mean()
    report.remark(
        f"Nearest of the first {pictures:,} training scenes to each of 16 samples: {decibels:.1f} dB on average; "
        "the thing is the same, as it is in every calm scene, and the surroundings differ."
    )
    return scoring.grid(np.concatenate([made[:8], found[:8], made[8:], found[8:]]), 8)


def training_pictures(folder: Path) -> int:
    """How many scenes the decoder was trained on."""
    return json.loads((folder / "scores.json").read_text())["pictures"]


def reduced(squares: np.ndarray, size: int) -> np.ndarray:
    """Pictures (n, s, s, 3) as means over blocks, uint8 (n, size, size, 3)."""
    n, side = squares.shape[:2]
    blocks = squares.reshape(n, size, side // size, size, side // size, 3)
    return blocks.mean((2, 4), dtype=np.float32).round().astype(np.uint8)


def coarse(squares: np.ndarray) -> np.ndarray:
    """Pictures (n, s, s, 3) as 16 x 16 blocks, to compare many; float32 (n, 768)."""
    return reduced(squares, 16).reshape(len(squares), -1).astype(np.float32)


if __name__ == "__main__":
    main()
