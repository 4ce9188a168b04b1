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
`scripts/evaluate_match.py`. It wants a thing to be named: of a setting alone ("at night") it mostly says that nothing
matches, though the pictures found are right.

Limits: drawn scenes only; English words of its vocabulary only (other words are named in the result, and change it
little); counts, sizes and colours mean nothing to it.

"""
