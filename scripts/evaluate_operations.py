"""Score the operations on pictures with the bundled decoder: do the results show what they should?

    python scripts/evaluate_operations.py vary|blend|restyle|upscale [--count 200] [--seed 0] [--steps 8] [--upsampled]

Scenes of one thing, unseen in training, are painted at 256 px and go through the decoder's own lines: image tower,
sampling and, with `--upsampled`, the upsampler. The judge (see `scripts/evaluate_generation.py`) looks at the results
at 64 px. Every command prints a table and writes a grid of the first results, unselected. Defaults of the operations
were chosen with other seeds than 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from clipkit.generation.conditioning import TrainedPriorConditioner
from clipkit.generation.decoder import Start
from clipkit.generation.kandinsky import KandinskyDecoder
from clipkit.generation.latents import initial_latents
from clipkit.generation.loading import load_conditioner, load_decoder
from clipkit.generation.operations import restyle as text_diffs
from clipkit.generation.operations.blend import way
from clipkit.generation.operations.interpolation import interpolate, turn
from clipkit.generation.registry import resolve_decoder
from clipkit.generation.upscalers import LANCZOS, resolve_upscaler
from clipkit.generation.upscaling import enlarge
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, Thing, things
from clipkit.training import scoring
from clipkit.training.judge import Judge, Verdict
from clipkit.training.judge import load as load_judge
from clipkit.training.upsampler import psnr, sdedit, upsample
from clipkit.vectors.unit import unit

HERE = Path(__file__).resolve().parent
GRIDS = HERE.parent / "docs" / "operations"
BATCH, SHOWN = 50, 12
NEAR = 0.15
"""How far a thing may lie from where the other was, in fractions of the side."""


@dataclass
class Bench:
    """Decoder and judge, the scenes, their pictures (RGB, 256 px) and image embeddings (n, d)."""

    decoder: KandinskyDecoder
    conditioner: TrainedPriorConditioner
    judge: Judge
    steps: int
    upsampled: bool
    scenes: list[Scene]
    pictures: list[Image.Image]
    embeddings: np.ndarray

    @property
    def small(self) -> np.ndarray:
        """The pictures as the judge sees them, uint8 (n, 64, 64, 3)."""
        return np.stack([np.asarray(picture.reduce(picture.width // 64)) for picture in self.pictures])

    def decode(self, embeddings: np.ndarray, seeds: Sequence[int], strength: float = 1.0) -> np.ndarray:
        """Decode embeddings (n, d) as the operations do, in batches; uint8 (n, 64, 64, 3).

        `strength`: below 1, from the picture of the same number.
        """
        with click.progressbar(range(0, len(embeddings), BATCH), label=f"strength {strength:g}") as starts:
            parts = [self._batch(embeddings[i : i + BATCH], seeds[i : i + BATCH], i, strength) for i in starts]
        return np.concatenate(parts)

    def _batch(self, embeddings: np.ndarray, seeds: Sequence[int], first: int, strength: float) -> np.ndarray:
        batch, native = torch.from_numpy(np.asarray(embeddings, np.float32)), self.decoder.entry.native
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        arguments = {
            "image_embeds": batch,
            "negative_image_embeds": torch.zeros_like(batch),
            "height": native,
            "width": native,
            "num_inference_steps": self.steps,
            "guidance_scale": self.decoder.entry.guidance,
            "generator": generators,
            "output_type": "np",
        }
        if strength < 1:
            starts = [Start(picture, strength) for picture in self.pictures[first : first + len(batch)]]
            images = self.decoder.from_picture(
                image=[start.fitted(native) for start in starts],
                strength=starts[0].pipeline_strength(self.steps),
                **arguments,
            ).images
        else:
            noise = [
                initial_latents(self.decoder.pipeline, native, g, self.decoder.entry.temperature) for g in generators
            ]
            images = self.decoder.pipeline(latents=torch.cat(noise), **arguments).images
        if not self.upsampled:
            return (images * 255).round().astype(np.uint8)
        large = upsample(self.decoder.upsampler, (images * 255).round().astype(np.uint8), batch.numpy())
        side = large.shape[1] // 64
        blocks = large.reshape(len(large), 64, side, 64, side, 3)
        return blocks.mean((2, 4), dtype=np.float32).round().astype(np.uint8)


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command has."""
    for option in (
        click.option("--count", default=200, show_default=True, help="Number of pictures."),
        click.option("--seed", default=0, show_default=True, help="Seed of the scenes and of the sampling."),
        click.option("--steps", default=8, show_default=True, help="Denoising steps."),
        click.option(
            "--upsampled", is_flag=True, help="Pass results through the upsampler and down again, which takes longer."
        ),
        click.option(
            "--grids", type=click.Path(path_type=Path), default=GRIDS, show_default="docs/operations", help="Folder."
        ),
    ):
        command = option(command)
    return command


def open_bench(count: int, seed: int, steps: int, upsampled: bool) -> Bench:
    """Load everything, and embed the pictures of `count` scenes of one thing."""
    entry = resolve_decoder("tiny")
    decoder, conditioner = load_decoder(entry, "cpu"), load_conditioner(entry, "cpu")
    assert isinstance(decoder, KandinskyDecoder) and isinstance(conditioner, TrainedPriorConditioner)
    decoder.pipeline.set_progress_bar_config(disable=True)
    scenes = scoring.evaluation_scenes(count, things=1, held_out=False, seed=seed)
    pictures = [paint(scene, 256) for scene in scenes]
    return Bench(
        decoder,
        conditioner,
        load_judge(HERE / "judge.safetensors"),
        steps,
        upsampled,
        scenes,
        pictures,
        conditioner.embed_images(pictures),
    )


@click.group()
def main() -> None:
    """Score the operations of the bundled decoder."""


@main.command()
@common_options
@click.option("--strength", "strengths", type=float, multiple=True, default=(1.0, 0.5, 0.3), show_default=True)
def vary(count: int, seed: int, steps: int, upsampled: bool, grids: Path, strengths: tuple[float, ...]) -> None:
    """Do variations keep the thing and the setting, and at a low strength the layout?"""
    bench = open_bench(count, seed, steps, upsampled)
    true = bench.small
    _row("variations", "object", "setting", "nothing", "difference")
    _score_variation("true pictures", bench, true)
    # Generation from the true embedding, with the seeds of `scripts/evaluate_generation.py`.
    _score_variation("from the true embedding", bench, bench.decode(bench.embeddings, range(count)))
    rows = [true[:SHOWN]]
    for strength in strengths:
        made = bench.decode(bench.embeddings, range(10_000, 10_000 + count), strength)
        _score_variation(f"strength {strength:g}", bench, made)
        rows.append(made[:SHOWN])
    _save(rows, grids / "vary.jpg")


def _score_variation(name: str, bench: Bench, images: np.ndarray) -> None:
    scores = scoring.score_images(bench.judge, images, bench.scenes)
    difference = np.abs(images.astype(float) - bench.small).mean()
    _row(name, *(f"{scores[key]:.3f}" for key in ("object", "background", "nothing")), f"{difference:.1f}")


@main.command()
@common_options
def blend(count: int, seed: int, steps: int, upsampled: bool, grids: Path) -> None:
    """Do blends of each picture and the next lie between both, and change evenly?"""
    bench = open_bench(count, seed, steps, upsampled)
    ends = np.roll(bench.embeddings, -1, 0)
    points = way(2, 5)
    made = [
        bench.decode(
            np.stack([interpolate(np.stack(p), w) for p in zip(bench.embeddings, ends, strict=True)]), range(count)
        )
        for w in points
    ]
    first, rows = np.arange(count), np.roll(np.arange(count), -1)
    features = unit(bench.judge.predict(bench.small).features)
    centre = features.mean(0)
    true = unit(features - centre)
    kinds = np.array([scene.placed[0].thing.index for scene in bench.scenes])
    verdicts = [bench.judge.predict(images) for images in made]
    nearness = [unit(unit(verdict.features) - centre) @ true.T for verdict in verdicts]
    _row("t", "like the first", "like the last", "P(first)", "P(last)")
    for shares, verdict, near in zip(points, verdicts, nearness, strict=True):
        numbers = (
            near[first, first],
            near[first, rows],
            verdict.things[first, kinds],
            verdict.things[first, kinds[rows]],
        )
        _row(f"{shares[1]:g}", *(f"{values.mean():.3f}" for values in numbers))
    middle = nearness[2]
    below_first, below_last = ((middle < middle[first, index][:, None]).mean(1) for index in (first, rows))
    print(
        f"at t = 0.5, nearer to the first than to a picture at random: {below_first.mean():.3f}; to the last: "
        f"{below_last.mean():.3f} (chance 0.5)"
    )
    both = (below_first > 0.5) & (below_last > 0.5)
    print(f"both ends nearer than half of all pictures: {both.mean():.3f} (chance 0.25)")
    lead = np.stack([near[first, first] - near[first, rows] for near in nearness])
    falls = np.diff(lead, axis=0) < 0
    print(
        f"steps that move from the first to the last: {falls.mean():.3f} (chance 0.5); ways on which all four do: "
        f"{falls.all(0).mean():.3f} (chance 0.008)"
    )
    shown = [
        np.concatenate([bench.small[i : i + 1], *(m[i : i + 1] for m in made), bench.small[i + 1 : i + 2]])
        for i in range(8)
    ]
    _save(shown, grids / "blend.jpg")


@main.command()
@common_options
@click.option("--amount", default=text_diffs.AMOUNT, show_default=True)
@click.option("--strength", default=text_diffs.STRENGTH, show_default=True)
def restyle(count: int, seed: int, steps: int, upsampled: bool, grids: Path, amount: float, strength: float) -> None:
    """Does "from a cat to a dog" make a dog of the cat, in the same place and setting?"""
    bench = open_bench(count, seed, steps, upsampled)
    rng = random.Random(f"restyled {seed}")
    before = [scene.placed[0].thing for scene in bench.scenes]
    after = [rng.choice([thing for thing in things() if thing != old]) for old in before]
    named = [bench.conditioner.embed_texts([t.with_article(t.name) for t in part], seed) for part in (before, after)]
    turned = np.stack([turn(e, b - a, amount) for e, a, b in zip(bench.embeddings, *named, strict=True)])
    made = bench.decode(turned, range(count), strength)
    verdict = bench.judge.predict(made)
    places = np.array([(scene.placed[0].x, scene.placed[0].y) for scene in bench.scenes])
    settings = verdict.settings.argmax(1) == [scene.setting.index for scene in bench.scenes]
    changed = _shows(verdict, after)
    index = [thing.index for thing in after]
    stays = np.abs(verdict.places[np.arange(count), index] - places)[:, 0] < NEAR
    _row("text diffs", "changed", "old thing left", "setting stays", "place stays", "all")
    _row(
        f"amount {amount:g}, {strength:g}",
        *(
            f"{x.mean():.3f}"
            for x in (
                changed,
                verdict.things[np.arange(count), [t.index for t in before]] >= Verdict.THRESHOLD,
                settings,
                stays[changed],
                changed & settings & stays,
            )
        ),
    )
    print("; ".join(f"{a.name} to {b.name}" for a, b in zip(before[:SHOWN], after[:SHOWN], strict=True)))
    _save([bench.small[:SHOWN], made[:SHOWN]], grids / "restyle.jpg")


@main.command()
@click.option("--count", default=200, show_default=True, help="Number of pictures.")
@click.option("--large", default=24, show_default=True, help="Of which are enlarged to 1024 pixels, which is slow.")
@click.option("--seed", default=0, show_default=True, help="Seed of the scenes.")
@click.option("--grids", type=click.Path(path_type=Path), default=GRIDS, show_default="docs/operations", help="Folder.")
def upscale(count: int, large: int, seed: int, grids: Path) -> None:
    """Is an enlarged scene nearer to the true one than Lanczos resampling makes it, and does it show its thing?

    What is enlarged four times is the true picture, reduced by the mean of 4 x 4 pixels; or the same as the decoder
    renders it, noised for the last six of twenty steps and denoised, which is what the upsampler was trained for.
    """
    entry, judge = resolve_upscaler("tiny"), load_judge(HERE / "judge.safetensors")
    scenes = scoring.evaluation_scenes(count, things=1, held_out=False, seed=seed)
    true = [paint(scene, 256) for scene in scenes]
    small = [picture.reduce(4) for picture in true]
    decoder, conditioner = (
        load_decoder(resolve_decoder("tiny"), "cpu"),
        load_conditioner(resolve_decoder("tiny"), "cpu"),
    )
    assert isinstance(decoder, KandinskyDecoder)
    rendered = sdedit(decoder.pipeline, np.stack([np.asarray(p) for p in small]), conditioner.embed_images(true))
    _row("enlarged", "PSNR, dB", "SSIM", "object", "nothing")
    _row("(true pictures)", "", "", *_named(judge, true, scenes))
    for name, before in (("reduced to 64 px", small), ("rendered at 64 px", [Image.fromarray(p) for p in rendered])):
        for upscaler in (LANCZOS, entry):
            made = [enlarge(picture, (256, 256), upscaler, device="cpu") for picture in before]
            numbers = (f"{np.mean([f(a, b) for a, b in zip(made, true, strict=True)]):.3f}" for f in (_psnr, _ssim))
            _row(f"{name}, {upscaler.id}", *numbers, *_named(judge, made, scenes))
            if before is small and upscaler is entry:
                shown = [true[:8], [enlarge(p, (256, 256), LANCZOS) for p in small[:8]], made[:8]]
    huge = [paint(scene, 1024) for scene in scenes[:large]]
    for upscaler in (LANCZOS, entry) if huge else ():
        made = [enlarge(picture.reduce(4), (1024, 1024), upscaler, device="cpu") for picture in huge]
        numbers = (f"{np.mean([f(a, b) for a, b in zip(made, huge, strict=True)]):.3f}" for f in (_psnr, _ssim))
        _row(f"{len(huge)} of 256 px, {upscaler.id}", *numbers)
    rows = [[p.resize((256, 256), Image.Resampling.NEAREST) for p in small[:8]], *shown[1:], shown[0]]
    sheet = Image.new("RGB", (8 * 200, len(rows) * 200), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture.crop((30, 60, 226, 256)), (x * 200 + 2, y * 200 + 2))
    sheet.save(grids / "upscale.jpg", quality=92)
    print("grid: upscale.jpg")


def _named(judge: Judge, pictures: Sequence[Image.Image], scenes: Sequence[Scene]) -> list[str]:
    """Return the shares of pictures whose thing is named, and of those that show nothing."""
    small = np.stack([np.asarray(picture.reduce(picture.width // 64)) for picture in pictures])
    scores = scoring.score_images(judge, small, scenes)
    return [f"{scores[key]:.3f}" for key in ("object", "nothing")]


def _psnr(a: Image.Image, b: Image.Image) -> float:
    return psnr(np.asarray(a)[None], np.asarray(b)[None])


def _ssim(a: Image.Image, b: Image.Image) -> float:
    """Return the structural similarity of two pictures' luma (Wang et al., 2004): Gaussian windows of 1.5 pixels."""
    x, y = (torch.from_numpy(np.asarray(image.convert("L"), np.float32))[None, None] for image in (a, b))
    line = torch.exp(-(torch.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(values, window)

    first, second = mean(x), mean(y)
    variances = mean(x * x) - first**2 + mean(y * y) - second**2
    covariance = mean(x * y) - first * second
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * first * second + c1) * (2 * covariance + c2)
    return float((similarity / ((first**2 + second**2 + c1) * (variances + c2))).mean())


def _shows(verdict: Verdict, expected: Sequence[Thing]) -> np.ndarray:
    """Return which images show the expected thing: it is recognised and the most probable."""
    index = np.array([thing.index for thing in expected])
    probable = verdict.things[np.arange(len(index)), index] >= Verdict.THRESHOLD
    return probable & (verdict.things.argmax(1) == index)


def _row(*cells: str) -> None:
    print("".join(f"{cell:<26}" if i == 0 else f"{cell:<16}" for i, cell in enumerate(cells)), flush=True)


def _save(rows: Sequence[np.ndarray], path: Path) -> None:
    """Write images (n, 64, 64, 3) of each row as a grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scoring.image_grid(np.concatenate(rows), len(rows[0])).save(path, quality=88)
    print(f"grid: {path.name}")


if __name__ == "__main__":
    main()
