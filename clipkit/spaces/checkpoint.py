"""From files to an encoder: open_clip builds the model, whichever the space."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.errors import SpaceNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.spaces.encoder import OpenClipEncoder
from clipkit.spaces.registry import CONFIG, WEIGHTS, canonical_id, checkpoint_folder

if TYPE_CHECKING:
    import torch


def load(space: str, device: str) -> OpenClipEncoder:
    """Loads a space on `device` (cpu, cuda, mps); errors are those of open_clip, torch and the file system."""
    import open_clip

    folder = checkpoint_folder(space)
    own: dict = {}
    if folder:
        name = f"local-dir:{folder}"
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        own = config.get("clipkit", {})
        with _root_logger_quiet():  # it warns that the weights are random; ours come in the next line
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False, device=device)
        _load_weights(model, folder, config["model_cfg"]["text_cfg"].get("vocab_size", 0))
        details = {**_DEFAULTS, **config.get("preprocess_cfg", {})}
    else:
        name, _, tag = space.partition("/")
        if not tag or not open_clip.get_pretrained_cfg(name, tag):
            raise SpaceNotAvailable(
                f"there is no model {space!r}; `clipkit models list` names some, "
                "and any open_clip NAME/TAG or checkpoint folder will do"
            )
        with _root_logger_quiet():  # what goes wrong is raised as well
            model = open_clip.create_model(name, pretrained=tag, device=device, require_pretrained=True)
        details = {**_DEFAULTS, **open_clip.get_model_preprocess_cfg(model)}
    size = model.visual.image_size
    preprocessing = Preprocessing(
        size=size[0] if isinstance(size, tuple | list) else size,
        mean=tuple(details["mean"]),
        std=tuple(details["std"]),
        interpolation=details["interpolation"],
        resize_mode=details["resize_mode"],
        fill_color=details["fill_color"],
    )
    return OpenClipEncoder(
        canonical_id(space),
        model.eval(),
        open_clip.get_tokenizer(name),
        preprocessing,
        vocabulary=frozenset(own.get("vocabulary", ())),
        concepts=tuple(own.get("concepts", ())),
        match=own.get("match"),
    )


@contextmanager
def _root_logger_quiet() -> Iterator[None]:
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


_DEFAULTS = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""What OpenAI's models were trained with, and what open_clip takes where a configuration is silent."""


def _load_weights(model: torch.nn.Module, folder: Path, vocab_size: int) -> None:
    import open_clip
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise SpaceNotAvailable(f"{folder} has no {WEIGHTS}")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise SpaceNotAvailable(f"{path} cannot be loaded, it is torn or no safetensors file ({error})") from error
    if "token_embedding.rows" in state:
        model.load_state_dict(spread_token_rows(state, vocab_size))
    else:
        open_clip.load_checkpoint(model, str(path))


def spread_token_rows(state: dict[str, torch.Tensor], vocab_size: int) -> dict[str, torch.Tensor]:
    """Full token table from the rows that were trained, in float32.

    A model of a small world trains a few hundred of 49,408 tokens. `token_embedding.rows` (r, width) belong to
    `token_embedding.ids` (r,); every other token gets `token_embedding.unknown` (width,), so that all words outside
    the world are the one word that the model was taught to pass over.
    """
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows")
    table = state.pop("token_embedding.unknown").repeat(vocab_size, 1)
    table[ids.long()] = rows
    return {**state, "token_embedding.weight": table}
