"""The model card of the bundled model, written from the scores that each stage of training left behind."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

_HEAD = """# The bundled model `tiny`

A small DALL-E 2 for a small world: it comes with clipkit so that search works on a machine that cannot download
anything, and so that every part of clipkit can be tested as it is used. It knows scenes of drawn things, nothing else;
for photographs choose a real model.

## Data

Scenes of the emoji world ({things} things, {settings} settings, one or two things, placed), painted by
`clipkit/samples/painting.py` with captions from `clipkit/samples/world.py`. One tenth of the thing-setting pairs and
one tenth of the thing-thing pairs never occur in training; "held out" below means scenes with such a pair. All test
scenes were painted from seeds that training does not use.

The drawings are Noto Emoji, (c) Google, under the Apache License 2.0 (`world/LICENSE`), taken from its SVG sources and
rendered at 128 px (`scripts/make_sprites.py`). The weights are under clipkit's own licence.

"""


def hardware(device: str) -> str:
    """The machine in words, such as "CPU, x86_64, 1 of 2 cores"."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def write_scores(folder: Path, scores: dict) -> None:
    """Leaves `scores.json` beside the weights of a stage."""
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")


def write_card(bundled: Path) -> None:
    """Writes `README.md` into the folder of the bundled model from the `scores.json` of its parts."""
    from clipkit.samples.world import settings, things

    parts = [_HEAD.format(things=len(things()), settings=len(settings()))]
    clip = bundled / "clip" / "scores.json"
    if clip.exists():
        parts.append(_clip_section(json.loads(clip.read_text()), bundled / "clip" / "open_clip_model.safetensors"))
    decoder = bundled / "decoder"
    if (decoder / "scores.json").exists():
        parts.append(_decoder_section(json.loads((decoder / "scores.json").read_text()), decoder))
    if (decoder / "prior" / "scores.json").exists():
        parts.append(_prior_section(json.loads((decoder / "prior" / "scores.json").read_text())))
    if (decoder / "upsampler" / "scores.json").exists():
        parts.append(_upsampler_section(json.loads((decoder / "upsampler" / "scores.json").read_text())))
    if (bundled / "generation.md").exists():
        parts.append((bundled / "generation.md").read_text())
    (bundled / "README.md").write_text("".join(parts))


def _clip_section(s: dict, weights: Path) -> str:
    recipe, parts = s["recipe"], s["recipe"]["parts"]
    steps = sum(part["steps"] for part in parts)
    told = ",\n".join(
        f"{p['steps']} steps from {p['learning_rate']}, {p['twins']:.0%} of scenes beside a twin with swapped sides"
        for p in parts
    )
    rows = "\n".join(
        f"| {name} | {row['scenes']} | {row['recall@1']:.3f} | {row['recall@10']:.3f} |"
        for name, row in s["retrieval"].items()
    )
    return f"""## CLIP

`open_clip.CLIP`: ModifiedResNet image tower (layers {tuple(recipe["vision_layers"])},
width {recipe["vision_width"]}, {recipe["image_size"]} px), text tower of width {recipe["text_width"]} with
{recipe["text_layers"]} layers, embedding {recipe["embed_dim"]}; {weights.stat().st_size / 1e6:.1f} MB in fp16.
Of the token table only the {s["token_rows"]} rows that the world uses are stored; all other tokens share one row that
was trained to stand for "an unknown word".

Recipe: contrastive loss of open_clip, AdamW, {steps} steps of {recipe["batch"]} freshly painted scenes
({steps * recipe["batch"]:,} in all), in parts with warm-up and half a cosine each:
{told}.
The weights at the end of the first and of the last part are averaged, the last counting {recipe["last_share"]:.0%};
seed {recipe["seed"]}. `python scripts/train_bundled.py clip`. Took {s["seconds"]:,.0f} s on {s["hardware"]}.

Text-to-image retrieval among unseen scenes; a picture is right if it shows the caption's things in its setting:

| scenes | number | recall@1 | recall@10 |
|---|---|---|---|
{rows}

Which of two things is on the left is told right in {s["placement"]:.0%} of {s["placement_scenes"]} two-thing scenes
(the caption against the same caption with the sides swapped).

The match decision is calibrated on scenes of its own (`clipkit/training/matching.py`) and judged on others by
`scripts/evaluate_match.py`.

Limits: drawn scenes only; English words of its vocabulary only (other words are named in the result, change
its order little, and make a match unlikely); counts, sizes and colours mean nothing to it.

"""


def _decoder_section(s: dict, folder: Path) -> str:
    recipe, sketch = s["recipe"], s["sketch"]
    drawing = sketch["recipe"]
    size = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size / 1e6
    return f"""## Decoder

A stock `KandinskyV22Pipeline` around `clipkit.generation.sketch_unet.SketchUNet`, conditioned on the CLIP image
embedding; {size:.1f} MB in fp16. Latents are patches of pixels, without loss (`clipkit.generation.codec.PatchCodec`).

**Training scenes.** {s["pictures"]:,} scenes of the emoji world in calm poses: things upright, unmirrored, in five
places (the middle, or one of four sides) and two sizes. The library's scenes have free poses; CLIP saw every second
training scene in a free pose. A caption says where things are, or the picture has the usual arrangement: one thing in
the middle; of two, the one that the world lists first on the left.

**Sketch.** A perceptron (width {drawing["width"]}) names what is where, then draws it: a background, a foreground, and
the mask between them. AdamW, {drawing["steps"]:,} steps of {drawing["batch"]} pictures, pairs drawn
{drawing["crowded"]:g} times as often as single things, and {drawing["named"]} more embeddings that are only named, half
of these from {sketch["captions"]:,} captions without pictures; {drawing["from_text"]:.0%} of the embeddings are those
that ridge regression makes of a caption. {sketch["seconds"]:,.0f} s on {sketch["hardware"]}.
`python scripts/train_bundled.py sketch`.

**Diffusion.** diffusers' `UNet2DConditionModel`, channels {tuple(recipe["channels"])}, predicts what the sketch leaves
open (v-prediction, cosine schedule, preconditioned around the sketch); {recipe["unconditional"]:.0%} of the pictures
come without embedding, for classifier-free guidance. AdamW, {recipe["steps"]:,} steps of {recipe["batch"]}
({recipe["steps"] * recipe["batch"]:,} samples), exponential moving average {recipe["ema"]}; {s["seconds"]:,.0f} s on
{s["hardware"]}. `python scripts/train_bundled.py decoder`.
{s.get("remark", "")}
Limits: things appear in calm poses only, and vary little from seed to seed; the surroundings vary. Of two things that
look alike, or that the caption's embedding does not tell apart, one can be missing or wrong.

"""


def _prior_section(s: dict) -> str:
    def cells(row: dict) -> str:
        return (
            f"{row['seen']['object']:.3f} | {row['held out']['object']:.3f} | {row['pairs']['both']:.3f} | "
            f"{row['seen']['background']:.3f} | {row['seen']['cosine']:.3f} | {row['seconds']:,.0f}"
        )

    rows = "\n".join(f"| {name} | {cells(row)} |" for name, row in s["table"].items())
    return f"""## Prior

From text embeddings to image embeddings, compared by what the decoder makes of {s["pictures"]} captions each (the judge
is `scripts/judge.safetensors`); kept: {s["best"]}.
{s.get("remark", "")}
`python scripts/train_bundled.py prior`.

| prior | object, seen | object, held out | both of two | background | cosine to the true embedding | seconds |
|---|---|---|---|---|---|---|
{rows}

"""


def _upsampler_section(s: dict) -> str:
    rows = "\n".join(f"| {name} | {row['psnr']:.2f} |" for name, row in s["table"].items())
    recipe = s["recipe"]
    return f"""## Upsampler

`clipkit.generation.upsampler.Upsampler`, 64 px to 256 px, told by the embedding what the picture shows. Half of its
training pictures are the decoder's (true ones noised and denoised again), the others true ones, blurred and noisy.
{recipe["steps"]:,} steps of {recipe["batch"]}; {s["seconds"]:,.0f} s on {s["hardware"]}.
`python scripts/train_bundled.py upsampler`. On {s["pictures"]} unseen pictures of the decoder's:

| | PSNR, dB |
|---|---|
{rows}

"""
