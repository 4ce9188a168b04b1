"""The files of a space on this disk: bundled, imported, named by their folder, or in the hub's cache.

open_clip would fetch what it lacks without asking. So clipkit finds the files itself and hands it their paths.
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
from clipkit.models.registry import CONFIG, HUB_PREFIX, WEIGHTS, canonical_id, checkpoint_folder, entry, recommended

SAFE_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.safetensors", "model.safetensors")
PICKLES = ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "pytorch_model.bin", "pytorch_model.pth")
PICKLE_SUFFIXES = (".bin", ".pth", ".pt", ".ckpt")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
TEXT_CONFIG = "config.json"


@dataclass(frozen=True)
class ModelFiles:
    """What a space is loaded from.

    `folder` holds open_clip's configuration file; None where open_clip knows the architecture `name` and the `tag`
    itself. `tokenizer` and `text_model` are folders of a tokenizer's files and of a transformers text tower's
    configuration, for the architectures that have them.
    """

    space: str
    weights: Path
    folder: Path | None = None
    name: str = ""
    tag: str = ""
    tokenizer: Path | None = None
    text_model: Path | None = None


def models_folder() -> Path:
    """Where `clipkit models import` keeps models: $CLIPKIT_MODELS, else below the user's data folder."""
    import platformdirs

    chosen = os.environ.get("CLIPKIT_MODELS")
    folder = Path(chosen) if chosen else Path(platformdirs.user_data_dir("clipkit", appauthor=False)) / "models"
    return folder.expanduser().absolute()


def imported_folder(space: str) -> Path:
    """Where an imported space lies; it need not be there."""
    return models_folder() / quote(space, safe="-_.")


def config_of(folder: Path) -> dict:
    """A checkpoint folder's configuration; raises ModelNotAvailable if it makes no sense."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        if not isinstance(config["model_cfg"]["text_cfg"], dict):
            raise TypeError("its text_cfg is no table")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotAvailable(f"{folder / CONFIG} is no configuration of open_clip ({error!r})") from error
    return config


def find_weights(folder: Path, names: Iterable[str] = SAFE_WEIGHTS) -> Path | None:
    """The safetensors file of a folder, of the given names before any other; None if it has none, or several others."""
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    others = sorted(folder.glob("*.safetensors"))
    return found or (others[0] if len(others) == 1 else None)


def find_pickle(folder: Path) -> Path | None:
    """A folder's pickled weights, or None."""
    return next((folder / name for name in PICKLES if (folder / name).is_file()), None)


def has_tokenizer(folder: Path | None) -> bool:
    """Whether a folder holds a tokenizer of its own."""
    return bool(folder) and any((folder / name).is_file() for name in TOKENIZER_FILES)  # type: ignore[operator]


def locate(space: str) -> ModelFiles:
    """Where the files of a space lie. Raises ModelNotAvailable, with what to do, if there is none or one is missing."""
    space = canonical_id(space)
    known = entry(space)
    imported = imported_folder(space)
    folder = checkpoint_folder(space) or (imported if (imported / CONFIG).is_file() else None)
    if folder:
        return files_in(space, folder)
    if space.startswith(HUB_PREFIX):
        cached = snapshot(space.removeprefix(HUB_PREFIX))
        if not cached or not (cached / CONFIG).is_file() or not (find_weights(cached) or find_pickle(cached)):
            raise ModelNotAvailable(not_here(space))
        return files_in(space, cached, hub_first=True)
    if known:
        name, tag, repository, file = known.open_clip_name, known.tag, known.hub, known.file
        text = {"hf_tokenizer_name": known.tokenizer, "hf_model_name": known.text_model}
    else:
        name, tag, repository, file, text = open_clip_entry(space)
    cached = snapshot(repository)
    weights = cached and next((cached / n for n in safe_names(file) if (cached / n).is_file()), None)
    if not weights:
        if cached and any((cached / n).is_file() for n in (file, *PICKLES)):
            raise ModelNotAvailable(pickle_refused(space))
        raise ModelNotAvailable(not_here(space))
    tokenizer, text_model = _text_files(space, text, None)
    return ModelFiles(space, weights, None, name, tag, tokenizer, text_model)


def on_disk(space: str) -> bool:
    """Whether a space can be loaded without a download. Raises ModelNotAvailable for one that does not exist."""
    if not known_to_exist(space):
        raise ModelNotAvailable(unknown(space))
    return is_here(space)


def is_here(space: str) -> bool:
    """As `on_disk`, but False for a space that does not exist."""
    try:
        locate(space)
    except ModelNotAvailable:
        return False
    return True


def default_space() -> str:
    """The space of a library that names none: the recommended one, if it is on this disk.

    Raises ModelNotAvailable with both ways on if it is not; never falls back to `tiny`, which knows no photographs.
    """
    space = recommended().id
    if not on_disk(space):
        raise ModelNotAvailable(
            f"no model is named, and the recommended one, {space}, is not on this machine: `clipkit models pull` "
            f"downloads it ({recommended().megabytes:,} MB), or name another; --model tiny comes with clipkit, but "
            "knows drawn scenes, not photographs"
        )
    return space


def known_to_exist(space: str) -> bool:
    """False for an id that names nothing: no entry, folder, imported model or tag of open_clip."""
    space = canonical_id(space)
    if entry(space) or checkpoint_folder(space) or (imported_folder(space) / CONFIG).is_file():
        return True
    if space.startswith(HUB_PREFIX):
        return space.count("/") == 1
    try:
        open_clip_entry(space)
    except ModelNotAvailable:
        return False
    return True


def open_clip_entry(space: str) -> tuple[str, str, str, str, dict]:
    """open_clip's own table: name, tag, repository, file of the weights, and the architecture's text_cfg.

    Raises ModelNotAvailable for what it does not know.
    """
    name, _, tag = space.partition("/")
    if not name or not tag or "/" in tag:
        raise ModelNotAvailable(unknown(space))
    import open_clip

    config, details = open_clip.get_model_config(name), open_clip.get_pretrained_cfg(name, tag)
    if not config or not details:
        raise ModelNotAvailable(unknown(space))
    repository, _, file = details.get("hf_hub", "").rpartition("/")
    return name, tag, repository, file or WEIGHTS, config["text_cfg"]


def safe_names(file: str) -> tuple[str, ...]:
    """The safetensors files that a hub's repository may have, given the file that a table names."""
    stem = file.removesuffix(Path(file).suffix)
    return tuple(dict.fromkeys((*SAFE_WEIGHTS[:2], f"{stem}.safetensors")))


def files_in(space: str, folder: Path, *, hub_first: bool = False) -> ModelFiles:
    """The files of a space in a checkpoint folder. `hub_first`: the tokenizer is rather the one that the configuration
    names than the folder's own, as open_clip has it for "hf-hub:". Raises ModelNotAvailable for what is missing."""
    weights = find_weights(folder)
    if not weights:
        if find_pickle(folder):
            raise ModelNotAvailable(pickle_refused(space, folder))
        raise ModelNotAvailable(f"{folder} has no {WEIGHTS}")
    text = config_of(folder)["model_cfg"]["text_cfg"]
    tokenizer, text_model = _text_files(space, text, folder, hub_first=hub_first)
    return ModelFiles(space, weights, folder, tokenizer=tokenizer, text_model=text_model)


def _text_files(
    space: str, text: dict, folder: Path | None, *, hub_first: bool = False
) -> tuple[Path | None, Path | None]:
    """The folders of the tokenizer and of the text tower's configuration, None where open_clip brings its own."""
    tokenizer = text_model = None
    if wanted := text.get("hf_tokenizer_name"):
        cached = snapshot(wanted)
        order = (cached, folder) if hub_first else (folder, cached)
        tokenizer = next((path for path in order if has_tokenizer(path)), None)
        if not tokenizer:
            raise ModelNotAvailable(_part_missing(space, "tokenizer", wanted, folder))
    if wanted := text.get("hf_model_name"):
        places = (folder and folder / "text_model", snapshot(wanted))
        text_model = next((path for path in places if path and (path / TEXT_CONFIG).is_file()), None)
        if not text_model:
            raise ModelNotAvailable(_part_missing(space, "configuration of the text tower", wanted, folder))
    return tokenizer, text_model


# --- the lines that say what to do ---


def unknown(space: str) -> str:
    """Of an id that names nothing."""
    return (
        f"there is no model {space!r}; `clipkit models list` names some, and any open_clip NAME/TAG, "
        "hf-hub:OWNER/REPOSITORY or checkpoint folder will do"
    )


def not_here(space: str) -> str:
    """Of a model that is not on this disk: how to get it."""
    known = entry(space)
    size = f" ({known.megabytes:,} MB)" if known else ""
    if is_offline():
        return (
            f"the model {space} is not on this machine, and HF_HUB_OFFLINE forbids to download it{size}: "
            f"{offline_ways(space)}"
        )
    return f"the model {space} is not on this machine: `clipkit models pull {space}` downloads it{size}"


def offline_ways(space: str) -> str:
    """What to do without a network."""
    return (
        "bring its files from another machine and run "
        f"`clipkit models import PATH --as {space}`, or use --model tiny, which comes with clipkit"
    )


def pickle_refused(space: str, path: Path | None = None) -> str:
    """Of weights that are a pickle."""
    command = f"import {path} --as NAME" if path else f"pull {space}"
    return (
        f"the weights of {space} are a pickle, which may run code; if you trust them, "
        f"`clipkit models {command} --allow-pickle` makes safetensors of them"
    )


def _part_missing(space: str, part: str, repository: str, folder: Path | None) -> str:
    way = f"put the files of {repository} into {folder}" if folder else f"`clipkit models pull {space}` downloads it"
    return f"the {part} of {space} ({repository}) is not on this machine: {way}"
