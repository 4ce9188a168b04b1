"""Locating a model's files on disk: bundled, imported, in a checkpoint folder, or in the hub's cache.

open_clip would download missing files without asking, so clipkit locates all files itself and passes their paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from clipkit.errors import ModelNotAvailable
from clipkit.models.hub.cache import is_offline, snapshot
from clipkit.models.reference import ModelRef
from clipkit.models.registry import CONFIG, HUB_PREFIX, WEIGHTS, recommended

SAFE_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
PICKLES = ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "pytorch_model.bin", "pytorch_model.pth")
PICKLE_SUFFIXES = (".bin", ".pth", ".pt", ".ckpt")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
TEXT_CONFIG = "config.json"


@dataclass(frozen=True)
class ModelFiles:
    """The files that a model is loaded from.

    model: canonical id.
    folder: holds open_clip's configuration; None if open_clip knows the architecture `name` and the `tag` itself.
    tokenizer: folder of the tokenizer's files; None for open_clip's own.
    text_model: folder of the configuration of a transformers text tower, or None.
    """

    model: str
    weights: Path
    folder: Path | None = None
    name: str = ""
    tag: str = ""
    tokenizer: Path | None = None
    text_model: Path | None = None


def models_folder() -> Path:
    """Return the folder of imported models: $CLIPKIT_MODELS, else below the user's data folder."""
    import platformdirs

    chosen = os.environ.get("CLIPKIT_MODELS")
    folder = Path(chosen) if chosen else Path(platformdirs.user_data_dir("clipkit", appauthor=False)) / "models"
    return folder.expanduser().absolute()


def imported_folder(model_id: str) -> Path:
    """Return the folder of an imported model, which need not exist."""
    return models_folder() / quote(model_id, safe="-_.")


def config_of(folder: Path) -> dict:
    """Read the configuration of a checkpoint folder. Raises ModelNotAvailable if it is not valid."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        if not isinstance(config["model_cfg"]["text_cfg"], dict):
            raise TypeError("text_cfg is not a table")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotAvailable(f"{folder / CONFIG} is not a valid open_clip configuration ({error!r})") from error
    return config


def find_weights(folder: Path, names: Iterable[str] = SAFE_WEIGHTS) -> Path | None:
    """Return the safetensors file of a folder, preferring the given names; None if there is none or no clear choice."""
    preferred = next((folder / name for name in names if (folder / name).is_file()), None)
    others = sorted(folder.glob("*.safetensors"))
    return preferred or (others[0] if len(others) == 1 else None)


def find_pickle(folder: Path) -> Path | None:
    """Return the pickled weights in a folder, or None."""
    return next((folder / name for name in PICKLES if (folder / name).is_file()), None)


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder contains the files of a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def locate(model: ModelRef) -> ModelFiles:
    """Locate the files of a model. Raises ModelNotAvailable, with what to do, if one is not on disk."""
    imported = imported_folder(model.id)
    if folder := model.folder or (imported if (imported / CONFIG).is_file() else None):
        return files_in(model.id, folder)
    if model.id.startswith(HUB_PREFIX):
        cached = snapshot(model.id.removeprefix(HUB_PREFIX))
        if not cached or not (cached / CONFIG).is_file() or not (find_weights(cached) or find_pickle(cached)):
            raise ModelNotAvailable(_not_here(model))
        return files_in(model.id, cached, hub_first=True)
    source = hub_source(model)
    cached = snapshot(source.repository)
    weights = cached and next((cached / n for n in safe_names(source.file) if (cached / n).is_file()), None)
    if not weights:
        if cached and any((cached / n).is_file() for n in (source.file, *PICKLES)):
            raise ModelNotAvailable(pickle_refused(model.id))
        raise ModelNotAvailable(_not_here(model))
    tokenizer, text_model = _text_files(model.id, source.text_cfg, None)
    return ModelFiles(model.id, weights, None, source.name, source.tag, tokenizer, text_model)


def on_disk(model: ModelRef) -> bool:
    """Return whether a model can be loaded without a download. Raises ModelNotAvailable if it is unknown."""
    require_known(model)
    return is_here(model)


def is_here(model: ModelRef) -> bool:
    """Return whether a model can be loaded without a download; False also for unknown models."""
    try:
        locate(model)
    except ModelNotAvailable:
        return False
    return True


def default_model() -> ModelRef:
    """Return the model for a library that names none: the recommended one.

    Raises ModelNotAvailable if it is not on disk. `tiny` is never a fallback: it does not know photographs.
    """
    model = ModelRef.of(recommended().id)
    if not on_disk(model):
        raise ModelNotAvailable(
            f"no model is named, and the recommended one, {model.id}, is not on this machine: run "
            f"`clipkit models pull` to download it ({recommended().megabytes:,} MB), or name another; --model tiny is "
            "bundled with clipkit, but knows drawn scenes, not photographs"
        )
    return model


def require_known(model: ModelRef) -> None:
    """Raise ModelNotAvailable for a model that has no entry, folder or import and is not in open_clip's table."""
    if model.entry or model.folder or (imported_folder(model.id) / CONFIG).is_file():
        return
    if not model.id.startswith(HUB_PREFIX):
        open_clip_source(model.id)
    elif model.id.count("/") != 1:
        raise ModelNotAvailable(_unknown(model.id))


# --- models of the hub ---


@dataclass(frozen=True)
class HubSource:
    """Where open_clip's architecture `name` with the weights `tag` is on the hub.

    file: name of the weights in the repository.
    text_cfg: names a repository as `hf_tokenizer_name` or `hf_model_name` if the text tower needs one.
    """

    name: str
    tag: str
    repository: str
    file: str
    text_cfg: dict


def hub_source(model: ModelRef) -> HubSource:
    """Look up a "NAME/TAG" in the registry, or else in open_clip. Raises ModelNotAvailable if it is unknown."""
    known = model.entry
    if not known:
        return open_clip_source(model.id)
    text_cfg = {"hf_tokenizer_name": known.tokenizer, "hf_model_name": known.text_model}
    return HubSource(known.open_clip_name, known.tag, known.hub, known.file, text_cfg)


def open_clip_source(model_id: str) -> HubSource:
    """Look up a "NAME/TAG" in open_clip's own table. Raises ModelNotAvailable if it is unknown."""
    name, _, tag = model_id.partition("/")
    if not name or not tag or "/" in tag:
        raise ModelNotAvailable(_unknown(model_id))
    import open_clip

    config, details = open_clip.get_model_config(name), open_clip.get_pretrained_cfg(name, tag)
    if not config or not details:
        raise ModelNotAvailable(_unknown(model_id))
    repository, _, file = details.get("hf_hub", "").rpartition("/")
    return HubSource(name, tag, repository, file or WEIGHTS, config["text_cfg"])


def safe_names(file: str) -> tuple[str, ...]:
    """Return the names that safetensors can have in a repository whose weights are listed as `file`."""
    stem = file.removesuffix(Path(file).suffix)
    return tuple(dict.fromkeys((*SAFE_WEIGHTS[:2], f"{stem}.safetensors")))


# --- checkpoint folders ---


def files_in(model_id: str, folder: Path, *, hub_first: bool = False) -> ModelFiles:
    """Locate the files of a model in a checkpoint folder. Raises ModelNotAvailable if one is missing.

    hub_first: prefer the tokenizer that the configuration names to the folder's own, as open_clip does for "hf-hub:".
    """
    weights = find_weights(folder)
    if not weights:
        if find_pickle(folder):
            raise ModelNotAvailable(pickle_refused(model_id, folder))
        raise ModelNotAvailable(f"{folder} has no {WEIGHTS}")
    text = config_of(folder)["model_cfg"]["text_cfg"]
    tokenizer, text_model = _text_files(model_id, text, folder, hub_first=hub_first)
    return ModelFiles(model_id, weights, folder, tokenizer=tokenizer, text_model=text_model)


def _text_files(
    model_id: str, text: dict, folder: Path | None, *, hub_first: bool = False
) -> tuple[Path | None, Path | None]:
    """Return the folders of the tokenizer and of the text tower's configuration, None where open_clip has its own."""
    tokenizer = text_model = None
    if wanted := text.get("hf_tokenizer_name"):
        cached = snapshot(wanted)
        order = (cached, folder) if hub_first else (folder, cached)
        tokenizer = next((path for path in order if path and has_tokenizer(path)), None)
        if not tokenizer:
            raise ModelNotAvailable(_part_missing(model_id, "tokenizer", wanted, folder))
    if wanted := text.get("hf_model_name"):
        places = (folder and folder / "text_model", snapshot(wanted))
        text_model = next((path for path in places if path and (path / TEXT_CONFIG).is_file()), None)
        if not text_model:
            raise ModelNotAvailable(_part_missing(model_id, "configuration of the text tower", wanted, folder))
    return tokenizer, text_model


# --- messages ---


def _unknown(model_id: str) -> str:
    return (
        f"there is no model {model_id!r}; choose one of `clipkit models list`, or name any open_clip NAME/TAG, "
        "hf-hub:OWNER/REPOSITORY or checkpoint folder"
    )


def _not_here(model: ModelRef) -> str:
    size = f" ({model.entry.megabytes:,} MB)" if model.entry else ""
    if is_offline():
        return (
            f"the model {model.id} is not on this machine, and HF_HUB_OFFLINE forbids downloading it{size}: "
            f"{offline_alternatives(model.id)}"
        )
    return f"the model {model.id} is not on this machine; run `clipkit models pull {model.id}` to download it{size}"


def offline_alternatives(model_id: str) -> str:
    """Return what a user can do without a network, as part of a sentence."""
    return (
        "copy its files from another machine and run "
        f"`clipkit models import PATH --as {model_id}`, or use --model tiny, which is bundled with clipkit"
    )


def pickle_refused(model_id: str, path: Path | None = None) -> str:
    """Return the message for pickled weights, in a local file or folder `path` or on the hub."""
    command = f"import {path} --as NAME" if path else f"pull {model_id}"
    return (
        f"the weights of {model_id} are a pickle, which can run code when it is loaded; if you trust them, "
        f"`clipkit models {command} --allow-pickle` converts them to safetensors"
    )


def _part_missing(model_id: str, part: str, repository: str, folder: Path | None) -> str:
    if folder:
        advice = f"copy the files of {repository} into {folder}"
    else:
        advice = f"run `clipkit models pull {model_id}` to download it"
    return f"the {part} of {model_id} ({repository}) is not on this machine: {advice}"
