"""Models that came some other way than by a download: a folder, a hub's cache, a file of weights, or a pickle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.errors import ModelNotAvailable
from clipkit.models.hub.cache import snapshot, snapshot_in
from clipkit.models.hub.locating import (
    PICKLE_SUFFIXES,
    TEXT_CONFIG,
    TOKENIZER_FILES,
    config_of,
    files_in,
    find_pickle,
    find_weights,
    has_tokenizer,
    imported_folder,
    models_folder,
    open_clip_entry,
    pickle_refused,
)
from clipkit.models.onnx import exports
from clipkit.models.registry import CONFIG, HUB_PREFIX, WEIGHTS, entries, entry, in_open_clips_spelling

if TYPE_CHECKING:
    import torch


def import_model(path: str | Path, space: str = "", *, allow_pickle: bool = False) -> str:
    """Takes a model into clipkit's own folder of models, where it is found without a network; returns its id.

    `path`: a folder with open_clip's configuration and weights, a repository's folder of the hub's cache
    (models--OWNER--NAME) or a clone of it, or a file of weights. `space`: the id that it gets; by default that of the
    repository, else the folder's name. Where `path` has no configuration the id must be open_clip's NAME/TAG. Weights
    are safetensors; a pickle is read only if `allow_pickle` is given, with torch's `weights_only`, and kept as
    safetensors. The model is loaded once before it counts. Raises ModelNotAvailable with what is wrong.
    """
    given = Path(path).expanduser().absolute()
    if not given.exists():
        raise ModelNotAvailable(f"there is no file or folder {given}")
    folder = (snapshot_in(given) or given) if given.is_dir() else given.parent
    space = in_open_clips_spelling(space or _name_of(given))
    known = entry(space)
    # More than one slash is a path: under that name a folder would be looked for, not an import.
    if (known and known.bundled) or "\\" in space or space.count("/") > 1 or space[0] in "./~":
        raise ModelNotAvailable(f"{space} cannot be the name of an imported model: give another with --as")
    weights = given if given.is_file() else find_weights(folder) or find_pickle(folder)
    if not weights:
        raise ModelNotAvailable(f"{given} has no {WEIGHTS}")
    pickled = weights.suffix != ".safetensors"
    if pickled and (weights.suffix not in PICKLE_SUFFIXES or not allow_pickle):
        raise ModelNotAvailable(
            f"{weights} is no safetensors file"
            if weights.suffix not in PICKLE_SUFFIXES
            else pickle_refused(space, weights)
        )
    with _unfinished() as new:
        config = config_of(folder) if (folder / CONFIG).is_file() else _config_of_open_clip(space)
        (new / CONFIG).write_text(json.dumps(config, indent=2), "utf-8")
        if pickled:
            _convert(weights, new / WEIGHTS)
        else:
            shutil.copyfile(weights, new / WEIGHTS)
        _take_text_files(config["model_cfg"]["text_cfg"], folder, new)
        _try(space, new)
        final = imported_folder(space)
        if final.exists():
            os.replace(final, new.with_name(new.name + ".old"))
        os.replace(new, final)
        shutil.rmtree(new.with_name(new.name + ".old"), ignore_errors=True)
    return space


def remove_import(space: str) -> bool:
    """Deletes an imported model, and its ONNX form, which would go on serving; False if there is none of that id."""
    space = in_open_clips_spelling(space)
    folder = imported_folder(space)
    if not (folder / CONFIG).is_file():
        return False
    shutil.rmtree(folder)
    exports.remove(space)
    return True


def imported() -> list[str]:
    """The ids of the imported models."""
    from urllib.parse import unquote

    names = (path.parent.name for path in models_folder().glob(f"*/{CONFIG}"))
    return sorted(unquote(name) for name in names if not name.startswith("."))


def _name_of(given: Path) -> str:
    """The id that a path speaks for: a repository's, else its own name."""
    name = given.name if given.is_dir() else given.parent.name
    repository = name.removeprefix("models--").replace("--", "/", 1) if name.startswith("models--") else ""
    for known in entries():
        if known.hub and (known.hub == repository or known.hub.rpartition("/")[2].lower() == name.lower()):
            return known.id
    if repository:
        return HUB_PREFIX + repository
    if given.is_dir() and (given / CONFIG).is_file():
        return name
    raise ModelNotAvailable(
        f"which model is {given}? Say so with --as, as in --as ViT-B-32-256/datacomp_s34b_b86k, "
        f"or put its {CONFIG} beside the weights"
    )


@contextlib.contextmanager
def _unfinished() -> Iterator[Path]:
    """A folder to build a model in; gone afterwards if it was not moved into place."""
    models_folder().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".importing-", dir=models_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _config_of_open_clip(space: str) -> dict:
    """The configuration file of a NAME/TAG that open_clip knows, as its own `push_to_hf_hub` writes it."""
    import open_clip

    name, tag, *_ = open_clip_entry(space)
    config, details = open_clip.get_model_config(name), open_clip.get_pretrained_cfg(name, tag)
    if details.get("quick_gelu"):
        config["quick_gelu"] = True
    kept = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {"model_cfg": config, "preprocess_cfg": {key: details[key] for key in kept if key in details}}


def _convert(pickle: Path, target: Path) -> None:
    """Writes the tensors of a pickle as safetensors; torch's `weights_only` builds nothing but tensors and dicts."""
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as error:  # what a hostile or torn pickle makes torch raise has no common base
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelNotAvailable(
            f"{pickle} is not loaded: it holds more than tensors, or is torn ({first_line})"
        ) from error
    save_file(_tensors(loaded, pickle), target)


def _tensors(loaded: object, pickle: Path) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, out of the wrappings that training scripts put around it."""
    import torch

    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelNotAvailable(f"{pickle} holds no weights")
    return {
        name.removeprefix("module."): value.contiguous().clone()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def _take_text_files(text: dict, folder: Path, new: Path) -> None:
    """Copies the tokenizer and the text tower's configuration, from beside the weights or from the hub's cache."""
    if wanted := text.get("hf_tokenizer_name"):
        source = folder if has_tokenizer(folder) else snapshot(wanted)
        for name in TOKENIZER_FILES if source else ():
            if (source / name).is_file():  # type: ignore[operator]
                shutil.copyfile(source / name, new / name)  # type: ignore[operator]
    if wanted := text.get("hf_model_name"):
        places = (folder / "text_model" / TEXT_CONFIG, folder / TEXT_CONFIG, (snapshot(wanted) or folder) / TEXT_CONFIG)
        found = next((path for path in places if path.is_file()), None)
        if found:
            (new / "text_model").mkdir()
            shutil.copyfile(found, new / "text_model" / TEXT_CONFIG)


def _try(space: str, folder: Path) -> None:
    """Loads the model; raises ModelNotAvailable in one line if that cannot be."""
    from clipkit.models import checkpoint

    files = files_in(space, folder)
    try:
        checkpoint.load_files(files, "cpu")
    except ModelNotAvailable:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, ImportError, TypeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelNotAvailable(f"{space} cannot be imported, its files do not load ({first_line})") from error
