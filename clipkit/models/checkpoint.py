"""From files to an encoder: open_clip builds the model, whichever the space; nothing is fetched."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.encoder import OpenClipEncoder
from clipkit.models.hub.locating import ModelFiles, config_of, known_to_exist, locate, unknown

if TYPE_CHECKING:
    import torch


def load(space: str, device: str) -> OpenClipEncoder:
    """Loads a space on `device` (cpu, cuda, mps); raises ModelNotAvailable, and what open_clip and torch raise."""
    if not known_to_exist(space):
        raise ModelNotAvailable(unknown(space))
    return load_files(locate(space), device)


def load_files(files: ModelFiles, device: str) -> OpenClipEncoder:
    """Builds the model of the files and fills it.

    Activation (QuickGELU) and preprocessing are those that the weights were trained with: what the folder's
    configuration says, or open_clip's table of pretrained weights. The table must be asked for both, for open_clip
    itself builds "ViT-L-14" with GELU and only warns that OpenAI's weights want QuickGELU.
    """
    import open_clip

    own: dict = {}
    if files.folder:
        name, config, quick_gelu = f"local-dir:{files.folder}", config_of(files.folder), False
        model_cfg, preprocess, own = config["model_cfg"], config.get("preprocess_cfg", {}), config.get("clipkit", {})
    else:
        name, model_cfg = files.name, open_clip.get_model_config(files.name)
        preprocess = open_clip.get_pretrained_cfg(files.name, files.tag)
        quick_gelu = bool(preprocess.get("quick_gelu"))
    text = dict(model_cfg["text_cfg"])
    overrides = {}
    if files.text_model:
        overrides["text_cfg"] = {**text, "hf_model_name": str(files.text_model), "hf_model_pretrained": False}
    with _quiet():  # it warns that the weights are random; ours come in the next line
        model = open_clip.create_model(
            name, load_weights=False, pretrained_text=False, device=device, force_quick_gelu=quick_gelu, **overrides
        )
    _load_weights(model, files.weights, text.get("vocab_size", 0))
    return OpenClipEncoder(
        files.space,
        model.eval(),
        _tokenizer(name, text, files.tokenizer),
        _preprocessing(model.visual.image_size, preprocess, files.space),
        vocabulary=frozenset(own.get("vocabulary", ())),
        concepts=tuple(own.get("concepts", ())),
        match=own.get("match"),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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


def _preprocessing(size: int | tuple[int, int], config: dict, space: str) -> Preprocessing:
    details = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if height != width:
        raise ModelNotAvailable(
            f"{space} looks at pictures of {width} x {height} pixels; clipkit knows square ones only"
        )
    # "random" is for training: open_clip then takes bicubic for all else.
    interpolation = "bicubic" if details["interpolation"] == "random" else details["interpolation"]
    return Preprocessing(
        size=height,
        mean=tuple(details["mean"]),
        std=tuple(details["std"]),
        interpolation=interpolation,
        resize_mode=details["resize_mode"],
        fill_color=details["fill_color"],
    )


def _tokenizer(name: str, text: dict, folder: Path | None):
    """open_clip's own byte-pair encoding, or the tokenizer whose files lie in the folder."""
    import open_clip
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

    if not folder:
        return open_clip.get_tokenizer(name)
    return HFTokenizer(
        str(folder),
        context_length=text.get("context_length", DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )


def _load_weights(model: torch.nn.Module, path: Path, vocab_size: int) -> None:
    import open_clip
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt") as file:
            has_rows = "token_embedding.rows" in file.keys()  # noqa: SIM118  it is no dict
    except SafetensorError as error:
        raise ModelNotAvailable(
            f"{path} cannot be loaded, it is torn or no safetensors file ({error}); "
            "`clipkit models pull` checks what it downloaded, and fetches it anew"
        ) from error
    if has_rows:
        model.load_state_dict(spread_token_rows(load_file(path), vocab_size))
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
