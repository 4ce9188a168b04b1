"""Write a trained CLIP as a checkpoint folder that `clipkit.models` and open_clip load."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from open_clip import SimpleTokenizer
from open_clip.model import CLIP
from safetensors.torch import save_file

from clipkit.samples.captions import concepts, vocabulary
from clipkit.training.clip import UNKNOWN_TOKEN, ClipRecipe, known_tokens

MEAN = STD = (0.5, 0.5, 0.5)


def export(model: CLIP, recipe: ClipRecipe, folder: Path) -> int:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` (fp16); return the number of token rows.

    Only the trained rows of the token table are written, with their ids and the row shared by all unknown tokens;
    `clipkit.models.checkpoint` expands them to the full table when it loads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    table = state.pop("token_embedding.weight")
    known = torch.from_numpy(known_tokens(SimpleTokenizer()))
    state["token_embedding.ids"] = known.to(torch.int32)
    state["token_embedding.rows"] = table[known]
    state["token_embedding.unknown"] = table[UNKNOWN_TOKEN]
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {
        "model_cfg": recipe.model_config,
        "preprocess_cfg": {
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
        "clipkit": {"vocabulary": sorted(vocabulary()), "concepts": concepts(), "recipe": asdict(recipe)},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return len(known)


def add_to_config(folder: Path, **fields: object) -> None:
    """Update the `clipkit` section of an exported `open_clip_config.json`."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["clipkit"].update(fields)
    path.write_text(json.dumps(config, indent=1) + "\n")
