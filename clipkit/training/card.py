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
`clipkit/training/painting.py` with captions from `clipkit/training/world.py`. One tenth of the thing-setting pairs and
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
    from clipkit.training.world import settings, things

    parts = [_HEAD.format(things=len(things()), settings=len(settings()))]
    clip = bundled / "clip" / "scores.json"
    if clip.exists():
        parts.append(_clip_section(json.loads(clip.read_text()), bundled / "clip" / "open_clip_model.safetensors"))
    decoder = bundled / "decoder"
    if (decoder / "scores.json").exists():
        parts.append(_decoder_sections(json.loads((decoder / "scores.json").read_text()), decoder))
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


def _decoder_sections(s: dict, folder: Path) -> str:
    recipe, codec = s["recipe"], s.get("codec")
    past = s.get("earlier")
    earlier = (
        f"It began with the weights of {past['steps']:,} earlier steps ({past['seconds']:,.0f} s).\n" if past else ""
    )
    size = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size / 1e6
    text = ""
    if codec:
        r = codec["recipe"]
        text += f"""## Codec

`clipkit.generation.codec.PatchCodec`: {r["size"]} px to latents of {r["size"] // 8} x {r["size"] // 8} with
{r["latent_channels"]} channels and back, from the principal components of 8 x 8 patches onward. AdamW,
{r["steps"]} steps of {r["batch"]} scenes, mean squared error; {codec["seconds"]:,.0f} s on {codec["hardware"]}.
{codec["psnr"]:.2f} dB on {codec["pictures"]:,} unseen scenes. `python scripts/train_bundled.py codec`.

"""
    return (
        text
        + f"""## Decoder

diffusers' `UNet2DConditionModel` in a stock `KandinskyV22Pipeline`: channels {tuple(recipe["channels"])}, conditioned
on the CLIP image embedding, {size:.1f} MB in fp16. v-prediction, weights of SNR + 1 clipped at {recipe["snr_clip"]:g},
{recipe["unconditional"]:.0%} without embedding for classifier-free guidance, {recipe["from_text"]:.0%} with the
embedding that ridge regression makes of the caption; pictures of several things are drawn {recipe["crowded"]:g} times
as often as others. AdamW, {recipe["steps"]:,} steps of {recipe["batch"]} from {s["pictures"]:,} scenes whose latents
and embeddings were computed once, exponential moving average {recipe["ema"]}; {s["seconds"]:,.0f} s on
{s["hardware"]}. {earlier}`python scripts/train_bundled.py decoder`.

Limits: settings come out well. Some things can be told by a person, others are patches of their colours that the judge
below still names, so its scores flatter; of two things one is often a patch.

"""
    )


def _prior_section(s: dict) -> str:
    def cells(row: dict) -> str:
        return (
            f"{row['seen']['object']:.3f} | {row['held out']['object']:.3f} | {row['pairs']['both']:.3f} | "
            f"{row['seen']['background']:.3f} | {row['seen']['cosine']:.3f} | {row['seconds']:,.0f}"
        )

    rows = "\n".join(f"| {name} | {cells(row)} |" for name, row in s["table"].items())
    return f"""## Prior

From text embeddings to image embeddings, compared by what the decoder, after {s["decoder_steps"]:,} steps, makes of
{s["pictures"]} captions each (the judge is `scripts/judge.safetensors`); kept: {s["best"]}.
`python scripts/train_bundled.py prior`.

| prior | object, seen | object, held out | both of two | background | cosine to the true embedding | seconds |
|---|---|---|---|---|---|---|
{rows}

"""


def _upsampler_section(s: dict) -> str:
    rows = "\n".join(
        f"| {name} | {row['psnr']:.2f} | {row['object']:.3f} | {row['background']:.3f} |"
        for name, row in s["table"].items()
    )
    return f"""## Upsampler

`clipkit.generation.upsampler.Upsampler`, 64 px to 256 px, on {s["pictures"]} unseen scenes through the codec;
{s["seconds"]:,.0f} s on {s["hardware"]}. `python scripts/train_bundled.py upsampler`.

| | PSNR, dB | object | background |
|---|---|---|---|
{rows}

"""
