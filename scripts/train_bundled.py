"""Train the bundled model. Interrupted runs resume; the result is written to clipkit/bundled/.

    python scripts/train_bundled.py all [--quick]
    python scripts/train_bundled.py clip | judge | sketch | decoder | prior | upsampler

`--quick` runs every stage in a minute or two and produces a loadable but poor model, for tests. The stages after `clip`
can train on your own images: `--data FOLDER`, with captions in `metadata.jsonl` or in a text file beside each image.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import numpy as np
from training_run import HERE, SIZE, Reporter, Run, command, provenance, record

if TYPE_CHECKING:
    from clipkit.generation.sketch_unet import SketchUNet

UNDERTRAINED = HERE / "undertrained.webp"
"""Outputs of an undertrained decoder, 64 px each: negatives for the judge."""
GUIDANCE, TEMPERATURE = 1.0, 0.6


def clip(run: Run) -> None:
    """Train the image and text towers."""
    import torch

    from clipkit.models.loading import load_torch_encoder
    from clipkit.models.onnx.shipped import write_graphs
    from clipkit.training import model_card
    from clipkit.training.clip import ClipRecipe, Part, evaluate, placement_accuracy, train
    from clipkit.training.clip_export import add_to_config, export
    from clipkit.training.match_calibration import SIZES, calibrate

    quick, device = run.quick, run.device
    recipe = ClipRecipe()
    if quick:
        parts = Part(8, 1e-3, 0.15), Part(4, 4e-4, 1.0)
        recipe = ClipRecipe(parts=parts, batch=32, vision_width=16, text_width=64, text_layers=1)
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
        "hardware": model_card.hardware(device),
        "retrieval": retrieval,
        "placement": placement_accuracy(model, recipe, count=count, seed=103, device=device),
        "placement_scenes": count,
    }
    model_card.write_scores(folder, scores)
    model_card.write_card(run.output)
    for name, row in retrieval.items():
        print(f"{name}: recall@1 {row['recall@1']:.3f}, recall@10 {row['recall@10']:.3f} over {count} scenes")
    print(f"left and right distinguished: {scores['placement']:.3f}")


def judge(run: Run) -> None:
    """Train the classifier that scores generated scenes.

    It does not ship with the package.
    """
    from PIL import Image

    from clipkit.training import judge as judging
    from clipkit.training.scoring import evaluation_scenes, paint_scenes, paint_scrambled_scenes, score_images

    recipe = run.adapt(judging.JudgeRecipe(), steps=6, batch=16)
    sheet = np.asarray(Image.open(UNDERTRAINED).convert("RGB"))
    undertrained = sheet.reshape(-1, SIZE, sheet.shape[1] // SIZE, SIZE, 3).swapaxes(1, 2).reshape(-1, SIZE, SIZE, 3)
    with Reporter("judge") as reporter:
        model = judging.train(
            recipe, run.work, undertrained=undertrained, device=run.device, report=reporter.step
        ).cpu()
    judging.save(model, run.judge)
    count = 20 if run.quick else 1000
    for things in (1, 2):
        scenes = evaluation_scenes(count, things=things, held_out=False, seed=1)
        print(f"{things} thing(s):", score_images(model, paint_scenes(scenes), scenes))
    print(
        f"scrambled, classified as nothing: {model.predict(paint_scrambled_scenes(count, seed=1)).nothing.mean():.3f}"
    )


def sketch(run: Run) -> None:
    """Train the regression from an image embedding to a small image."""
    from safetensors.torch import save_file

    from clipkit.training import sketch as recipes

    recipe = run.adapt(recipes.SketchRecipe(), steps=12, batch=16, width=64, features=8)
    images, conditions, parts = run.training_data()
    extra = run.extra_captions()
    with Reporter("sketch", run.work / "sketch.jsonl") as reporter:
        model = recipes.train(
            recipe,
            images,
            conditions,
            parts,
            run.source.part_groups,
            run.work,
            extra=extra,
            device=run.device,
            report=reporter.step,
        ).cpu()
    save_file(model.state_dict(), run.work / "sketch.safetensors")
    counts = {"pictures": len(images), "captions": len(extra[0]) if extra else 0}
    scores = provenance(recipe, reporter, run.device) | counts
    (run.work / "sketch.json").write_text(json.dumps(scores))


def decoder(run: Run) -> None:
    """Train the diffusion from embedding and sketch to an image."""
    import torch
    from safetensors.torch import load_file

    from clipkit.training import decoder as recipes
    from clipkit.training import scoring
    from clipkit.training.judge import load as load_judge
    from clipkit.training.sketch import SketchRecipe

    recipe = run.adapt(recipes.DecoderRecipe(), steps=12, batch=16, channels=(32, 32))
    images, conditions, parts = run.training_data()
    sketch_scores = json.loads((run.work / "sketch.json").read_text())
    embedding_dim = conditions.of_images.shape[1]
    sketch_model = SketchRecipe(**sketch_scores["recipe"]).build(embedding_dim, SIZE, run.source.part_groups)
    sketch_model.load_state_dict(load_file(run.work / "sketch.safetensors"))
    linear = run.linear_prior
    count = 16 if run.quick else 48
    scenes = [s for things in (1, 2) for s in scoring.evaluation_scenes(count, things=things, held_out=False, seed=2)]
    texts = torch.from_numpy(run.encoder.encode_texts(scoring.evaluation_captions(scenes)))
    judge_model = load_judge(run.judge) if run.judge.exists() else None

    def evaluate(unet: SketchUNet) -> dict:
        """Score images generated from text, and save some of them as a grid."""
        generated = scoring.sample(recipes.build_pipeline(unet, recipe), linear.predict(texts), range(len(scenes)))
        scoring.image_grid(generated[[*range(16), *range(count, count + 16)]], 8).save(run.work / "decoder-samples.png")
        if judge_model is None:
            return {}
        single = scoring.score_images(judge_model, generated[:count], scenes[:count])
        pairs = scoring.score_images(judge_model, generated[count:], scenes[count:])
        return single | {"both": pairs["both"], "placed": pairs["placed"]}

    with Reporter("decoder", run.work / "decoder.jsonl") as reporter:
        unet = recipes.train(
            recipe,
            sketch_model,
            images,
            conditions,
            run.work,
            parts=parts,
            device=run.device,
            report=reporter.step,
            evaluate=evaluate,
        )
    folder = run.output / "decoder"
    recipes.build_pipeline(unet, recipe).to(dtype=torch.float16).save_pretrained(folder)
    config = {
        "space": run.model or "tiny",
        "size": 4 * SIZE,
        "native": SIZE,
        "steps": 20,
        "guidance": GUIDANCE,
        "temperature": TEMPERATURE,
    }
    (folder / "clipkit.json").write_text(json.dumps(config, indent=1) + "\n")
    record(run, "", provenance(recipe, reporter, run.device) | {"pictures": len(images), "sketch": sketch_scores})


def prior(run: Run) -> None:
    """Train three priors and keep the best.

    They are compared by what the decoder generates from their embeddings.
    """
    import torch

    from clipkit.generation.prior import DiffusionPrior
    from clipkit.training import prior as recipes
    from clipkit.training import scoring
    from clipkit.training.decoder import load_pipeline
    from clipkit.training.judge import load as load_judge

    image, text = run.embeddings()
    text = text[:, 0]
    mlp_recipe = run.adapt(recipes.MlpPriorRecipe(), steps=20, batch=32)
    diffusion_recipe = run.adapt(recipes.DiffusionPriorRecipe(), steps=20, batch=32, layers=1)
    with Reporter("MLP prior") as mlp_reporter:
        mlp = recipes.train_mlp(mlp_recipe, text, image, run.work, device=run.device, report=mlp_reporter.step).cpu()
    with Reporter("diffusion prior") as transformer_reporter:
        transformer = recipes.train_diffusion(
            diffusion_recipe, text, image, run.work, device=run.device, report=transformer_reporter.step
        ).cpu()
    priors = {
        "ridge regression": (run.linear_prior, "closed form", 0.0),
        "MLP": (mlp, asdict(mlp_recipe), mlp_reporter.last["seconds"]),
        "diffusion prior": (
            DiffusionPrior(transformer),
            asdict(diffusion_recipe),
            transformer_reporter.last["seconds"],
        ),
    }
    pipeline = load_pipeline(run.output / "decoder").to(run.device)
    judge_model, count = load_judge(run.judge), 4 if run.quick else 160
    encoder = run.encoder
    table: dict[str, dict] = {}
    for name, (candidate, recipe, seconds) in priors.items():
        row: dict = {"recipe": recipe, "seconds": seconds}
        for title, things, held_out in (("seen", 1, False), ("held out", 1, True), ("pairs", 2, False)):
            scenes = scoring.evaluation_scenes(count, things=things, held_out=held_out, seed=3)
            texts = encoder.encode_texts(scoring.evaluation_captions(scenes))
            guess = candidate.predict(torch.from_numpy(texts), torch.Generator().manual_seed(0))
            images = scoring.sample(pipeline, guess, range(count))
            row[title] = scoring.score_images(judge_model, images, scenes)
            true = encoder.encode_images(scoring.paint_scenes(scenes))
            row[title]["cosine"] = recipes.mean_cosine(candidate, texts, true)
        row["score"] = float(np.mean([row["seen"]["object"], row["held out"]["object"], row["pairs"]["both"]]))
        table[name] = row
        print(name, json.dumps({k: v for k, v in row.items() if k != "recipe"}))
    best = max(table, key=lambda name: table[name]["score"])
    winner = priors[best][0]
    model = winner.model if isinstance(winner, DiffusionPrior) else winner
    model.half().save_pretrained(run.output / "decoder" / "prior")
    record(run, "prior", {"table": table, "best": best, "pictures": count})
    print("kept:", best)


def upsampler(run: Run) -> None:
    """Train the upsampler from 64 px to 256 px.

    It is saved if its PSNR beats Lanczos resampling.
    """
    from clipkit.training import precomputed
    from clipkit.training import upsampler as recipes
    from clipkit.training.data_sources import CanonicalScenes
    from clipkit.training.decoder import load_pipeline

    recipe = run.adapt(recipes.UpsamplerRecipe(), steps=10, batch=4, width=16, middle=32)
    source = run.source if run.data or run.quick else CanonicalScenes(2600, seed=11)
    folder = run.work / "upsampler-data"
    pipeline = load_pipeline(run.output / "decoder").to(run.device)
    with Reporter("upsampler") as reporter:
        large = precomputed.images(source, folder, SIZE * recipe.factor, reporter.prepared)
        small = precomputed.images(source, folder, SIZE, reporter.prepared)
        embeddings = precomputed.image_embeddings(source, run.encoder, folder, reporter.prepared)
        decoded = precomputed.ArrayCache(folder, len(small)).load_or_compute(
            "redrawn", lambda i, j: recipes.sdedit(pipeline, small[i:j], embeddings[i:j]), reporter.prepared
        )
        test = len(small) // 20
        model = recipes.train(
            recipe,
            small[test:],
            decoded[test:],
            large[test:],
            embeddings[test:],
            run.work,
            device=run.device,
            report=reporter.step,
        ).cpu()
    scores = {}
    for name, generated in (
        ("Lanczos", recipes.upsample_lanczos(decoded[:test])),
        ("learned", recipes.upsample(model, decoded[:test], embeddings[:test])),
        ("learned, embedding unknown", recipes.upsample(model, decoded[:test], np.zeros_like(embeddings[:test]))),
    ):
        scores[name] = {"psnr": recipes.psnr(generated, large[:test])}
        print(name, scores[name])
    if scores["learned"]["psnr"] > scores["Lanczos"]["psnr"]:
        model.half().save_pretrained(run.output / "decoder" / "upsampler")
        record(run, "upsampler", provenance(recipe, reporter, run.device) | {"table": scores, "pictures": test})
    else:
        print("Lanczos is better; the upsampler is not saved")


STAGES = {stage.__name__: stage for stage in (clip, judge, sketch, decoder, prior, upsampler)}


def everything(run: Run) -> None:
    """Run every stage in order."""
    for name, run_stage in STAGES.items():
        print(f"== {name}")
        run_stage(run)


if __name__ == "__main__":
    commands = {name: command(run_stage) for name, run_stage in STAGES.items()} | {"all": command(everything)}
    click.Group(help="Train the parts of the bundled model.", commands=commands)()
