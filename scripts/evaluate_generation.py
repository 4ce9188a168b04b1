"""Score the bundled decoder: do the generated images show what the captions say?

    python scripts/evaluate_generation.py [--count 500] [--out DIR] [--card]

Prints a table and writes grids; `--card` also adds both to the model card and docs/generation/. The judge
(`scripts/judge.safetensors`, `python scripts/train_bundled.py judge`) classifies by shape and recognises images that
show nothing. A second measure uses no neural network: whether the true sprite has the highest correlation with the
image (`clipkit/training/correlation.py`). Scenes, captions and seeds are fixed and unseen in training.
`scripts/label_generated.py` compares the judge with a human labeller.
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
from clipkit.samples.world import Scene, compose
from clipkit.training import model_card, scoring
from clipkit.training.correlation import best_correlations
from clipkit.training.data_sources import CanonicalScenes
from clipkit.training.decoder import load_pipeline
from clipkit.training.judge import Judge
from clipkit.training.judge import load as load_judge
from clipkit.training.poses import in_canonical_poses
from clipkit.training.tensors import to_images
from clipkit.training.upsampler import upsample

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
class BundledModel:
    """The bundled model with the sampling settings of the evaluation."""

    pipeline: KandinskyV22Pipeline
    encoder: Encoder
    prior: Prior
    upsampler: Upsampler
    steps: int
    guidance: float
    temperature: float
    size: int

    def decode(self, embeddings: np.ndarray) -> np.ndarray:
        """Decode image embeddings (n, d) with the seeds 0, 1, 2, ...; return uint8 (n, size, size, 3).

        Images pass through decoder and upsampler, as users get them, and are downsampled to the judge's input size.
        """
        batch = torch.from_numpy(np.asarray(embeddings, np.float32))
        small = scoring.sample(
            self.pipeline,
            batch,
            range(len(batch)),
            size=self.size,
            steps=self.steps,
            guidance=self.guidance,
            temperature=self.temperature,
        )
        large = (upsample(self.upsampler, small[i : i + 50], embeddings[i : i + 50]) for i in range(0, len(small), 50))
        return np.concatenate([downsample(part, self.size) for part in large])

    @torch.inference_mode()
    def draw_sketches(self, embeddings: np.ndarray) -> np.ndarray:
        """Draw the sketch of each embedding, without diffusion; return uint8 (n, size, size, 3)."""
        unet = self.pipeline.unet
        batch = torch.from_numpy(np.asarray(embeddings, np.float32))
        return to_images(torch.cat([unet.sketch(unet.scaled(part)) for part in batch.split(100)]))

    def predict_embeddings(self, captions: list[str]) -> np.ndarray:
        """Return the image embeddings that the prior predicts from captions, float32 (n, d)."""
        texts = torch.from_numpy(self.encoder.encode_texts(captions))
        return self.prior.predict(texts, torch.Generator().manual_seed(0)).numpy()


@dataclass
class Report:
    """Results that are printed at once and collected for the model card."""

    folder: Path
    rows: list[tuple[str, ...]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def row(self, *cells: str) -> None:
        """Add a row of the table."""
        self.rows.append(cells)
        widths = (24, 24, 12, 9, 12, 10, 14, 9)
        print("".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)

    def remark(self, text: str) -> None:
        """Add a line below the table."""
        self.remarks.append(text)
        print(text, flush=True)

    def markdown(self) -> str:
        """Return the results as a section of the model card."""
        table = ["| " + " | ".join(cells) + " |" for cells in self.rows]
        table.insert(1, "|" + "---|" * len(self.rows[0]))
        return "\n".join(("## Results", "", *table, "", *(f"- {text}" for text in self.remarks), "", ""))


@click.command()
@click.option("--count", default=500, show_default=True, help="Images in each row.")
@click.option("--bundled", type=click.Path(path_type=Path, exists=True), default=BUNDLED, help="The model to score.")
@click.option(
    "--judge",
    "judge_path",
    type=click.Path(path_type=Path, exists=True),
    default=HERE / "judge.safetensors",
    help="The judge's weights.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("generation-scores"),
    show_default=True,
    help="Folder of the grids.",
)
@click.option("--steps", default=20, show_default=True, help="Denoising steps.")
@click.option("--guidance", type=float, help="Guidance scale. [default: the decoder's]")
@click.option("--card", is_flag=True, help="Update the model card and docs/ with table and grids.")
@click.option("--threads", default=0, help="CPU threads; 0 keeps torch's default.")
def main(
    count: int, bundled: Path, judge_path: Path, out: Path, steps: int, guidance: float | None, card: bool, threads: int
) -> None:
    """Print the table and write the grids."""
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    judge = load_judge(judge_path)
    folder = bundled / "decoder"
    config = json.loads((folder / "clipkit.json").read_text())
    model = BundledModel(
        load_pipeline(folder),
        load_encoder(ModelRef.resolve(str(bundled / "clip"))),
        load_trained_prior(folder / "prior"),
        Upsampler.from_pretrained(folder / "upsampler", dtype=torch.float32, low_cpu_mem_usage=False).eval(),
        steps,
        config["guidance"] if guidance is None else guidance,
        config.get("temperature", 1.0),
        config["native"],
    )
    report = Report(out)
    report.row("scenes", "source", "object(s)", "placed", "background", "nothing", "sprite first", "Frechet")
    started = time.perf_counter()
    grids = {title: score(model, judge, report, count, title, *kind) for title, kind in GROUPS.items()}
    took = time.perf_counter() - started
    report.remark(
        f"{count} images per row unless stated otherwise, seeds 0 to {count - 1}, {steps} steps, guidance "
        f"{model.guidance:g}, temperature {model.temperature:g}; 256 px, downsampled to {model.size} px for the judge. "
        f'"Sprite first" (the true sprite correlates best) is measured on the first {min(count, CORRELATED)}. '
        f"{took:,.0f} s on {model_card.hardware('cpu')}, including the judge."
    )
    grids["sixteen seeds, a caption a row"] = diversity(model, judge, report)
    grids["samples above their nearest training scenes"] = nearest(
        model, report, min(training_images(folder), NEAREST_OF)
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
            "[Ablations and human evaluation](../../docs/generation/parts.md).\n\n"
            "Grids, not cherry-picked: the first sixteen captions of each kind with the seeds 0 to 15.\n"
        )
        (bundled / "generation.md").write_text("\n".join((report.markdown(), shown, *links)))
        model_card.write_card(bundled)
    print(f"grids: {out}")


def score(
    model: BundledModel, judge: Judge, report: Report, count: int, title: str, things: int, held_out: bool
) -> Image.Image:
    """Print the rows of one kind of scenes; return the grid of its first sixteen captions."""
    scenes = scoring.evaluation_scenes(count, things=things, held_out=held_out)
    captions = scoring.evaluation_captions(scenes)
    true, predicted = scoring.paint_scenes(scenes, model.size), model.predict_embeddings(captions)
    from_text = "text through the prior"
    sources = {
        "true image": true,
        "true image, canonical": scoring.paint_scenes([in_canonical_poses(scene) for scene in scenes], model.size),
        f"image embedding ({min(count, FEWER)})": model.decode(model.encoder.encode_images(true[:FEWER])),
        "text, sketch alone": model.draw_sketches(predicted),
        from_text: model.decode(predicted),
    }
    np.save(report.folder / f"{title.replace(',', '').replace(' ', '-')}.npy", sources[from_text])
    reference = judge.predict(sources["true image, canonical"]).features
    for name, images in sources.items():
        verdict, shown = judge.predict(images), scenes[: len(images)]
        row = scoring.score_verdict(verdict, shown)
        sprite_first = ""
        if things == 1 and name == from_text:
            sprite_first = f"{correlation_accuracy(images[:CORRELATED], shown[:CORRELATED]):.3f}"
        report.row(
            title,
            name,
            f"{row['object' if things == 1 else 'both']:.3f}",
            f"{row['placed']:.3f}" if "placed" in row else "",
            f"{row['background']:.3f}",
            f"{row['nothing']:.3f}",
            sprite_first,
            f"{max(0.0, scoring.frechet_distance(verdict.features, reference)):.2f}",
        )
    return scoring.image_grid(sources[from_text][:16], 8)


def correlation_accuracy(images: np.ndarray, scenes: Sequence[Scene]) -> float:
    """Return the share of images of one thing whose sprite correlates better with the image than all others."""
    fits = best_correlations(images, [scene.setting.index for scene in scenes])
    return float(np.mean(fits.argmax(1) == [scene.placed[0].thing.index for scene in scenes]))


def diversity(model: BundledModel, judge: Judge, report: Report) -> Image.Image:
    """Report the diversity of sixteen seeds of each of eight captions, and of sixteen true images; return the grid."""

    def true_images(scene: Scene) -> np.ndarray:
        thing = scene.placed[0].thing
        return scoring.paint_scenes([compose(scene.setting, [thing], random.Random(i)) for i in range(16)], model.size)

    scenes = scoring.evaluation_scenes(8, things=1, held_out=False, seed=5)
    embeddings = model.predict_embeddings(scoring.evaluation_captions(scenes, 5))
    generated = [model.decode(np.repeat(embedding[None], 16, 0)) for embedding in embeddings]
    of_generated = np.mean([scoring.diversity(judge.predict(images).features) for images in generated])
    of_true = np.mean([scoring.diversity(judge.predict(true_images(scene)).features) for scene in scenes])
    report.remark(
        f"Diversity (mean cosine distance of the judge's features) over 16 seeds of one caption: {of_generated:.3f}; "
        f"over true images of the same content in random poses: {of_true:.3f}."
    )
    return scoring.image_grid(np.concatenate(generated), 16)


def nearest(model: BundledModel, report: Report, count: int) -> Image.Image:
    """Return a grid of sixteen samples, each above its nearest training scene in pixel space, to reveal copies."""
    scenes = scoring.evaluation_scenes(8, things=1, held_out=False, seed=6)
    scenes += scoring.evaluation_scenes(8, things=2, held_out=False, seed=6)
    generated = model.decode(model.predict_embeddings(scoring.evaluation_captions(scenes, 6)))
    source, thumbnails = CanonicalScenes(count), thumbnail_vectors(generated)
    best, which = np.full(len(generated), np.inf), np.zeros(len(generated), int)
    with click.progressbar(range(0, len(source), 500), label="nearest training scenes") as starts:
        for start in starts:
            chunk = np.stack([np.asarray(source.image(i, 32)) for i in range(start, min(start + 500, len(source)))])
            errors = np.square(thumbnails[:, None] - thumbnail_vectors(chunk)[None]).mean(2)
            nearer = errors.min(1) < best
            which[nearer], best[nearer] = start + errors.argmin(1)[nearer], errors.min(1)[nearer]
    neighbours = np.stack([np.asarray(source.image(int(i), model.size)) for i in which])
    error = np.square(generated.astype(np.float32) - neighbours).mean((1, 2, 3))
    decibels = (10 * np.log10(255**2 / error)).mean()
    report.remark(
        f"PSNR between each of 16 samples and its nearest neighbour among the first {count:,} training scenes: "
        f"{decibels:.1f} dB on average. The thing looks the same, as in every scene in canonical poses; backgrounds "
        "differ."
    )
    return scoring.image_grid(np.concatenate([generated[:8], neighbours[:8], generated[8:], neighbours[8:]]), 8)


def training_images(folder: Path) -> int:
    """Return the number of scenes that the decoder was trained on."""
    return json.loads((folder / "scores.json").read_text())["pictures"]


def downsample(images: np.ndarray, size: int) -> np.ndarray:
    """Downsample images (n, s, s, 3) to uint8 (n, size, size, 3) by averaging blocks."""
    n, side = images.shape[:2]
    blocks = images.reshape(n, size, side // size, size, side // size, 3)
    return blocks.mean((2, 4), dtype=np.float32).round().astype(np.uint8)


def thumbnail_vectors(images: np.ndarray) -> np.ndarray:
    """Reduce images (n, s, s, 3) to 16 x 16 thumbnails, float32 (n, 768), for nearest-neighbour search."""
    return downsample(images, 16).reshape(len(images), -1).astype(np.float32)


if __name__ == "__main__":
    main()
