"""Train the bundled model. Killed runs go on where they stopped; the result goes to clipkit/bundled/.

    python scripts/train_bundled.py all [--quick]
    python scripts/train_bundled.py clip | judge | sketch | decoder | prior | upsampler

`--quick` goes through everything in a minute or two and gives a loadable, poor model: for tests. The stages after
`clip` also train on pictures of your own: `--data FOLDER` with captions in `metadata.jsonl`,
or in a text file beside each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    import numpy as np

    from clipkit.generation.prior import MlpPrior
    from clipkit.models.encoder import Encoder
    from clipkit.training.conditioning import Conditions
    from clipkit.training.pictures import CaptionedPictures

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parent / "clipkit" / "bundled"
JUDGE = HERE / "judge.safetensors"
UNFINISHED = HERE / "unfinished.webp"
"""Pictures that a barely trained decoder left unfinished, 64 px each: the judge learns that they show nothing."""
PICTURES, QUICK_PICTURES = 80_000, 1_500
CAPTIONS, QUICK_CAPTIONS = 140_000, 1_000
"""How many captions without pictures the sketch learns to read."""
SIZE = 64
GUIDANCE = 1.0


@dataclass(frozen=True)
class Run:
    """Where one run of this script reads and writes, and how."""

    quick: bool
    device: str
    work: Path
    output: Path
    data: Path | None
    space: str | None
    judge: Path
    steps: int | None
    compiled: bool

    @property
    def source(self) -> CaptionedPictures:
        """What decoder and priors are trained on."""
        from clipkit.training.pictures import CalmWorld, CaptionedFolder

        if self.data:
            return CaptionedFolder(self.data)
        return CalmWorld(QUICK_PICTURES if self.quick else PICTURES)

    @property
    def cache(self) -> Path:
        return self.work / "data"

    @cached_property
    def encoder(self) -> Encoder:
        """The model whose image embeddings the decoder takes."""
        from clipkit.models.loading import load_encoder
        from clipkit.models.reference import ModelRef

        return load_encoder(ModelRef.resolve(self.space or str(self.output / "clip")), self.device)

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of the source's pictures (n, d) and of their captions (n, variants, d)."""
        from clipkit.training import cache

        with Reporter("embeddings") as reporter:
            image = cache.image_embeddings(self.source, self.encoder, self.cache, reporter.prepared)
            return image, cache.text_embeddings(self.source, self.encoder, self.cache, reporter.prepared)

    @cached_property
    def linear_prior(self) -> MlpPrior:
        """Ridge regression from the captions' embeddings to the pictures'."""
        from clipkit.training.prior import ridge

        image, text = self.embeddings()
        return ridge(text[:, 0], image)

    def pictures(self) -> tuple[np.ndarray, Conditions, np.ndarray]:
        """The source's pictures, uint8 (n, SIZE, SIZE, 3), what the decoder is conditioned on, and their parts."""
        from clipkit.training import cache
        from clipkit.training.conditioning import Conditions

        image, text = self.embeddings()
        with Reporter("pictures") as reporter:
            guesses = cache.guesses(self.linear_prior, text, self.cache, reporter.prepared)
            squares = cache.pixels(self.source, self.cache, SIZE, reporter.prepared)
            return squares, Conditions(image, guesses), cache.parts(self.source, self.cache, reporter.prepared)

    def captions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Guessed embeddings (m, d) of captions without pictures and their parts (m, 3); none for a folder."""
        from clipkit.training import cache
        from clipkit.training.pictures import CalmWorld

        if self.data:
            return None
        source, folder = CalmWorld(QUICK_CAPTIONS if self.quick else CAPTIONS, seed=5), self.work / "captions"
        with Reporter("captions") as reporter:
            texts = cache.text_embeddings(source, self.encoder, folder, reporter.prepared, variants=1)
            guesses = cache.guesses(self.linear_prior, texts, folder, reporter.prepared)
            return guesses[:, 0], cache.parts(source, folder, reporter.prepared)

    def recipe(self, recipe, **quick):
        """The recipe as it is, with `--steps`, or cut down for `--quick`."""
        if self.quick:
            return replace(recipe, **quick)
        return replace(recipe, steps=self.steps) if self.steps else recipe


class Reporter:
    """A progress bar with loss, rate and time left; scores go to a line of their own and to `log` as JSON lines."""

    def __init__(self, name: str, log: Path | None = None) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=self.console,
        )  # fmt: skip
        self.task = self.bar.add_task(name, total=None, note="")
        self.name, self.log, self.last = name, log, {"seconds": 0.0}

    def __enter__(self) -> Reporter:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, line: dict) -> None:
        """One step of training."""
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

    def prepared(self, progress) -> None:
        """So many pictures prepared."""
        self.bar.update(self.task, description=progress.stage, total=progress.total, completed=progress.done)


def command(run_stage: Callable[[Run], None]) -> click.Command:
    """A command that makes its `Run` from the options."""

    @wraps(run_stage)
    def invoked(threads: int, **options) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        run_stage(Run(**options))

    options = (
        click.option("--quick", is_flag=True, help="A few steps of everything, to test the whole way."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--threads", default=0, help="CPU threads of torch; 0 leaves its default."),
        click.option("--work", type=click.Path(path_type=Path), default="training-work", show_default=True),
        click.option("--output", type=click.Path(path_type=Path), default=BUNDLED, show_default="clipkit/bundled"),
        click.option("--data", type=click.Path(path_type=Path, exists=True), help="A folder of captioned pictures."),
        click.option("--space", help="The CLIP that embeds them; by default the one in the output folder."),
        click.option(
            "--judge", type=click.Path(path_type=Path), default=JUDGE, show_default="scripts/judge.safetensors"
        ),
        click.option("--steps", type=int, help="Train for so many steps in all instead of the recipe's number."),
        click.option("--compiled", is_flag=True, help="Compile the towers of CLIP: faster, after a minute or two."),
    )
    for option in reversed(options):
        invoked = option(invoked)
    return click.command()(invoked)


def facts(recipe, reporter: Reporter, device: str) -> dict:
    """What the model card says of every stage: hyperparameters, time, machine."""
    from clipkit.training import card

    return {"recipe": asdict(recipe), "seconds": reporter.last["seconds"], "hardware": card.hardware(device)}


def leave(run: Run, part: str, scores: dict) -> None:
    """Leaves the scores of a part of the decoder beside it, and writes the model card anew."""
    from clipkit.training import card

    card.write_scores(run.output / "decoder" / part, scores)
    card.write_card(run.output)


def clip(run: Run) -> None:
    """The image and text towers."""
    import torch

    from clipkit.models.loading import load_torch_encoder
    from clipkit.models.onnx.shipped import write_graphs
    from clipkit.training import card
    from clipkit.training.clip import ClipRecipe, Part, add_to_config, evaluate, export, placement_accuracy, train
    from clipkit.training.matching import SIZES, calibrate

    quick, device = run.quick, run.device
    recipe = ClipRecipe(parts=(Part(8, 1e-3, 0.15), Part(4, 4e-4, 1.0)), batch=64) if quick else ClipRecipe()
    with Reporter("clip") as reporter:
        model = train(recipe, run.work, device=device, report=reporter.step, compiled=run.compiled)
    count = 100 if quick else 1000
    retrieval = {
        name: {"scenes": count} | evaluate(model, recipe, count=count, seed=seed, held_out=held_out, device=device)
        for name, seed, held_out in (("seen combinations", 101, False), ("held-out combinations", 102, True))
    }
    folder = run.output / "clip"
    rows = export(model, recipe, folder)
    decision = calibrate(load_torch_encoder(str(folder.resolve()), device), sizes=(10, 30) if quick else SIZES)
    add_to_config(folder, match=decision.to_json())
    write_graphs(folder)
    scores = {
        "recipe": asdict(recipe),
        "token_rows": rows,
        "seconds": reporter.last["seconds"] or torch.load(run.work / "clip.pt", weights_only=True)["seconds"],
        "hardware": card.hardware(device),
        "retrieval": retrieval,
        "placement": placement_accuracy(model, recipe, count=count, seed=103, device=device),
        "placement_scenes": count,
    }
    card.write_scores(folder, scores)
    card.write_card(run.output)
    for name, row in retrieval.items():
        print(f"{name}: recall@1 {row['recall@1']:.3f}, recall@10 {row['recall@10']:.3f} over {count} scenes")
    print(f"left and right told apart: {scores['placement']:.3f}")


def judge(run: Run) -> None:
    """The classifier that scores generated scenes; it is no part of the bundled model."""
    import numpy as np
    from PIL import Image

    from clipkit.training import judge as judging
    from clipkit.training.scoring import look, painted, scenes_to_judge, scrambled_scenes

    recipe = run.recipe(judging.JudgeRecipe(), steps=6)
    sheet = np.asarray(Image.open(UNFINISHED).convert("RGB"))
    unfinished = sheet.reshape(-1, SIZE, sheet.shape[1] // SIZE, SIZE, 3).swapaxes(1, 2).reshape(-1, SIZE, SIZE, 3)
    with Reporter("judge") as reporter:
        model = judging.train(recipe, run.work, unfinished=unfinished, device=run.device, report=reporter.step).cpu()
    judging.save(model, run.judge)
    count = 50 if run.quick else 1000
    for things in (1, 2):
        scenes = scenes_to_judge(count, things=things, held_out=False, seed=1)
        print(f"{things} thing(s):", look(model, painted(scenes), scenes))
    print(f"scrambled, called nothing: {model.look(scrambled_scenes(count, seed=1)).nothing.mean():.3f}")


def sketch(run: Run) -> None:
    """From an image embedding to a small picture, by regression."""
    from safetensors.torch import save_file

    from clipkit.training import sketch as recipes

    recipe = run.recipe(recipes.SketchRecipe(), steps=12, batch=16, width=64, features=8)
    squares, conditions, parts = run.pictures()
    more = run.captions()
    with Reporter("sketch", run.work / "sketch.jsonl") as reporter:
        model = recipes.train(
            recipe,
            squares,
            conditions,
            parts,
            run.source.part_groups,
            run.work,
            more=more,
            device=run.device,
            report=reporter.step,
        ).cpu()
    save_file(model.state_dict(), run.work / "sketch.safetensors")
    scores = facts(recipe, reporter, run.device) | {"pictures": len(squares), "captions": len(more[0]) if more else 0}
    (run.work / "sketch.json").write_text(json.dumps(scores))


def decoder(run: Run) -> None:
    """From an image embedding and its sketch to a picture, by diffusion."""
    import torch
    from safetensors.torch import load_file

    from clipkit.training import decoder as recipes
    from clipkit.training import scoring
    from clipkit.training.judge import load as load_judge
    from clipkit.training.sketch import SketchRecipe

    recipe = run.recipe(recipes.DecoderRecipe(), steps=12, batch=16, channels=(32, 32))
    squares, conditions, parts = run.pictures()
    sketch_scores = json.loads((run.work / "sketch.json").read_text())
    drawn = SketchRecipe(**sketch_scores["recipe"]).build(conditions.own.shape[1], SIZE, run.source.part_groups)
    drawn.load_state_dict(load_file(run.work / "sketch.safetensors"))
    linear = run.linear_prior
    held = [s for things in (1, 2) for s in scoring.scenes_to_judge(48, things=things, held_out=False, seed=2)]
    texts = torch.from_numpy(run.encoder.encode_texts(scoring.captions_of(held)))
    referee = load_judge(run.judge) if run.judge.exists() else None

    def evaluate(unet) -> dict:
        """Judged pictures from text, and a sheet of some of them."""
        made = scoring.sample(recipes.pipeline(unet, recipe), linear.predict(texts), range(len(held)))
        scoring.grid(made[[*range(16), *range(48, 64)]], 8).save(run.work / "decoder-samples.png")
        if referee is None:
            return {}
        both = scoring.look(referee, made[48:], held[48:])
        return scoring.look(referee, made[:48], held[:48]) | {"both": both["both"], "placed": both["placed"]}

    with Reporter("decoder", run.work / "decoder.jsonl") as reporter:
        unet = recipes.train(
            recipe,
            drawn,
            squares,
            conditions,
            run.work,
            parts=parts,
            device=run.device,
            report=reporter.step,
            evaluate=evaluate,
        )
    folder = run.output / "decoder"
    recipes.pipeline(unet, recipe).to(dtype=torch.float16).save_pretrained(folder)
    says = {"space": run.space or "tiny", "size": 4 * SIZE, "native": SIZE, "steps": 20, "guidance": GUIDANCE}
    (folder / "clipkit.json").write_text(json.dumps(says, indent=1) + "\n")
    leave(run, "", facts(recipe, reporter, run.device) | {"pictures": len(squares), "sketch": sketch_scores})


def prior(run: Run) -> None:
    """Three priors, compared by what the decoder makes of them; the best is kept."""
    import numpy as np
    import torch

    from clipkit.generation.prior import DiffusionPrior
    from clipkit.training import prior as recipes
    from clipkit.training import scoring
    from clipkit.training.decoder import load_pipeline
    from clipkit.training.judge import load as load_judge

    image, text = run.embeddings()
    text = text[:, 0]
    mlp = run.recipe(recipes.MlpPriorRecipe(), steps=20)
    diffusion = run.recipe(recipes.DiffusionPriorRecipe(), steps=20, layers=1)
    with Reporter("perceptron") as perceptron_reporter:
        perceptron = recipes.train_mlp(
            mlp, text, image, run.work, device=run.device, report=perceptron_reporter.step
        ).cpu()
    with Reporter("diffusion prior") as transformer_reporter:
        transformer = recipes.train_diffusion(
            diffusion, text, image, run.work, device=run.device, report=transformer_reporter.step
        ).cpu()
    priors = {
        "ridge regression": (run.linear_prior, "closed form", 0.0),
        "perceptron": (perceptron, asdict(mlp), perceptron_reporter.last["seconds"]),
        "diffusion prior": (DiffusionPrior(transformer), asdict(diffusion), transformer_reporter.last["seconds"]),
    }
    pipeline = load_pipeline(run.output / "decoder").to(run.device)
    referee, count = load_judge(run.judge), 12 if run.quick else 160
    encoder, table = run.encoder, {}
    for name, (candidate, recipe, seconds) in priors.items():
        row = {"recipe": recipe, "seconds": seconds}
        for title, things, held_out in (("seen", 1, False), ("held out", 1, True), ("pairs", 2, False)):
            scenes = scoring.scenes_to_judge(count, things=things, held_out=held_out, seed=3)
            texts = encoder.encode_texts(scoring.captions_of(scenes))
            guess = candidate.predict(torch.from_numpy(texts), torch.Generator().manual_seed(0))
            squares = scoring.sample(pipeline, guess, range(count))
            row[title] = scoring.look(referee, squares, scenes)
            true = encoder.encode_images(scoring.painted(scenes))
            row[title]["cosine"] = recipes.cosine(candidate, texts, true)
        row["score"] = float(np.mean([row["seen"]["object"], row["held out"]["object"], row["pairs"]["both"]]))
        table[name] = row
        print(name, json.dumps({k: v for k, v in row.items() if k != "recipe"}))
    best = max(table, key=lambda name: table[name]["score"])
    winner = priors[best][0]
    model = winner.model if isinstance(winner, DiffusionPrior) else winner
    model.half().save_pretrained(run.output / "decoder" / "prior")
    leave(run, "prior", {"table": table, "best": best, "pictures": count})
    print("kept:", best)


def upsampler(run: Run) -> None:
    """64 px to 256 px, kept if it beats Lanczos in PSNR."""
    import numpy as np

    from clipkit.training import cache
    from clipkit.training import upsampler as recipes
    from clipkit.training.decoder import load_pipeline
    from clipkit.training.pictures import CalmWorld

    recipe = run.recipe(recipes.UpsamplerRecipe(), steps=10)
    source = run.source if run.data or run.quick else CalmWorld(2600, seed=11)
    folder = run.work / "upsampler-data"
    pipeline = load_pipeline(run.output / "decoder").to(run.device)
    with Reporter("upsampler") as reporter:
        large = cache.pixels(source, folder, SIZE * recipe.factor, reporter.prepared)
        small = cache.pixels(source, folder, SIZE, reporter.prepared)
        embeddings = cache.image_embeddings(source, run.encoder, folder, reporter.prepared)
        redrawn = cache.redrawn(small, lambda rows, e: recipes.redraw(pipeline, rows, e), embeddings, folder)
        test = len(small) // 20
        model = recipes.train(
            recipe,
            small[test:],
            redrawn[test:],
            large[test:],
            embeddings[test:],
            run.work,
            device=run.device,
            report=reporter.step,
        ).cpu()
    scores = {}
    for name, made in (
        ("Lanczos", recipes.lanczos(redrawn[:test])),
        ("learned", recipes.enlarge(model, redrawn[:test], embeddings[:test])),
        ("learned, embedding unknown", recipes.enlarge(model, redrawn[:test], np.zeros_like(embeddings[:test]))),
    ):
        scores[name] = {"psnr": recipes.psnr(made, large[:test])}
        print(name, scores[name])
    if scores["learned"]["psnr"] > scores["Lanczos"]["psnr"]:
        model.half().save_pretrained(run.output / "decoder" / "upsampler")
        leave(run, "upsampler", facts(recipe, reporter, run.device) | {"table": scores, "pictures": test})
    else:
        print("Lanczos is better: no upsampler is kept")


STAGES = {stage.__name__: stage for stage in (clip, judge, sketch, decoder, prior, upsampler)}


def everything(run: Run) -> None:
    """Every stage, one after the other."""
    for name, run_stage in STAGES.items():
        print(f"== {name}")
        run_stage(run)


if __name__ == "__main__":
    commands = {name: command(run_stage) for name, run_stage in STAGES.items()} | {"all": command(everything)}
    click.Group(help="Train the parts of the bundled model.", commands=commands)()
