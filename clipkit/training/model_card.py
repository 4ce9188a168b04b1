"""Write the bundled model's card from the `scores.json` that each training stage leaves beside its weights."""

from __future__ import annotations

import json
import os
import platform
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

_HEAD = """# The bundled model `tiny`

A small DALL-E 2 for a small world. It ships with clipkit so that search works without a network, and so that every
part of clipkit can be tested end to end. It knows drawn scenes and nothing else; for photographs, choose a real model.

## Data

Scenes of the sample world: one or two of {things} things in one of {settings} settings, painted by
`clipkit/samples/painting.py` with captions from `clipkit/samples/captions.py`. A tenth of the thing-setting pairs and
of the thing-thing pairs never occur in training; "held out" below means scenes with such a pair. All test scenes are
painted from seeds that training does not use.

The sprites are Noto Emoji, (c) Google, under the Apache License 2.0 (`world/LICENSE`), rendered at 128 px from their
SVG sources by `scripts/make_sprites.py`. The weights are under clipkit's own licence.

"""


def hardware(device: str) -> str:
    """Describe the hardware, such as "CPU, x86_64, 1 of 2 cores"."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def write_scores(folder: Path, scores: dict) -> None:
    """Write `scores.json` beside the weights of a stage."""
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")


def write_card(bundled: Path) -> None:
    """Write `README.md` into the bundled model's folder, from the `scores.json` of its parts and `generation.md`."""
    from clipkit.samples.world import settings, things

    sections = [_HEAD.format(things=len(things()), settings=len(settings()))]
    describe: dict[str, Callable[[dict, Path], str]] = {
        "clip": _clip_section,
        "decoder": _decoder_section,
        "decoder/prior": _prior_section,
        "decoder/upsampler": _upsampler_section,
    }
    for name, section in describe.items():
        scores = bundled / name / "scores.json"
        if scores.exists():
            sections.append(section(json.loads(scores.read_text()), bundled / name))
    text = "".join(_wrapped(section) for section in sections)
    if (bundled / "generation.md").exists():
        text += (bundled / "generation.md").read_text()
    (bundled / "README.md").write_text(text)


def _wrapped(section: str) -> str:
    """Rewrap the paragraphs of a section, whose lines vary with the scores; leave headings, tables and lists alone."""
    blocks = []
    for block in section.strip().split("\n\n"):
        if not block.startswith(("#", "|", "- ")):
            code_kept_whole = re.sub(r"`[^`]+`", lambda code: re.sub(r"\s", "\0", code[0]), block)
            block = textwrap.fill(code_kept_whole, 120, break_on_hyphens=False).replace("\0", " ")
        blocks.append(block)
    return "\n\n".join(blocks) + "\n\n"


def _clip_section(s: dict, folder: Path) -> str:
    recipe, parts = s["recipe"], s["recipe"]["parts"]
    size = (folder / "open_clip_model.safetensors").stat().st_size / 1e6
    steps = sum(part["steps"] for part in parts)
    cycles = "\n".join(
        f"- {p['steps']} steps from {p['learning_rate']}, {p['twins']:.0%} of the scenes with a twin whose sides are "
        "swapped"
        for p in parts
    )
    rows = "\n".join(
        f"| {name} | {row['scenes']} | {row['recall@1']:.3f} | {row['recall@10']:.3f} |"
        for name, row in s["retrieval"].items()
    )
    return f"""## CLIP

`open_clip.CLIP`: ModifiedResNet image tower (layers {tuple(recipe["vision_layers"])},
width {recipe["vision_width"]}, {recipe["image_size"]} px), text tower of width {recipe["text_width"]} with
{recipe["text_layers"]} layers, embedding {recipe["embed_dim"]}; {size:.1f} MB in fp16.
Only the {s["token_rows"]} rows of the token table that the vocabulary uses are stored; all other tokens share one row,
trained to mean "an unknown word".

Recipe: open_clip's contrastive loss, AdamW, {steps} steps of {recipe["batch"]} freshly painted scenes
({steps * recipe["batch"]:,} in total), in parts with a warm-up and half a cosine each:

{cycles}

The weights at the end of the first and of the last part are averaged; the last has a weight of
{recipe["last_share"]:.0%}. Seed {recipe["seed"]}; `python scripts/train_bundled.py clip`; {s["seconds"]:,.0f} s on
{s["hardware"]}.

Text-to-image retrieval among unseen scenes; an image is relevant if it shows the caption's things in its setting:

| scenes | number | recall@1 | recall@10 |
|---|---|---|---|
{rows}

In {s["placement"]:.0%} of {s["placement_scenes"]} scenes of two things, the image is closer to its caption than to the
same caption with left and right swapped.

The match decision is calibrated on separate scenes (`clipkit/training/match_calibration.py`) and evaluated on others
by `scripts/evaluate_match.py`.

Limits: drawn scenes only; English words of its vocabulary only (other words are listed in the result, hardly change its
order, and make a match unlikely); no notion of counts, sizes or colours.

"""


def _decoder_section(s: dict, folder: Path) -> str:
    recipe, sketch = s["recipe"], s["sketch"]
    drawing = sketch["recipe"]
    size = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size / 1e6
    return f"""## Decoder

A stock `KandinskyV22Pipeline` around `clipkit.generation.sketch_unet.SketchUNet`, conditioned on the CLIP image
embedding; {size:.1f} MB in fp16. Latents are lossless pixel patches (`clipkit.generation.codec.PatchCodec`).

**Training data.** {s["pictures"]:,} scenes in canonical poses: things upright, unmirrored, in one of five positions
(the centre, or one of four sides) and two sizes. The photos of the sample library have random poses; so has every
other image whose embedding conditions the training. Captions say where things are; those that do not go with the
default arrangement: a single thing in the centre, and of two things the one that the world lists first on the left.

**Sketch.** An MLP (width {drawing["width"]}) classifies what is where, then draws it: a background, a foreground, and
the mask between them. AdamW, {drawing["steps"]:,} steps of {drawing["batch"]} images, pairs sampled
{drawing["crowded"]:g} times as often as single things, and {drawing["named"]} more embeddings for the classification
alone, half of them from {sketch["captions"]:,} captions without images; {drawing["from_text"]:.0%} of the embeddings
are predicted from a caption by ridge regression. {sketch["seconds"]:,.0f} s on {sketch["hardware"]}.
`python scripts/train_bundled.py sketch`.

**Diffusion.** diffusers' `UNet2DConditionModel`, channels {tuple(recipe["channels"])}, predicts the sketch's residual
(v-prediction, cosine schedule, preconditioned around the sketch); {recipe["unconditional"]:.0%} of the embeddings are
dropped, for classifier-free guidance. AdamW, {recipe["steps"]:,} steps of {recipe["batch"]}
({recipe["steps"] * recipe["batch"]:,} samples), exponential moving average {recipe["ema"]}; {s["seconds"]:,.0f} s on
{s["hardware"]}. `python scripts/train_bundled.py decoder`.
{s.get("remark", "")}
Limits: things appear in canonical poses only and vary little from seed to seed; backgrounds vary. Of two things that
look alike, or that the caption's embedding does not distinguish, one can be absent or wrong.

"""


def _prior_section(s: dict, folder: Path) -> str:
    def cells(row: dict) -> str:
        return (
            f"{row['seen']['object']:.3f} | {row['held out']['object']:.3f} | {row['pairs']['both']:.3f} | "
            f"{row['seen']['background']:.3f} | {row['seen']['cosine']:.3f} | {row['seconds']:,.0f}"
        )

    rows = "\n".join(f"| {name} | {cells(row)} |" for name, row in s["table"].items())
    return f"""## Prior

Predicts image embeddings from text embeddings. The candidates are compared by what the decoder generates from
{s["pictures"]} captions each, scored by `scripts/judge.safetensors`. Shipped: {s["best"]}.
{s.get("remark", "")}
`python scripts/train_bundled.py prior`.

| prior | object, seen | object, held out | both of two | background | cosine to the true embedding | seconds |
|---|---|---|---|---|---|---|
{rows}

"""


def _upsampler_section(s: dict, folder: Path) -> str:
    rows = "\n".join(f"| {name} | {row['psnr']:.2f} |" for name, row in s["table"].items())
    recipe = s["recipe"]
    return f"""## Upsampler

`clipkit.generation.upsampler.Upsampler`, 64 px to 256 px, conditioned on the image embedding. Half of its training
inputs are decoder outputs (true images, noised and denoised), the others true images with blur and noise.
{recipe["steps"]:,} steps of {recipe["batch"]}; {s["seconds"]:,.0f} s on {s["hardware"]}.
`python scripts/train_bundled.py upsampler`. On {s["pictures"]} unseen decoder outputs:

| | PSNR, dB |
|---|---|
{rows}

"""
