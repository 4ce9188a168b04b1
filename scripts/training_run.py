"""One run of `train_bundled.py`: its options, its data computed on demand, and its progress bars."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    import numpy as np

    from clipkit import progress
    from clipkit.generation.prior import MlpPrior
    from clipkit.models.encoder import Encoder
    from clipkit.training.conditioning_data import ConditioningEmbeddings
    from clipkit.training.data_sources import DataSource
    from clipkit.training.loop import Schedule

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parent / "clipkit" / "bundled"
JUDGE = HERE / "judge.safetensors"
IMAGES, QUICK_IMAGES = 80_000, 300
CAPTIONS, QUICK_CAPTIONS = 460_000, 300
"""How many captions without images the sketch's classification is trained on."""
SIZE = 64

Recipe = TypeVar("Recipe", bound="Schedule")


@dataclass(frozen=True)
class Run:
    """The options of a run, and the data that several stages share."""

    quick: bool
    device: str
    work: Path
    output: Path
    data: Path | None
    model: str | None
    judge: Path
    steps: int | None
    compiled: bool

    @property
    def source(self) -> DataSource:
        """The training data of decoder and priors."""
        from clipkit.training.data_sources import CanonicalScenes, CaptionedFolder

        if self.data:
            return CaptionedFolder(self.data)
        return CanonicalScenes(QUICK_IMAGES if self.quick else IMAGES)

    @property
    def cache(self) -> Path:
        """The folder of the precomputed arrays."""
        return self.work / "data"

    @cached_property
    def encoder(self) -> Encoder:
        """The model whose image embeddings condition the decoder."""
        from clipkit.models.loading import load_encoder
        from clipkit.models.reference import ModelRef

        return load_encoder(ModelRef.resolve(self.model or str(self.output / "clip")), self.device)

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the embeddings of the source's images (n, d) and captions (n, variants, d)."""
        from clipkit.training import precomputed

        with Reporter("embeddings") as reporter:
            image = precomputed.image_embeddings(self.source, self.encoder, self.cache, reporter.prepared)
            return image, precomputed.text_embeddings(self.source, self.encoder, self.cache, reporter.prepared)

    @cached_property
    def linear_prior(self) -> MlpPrior:
        """Ridge regression from caption embeddings to image embeddings."""
        from clipkit.training.prior import fit_linear

        image, text = self.embeddings()
        return fit_linear(text[:, 0], image)

    def training_data(self) -> tuple[np.ndarray, ConditioningEmbeddings, np.ndarray]:
        """Return the source's images, uint8 (n, SIZE, SIZE, 3), their embeddings and their parts (n, 3)."""
        from clipkit.training import precomputed
        from clipkit.training.conditioning_data import ConditioningEmbeddings

        image, text = self.embeddings()
        with Reporter("images") as reporter:
            predicted = precomputed.predicted_embeddings(self.linear_prior, text, self.cache, reporter.prepared)
            images = precomputed.images(self.source, self.cache, SIZE, reporter.prepared)
            parts = precomputed.parts(self.source, self.cache, reporter.prepared)
            return images, ConditioningEmbeddings(image, predicted), parts

    def extra_captions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return embeddings (m, d) predicted from captions without images, and their parts (m, 3).

        None for a folder, whose captions all have images.
        """
        from clipkit.training import precomputed
        from clipkit.training.data_sources import ArrangedPairs

        if self.data:
            return None
        source, folder = ArrangedPairs(QUICK_CAPTIONS if self.quick else CAPTIONS, seed=5), self.work / "captions"
        with Reporter("captions") as reporter:
            texts = precomputed.text_embeddings(source, self.encoder, folder, reporter.prepared, variants=1)
            predicted = precomputed.predicted_embeddings(self.linear_prior, texts, folder, reporter.prepared)
            return predicted[:, 0], precomputed.parts(source, folder, reporter.prepared)

    def adapt(self, recipe: Recipe, **quick: Any) -> Recipe:
        """Return the recipe with `--steps` applied, or with the fields in `quick` replaced for `--quick`."""
        if self.quick:
            return replace(recipe, **quick)
        return replace(recipe, steps=self.steps) if self.steps else recipe


class Reporter:
    """A progress bar with loss, rate and time left; scores are printed, and logged to `log` as JSON lines."""

    def __init__(self, name: str, log: Path | None = None) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task(name, total=None, note="")
        self.name, self.log, self.last = name, log, {"seconds": 0.0}

    def __enter__(self) -> Reporter:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, line: dict) -> None:
        """Show a training step: step, steps, loss, seconds, and scores if there are any."""
        self.last = line
        note = f"loss {line['loss']:.4f}  {line['step'] / max(line['seconds'], 1e-9):.2f} steps/s"
        self.bar.update(self.task, total=line["steps"], completed=line["step"], note=note)
        scores = {k: v for k, v in line.items() if k not in ("step", "steps", "loss", "seconds")}
        if scores:
            self.console.print(f"{self.name} step {line['step']}:", *(f"{k} {v:.3f}" for k, v in scores.items()))
        if self.log and (scores or line["step"] % 50 == 0):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a") as log:
                log.write(json.dumps(line) + "\n")

    def prepared(self, progress: progress.Progress) -> None:
        """Show how much of the data is precomputed."""
        self.bar.update(self.task, description=progress.stage, total=progress.total, completed=progress.done)


def provenance(recipe: Schedule, reporter: Reporter, device: str) -> dict:
    """Return what the model card reports for every stage: hyperparameters, seconds, hardware."""
    from clipkit.training import model_card

    return {"recipe": asdict(recipe), "seconds": reporter.last["seconds"], "hardware": model_card.hardware(device)}


def record(run: Run, part: str, scores: dict) -> None:
    """Write the scores of a part of the decoder beside its weights, and update the model card."""
    from clipkit.training import model_card

    model_card.write_scores(run.output / "decoder" / part, scores)
    model_card.write_card(run.output)


def command(run_stage: Callable[[Run], None]) -> click.Command:
    """Wrap a stage in a command that builds its `Run` from the options."""

    @wraps(run_stage)
    def invoke(threads: int, **options: Any) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        run_stage(Run(**options))

    options = (
        click.option("--quick", is_flag=True, help="Train for a few steps only, to test the pipeline."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--threads", default=0, help="CPU threads of torch; 0 keeps its default."),
        click.option(
            "--work",
            type=click.Path(path_type=Path),
            default="training-work",
            show_default=True,
            help="Folder of checkpoints and precomputed data.",
        ),
        click.option(
            "--output",
            type=click.Path(path_type=Path),
            default=BUNDLED,
            show_default="clipkit/bundled",
            help="Folder of the trained model.",
        ),
        click.option("--data", type=click.Path(path_type=Path, exists=True), help="A folder of captioned images."),
        click.option("--model", help="The CLIP model that embeds the images; by default the one in the output folder."),
        click.option(
            "--judge",
            type=click.Path(path_type=Path),
            default=JUDGE,
            show_default="scripts/judge.safetensors",
            help="The judge's weights.",
        ),
        click.option("--steps", type=int, help="Total number of training steps, instead of the recipe's."),
        click.option("--compiled", is_flag=True, help="Compile CLIP's towers: faster steps after a minute or two."),
    )
    for option in reversed(options):
        invoke = option(invoke)
    return click.command()(invoke)
