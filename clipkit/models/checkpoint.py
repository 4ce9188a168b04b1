"""Building an open_clip model from files on disk. Nothing is downloaded."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.hub.locating import ModelFiles, config_of, locate, require_known
from clipkit.models.reference import ModelRef
from clipkit.models.torch_encoder import OpenClipEncoder

if TYPE_CHECKING:
    import torch


def load(model: ModelRef, device: str) -> OpenClipEncoder:
    """Load a model on `device`: cpu, cuda or mps.

    Raises ModelNotAvailable if it is unknown or not on this machine, and the errors of open_clip and torch.
    """
    require_known(model)
    return load_files(locate(model), device)


def load_files(files: ModelFiles, device: str) -> OpenClipEncoder:
    """Build the model of the files and load its weights.

    The activation (QuickGELU) and the preprocessing must be those of the training: from the folder's configuration, or
    from open_clip's table of pretrained weights. open_clip itself builds "ViT-L-14" with GELU and only warns that
    OpenAI's weights need QuickGELU.
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
    with _quiet():  # open_clip warns of random weights, which are replaced below
        model = open_clip.create_model(
            name, load_weights=False, pretrained_text=False, device=device, force_quick_gelu=quick_gelu, **overrides
        )
    _load_weights(model, files.weights, text.get("vocab_size", 0))
    return OpenClipEncoder(
        files.model,
        model.eval(),
        _tokenizer(name, text, files.tokenizer),
        preprocessing_of(model.visual.image_size, preprocess, files.model),
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


_PREPROCESSING_DEFAULTS: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""The preprocessing of OpenAI's models, which is also open_clip's default."""


def preprocessing_of(size: int | tuple[int, int], config: dict, model: str) -> Preprocessing:
    """Return the preprocessing of open_clip's settings `config` for images of `size`; what it omits is OpenAI's.

    Raises ModelNotAvailable if the images are not square.
    """
    settings = {**_PREPROCESSING_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if height != width:
        raise ModelNotAvailable(f"{model} takes images of {width} x {height} pixels; clipkit supports square ones only")
    # "random" applies to training; open_clip then uses bicubic everywhere else.
    interpolation = "bicubic" if settings["interpolation"] == "random" else settings["interpolation"]
    return Preprocessing(
        size=height,
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        interpolation=interpolation,
        resize_mode=settings["resize_mode"],
        fill_color=settings["fill_color"],
    )


def _tokenizer(name: str, text: dict, folder: Path | None) -> Callable[[list[str]], torch.Tensor]:
    """Return open_clip's own byte-pair encoding, or the tokenizer whose files are in the folder."""
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
            has_rows = "token_embedding.rows" in file.keys()  # noqa: SIM118  not a dict
    except SafetensorError as error:
        raise ModelNotAvailable(
            f"{path} cannot be loaded: it is truncated or not a safetensors file ({error}); "
            "`clipkit models pull` verifies downloaded files and replaces corrupt ones"
        ) from error
    if has_rows:
        model.load_state_dict(spread_token_rows(load_file(path), vocab_size))
    else:
        open_clip.load_checkpoint(model, str(path))


def spread_token_rows(state: dict[str, torch.Tensor], vocab_size: int) -> dict[str, torch.Tensor]:
    """Return a state dict in float32 with the full token table, expanded from the rows that were trained.

    The bundled model trains a few hundred of 49,408 tokens: `token_embedding.rows` (r, width) are the embeddings of
    `token_embedding.ids` (r,). Every other token gets `token_embedding.unknown` (width,), which the model was trained
    to ignore.
    """
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    ids, rows = state.pop("token_embedding.ids"), state.pop("token_embedding.rows")
    table = state.pop("token_embedding.unknown").repeat(vocab_size, 1)
    table[ids.long()] = rows
    return {**state, "token_embedding.weight": table}
