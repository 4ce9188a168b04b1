"""Importing models that were not pulled: a folder, a copy of the hub's cache, a file of weights, or a pickle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipkit.errors import ModelNotAvailable, first_line
from clipkit.models import checkpoint
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
    open_clip_source,
    pickle_refused,
)
from clipkit.models.onnx.exports import remove_export
from clipkit.models.reference import normalise_tag
from clipkit.models.registry import CONFIG, HUB_PREFIX, WEIGHTS, entries, entry

if TYPE_CHECKING:
    import torch


def import_model(path: str | Path, model: str = "", *, allow_pickle: bool = False) -> str:
    """Copy a model into clipkit's folder of models, where it is found without a network; return its id.

    path: a folder with open_clip's configuration and weights, a repository's folder in the hub's cache
        (models--OWNER--NAME) or a clone of it, or a file of weights.
    model: the id to import it as, by default that of the repository, else the folder's name. It must be an open_clip
        NAME/TAG if there is no configuration at `path`.
    allow_pickle: read pickled weights with torch's `weights_only` and keep them as safetensors.

    The model is loaded once as a check. Raises ModelNotAvailable with the reason if it cannot be imported.
    """
    given = Path(path).expanduser().absolute()
    if not given.exists():
        raise ModelNotAvailable(f"there is no file or folder {given}")
    folder = (snapshot_in(given) or given) if given.is_dir() else given.parent
    model_id = normalise_tag(model or _name_of(given))
    known = entry(model_id)
    # More than one slash is a path: such a name would be resolved to a folder, not to the import.
    if (known and known.bundled) or "\\" in model_id or model_id.count("/") > 1 or model_id[0] in "./~":
        raise ModelNotAvailable(f"{model_id} cannot be the name of an imported model; choose another with --as")
    weights = given if given.is_file() else find_weights(folder) or find_pickle(folder)
    if not weights:
        raise ModelNotAvailable(f"{given} has no {WEIGHTS}")
    pickled = weights.suffix != ".safetensors"
    if pickled and weights.suffix not in PICKLE_SUFFIXES:
        raise ModelNotAvailable(f"{weights} is not a safetensors file")
    if pickled and not allow_pickle:
        raise ModelNotAvailable(pickle_refused(model_id, weights))
    with _temporary_folder() as new:
        config = config_of(folder) if (folder / CONFIG).is_file() else _config_of_open_clip(model_id)
        (new / CONFIG).write_text(json.dumps(config, indent=2), "utf-8")
        if pickled:
            _convert(weights, new / WEIGHTS)
        else:
            shutil.copyfile(weights, new / WEIGHTS)
        _copy_text_files(config["model_cfg"]["text_cfg"], folder, new)
        _check(model_id, new)
        final = imported_folder(model_id)
        if final.exists():
            os.replace(final, new.with_name(new.name + ".old"))
        os.replace(new, final)
        shutil.rmtree(new.with_name(new.name + ".old"), ignore_errors=True)
    return model_id


def remove_import(model: str) -> bool:
    """Delete an imported model and its ONNX export, which would otherwise still be used; return False if there is
    none."""
    model_id = normalise_tag(model)
    folder = imported_folder(model_id)
    if not (folder / CONFIG).is_file():
        return False
    shutil.rmtree(folder)
    remove_export(model_id)
    return True


def imported() -> list[str]:
    """Return the ids of the imported models, sorted."""
    from urllib.parse import unquote

    names = (path.parent.name for path in models_folder().glob(f"*/{CONFIG}"))
    return sorted(unquote(name) for name in names if not name.startswith("."))


def _name_of(given: Path) -> str:
    """Derive an id from a path: that of the repository, else the folder's name."""
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
        f"cannot tell which model {given} is: name it with --as, as in --as ViT-B-32-256/datacomp_s34b_b86k, "
        f"or put its {CONFIG} beside the weights"
    )


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Create a folder to build a model in, and delete it afterwards unless it was moved into place."""
    models_folder().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".importing-", dir=models_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _config_of_open_clip(model_id: str) -> dict:
    """Return the configuration of an open_clip NAME/TAG in the format of open_clip's `push_to_hf_hub`."""
    import open_clip

    source = open_clip_source(model_id)
    config = open_clip.get_model_config(source.name)
    details = open_clip.get_pretrained_cfg(source.name, source.tag)
    if details.get("quick_gelu"):
        config["quick_gelu"] = True
    kept = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {"model_cfg": config, "preprocess_cfg": {key: details[key] for key in kept if key in details}}


def _convert(pickle: Path, target: Path) -> None:
    """Convert a pickle to safetensors; torch's `weights_only` refuses anything but tensors and plain containers."""
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises all kinds of errors for a malicious or corrupt pickle
        raise ModelNotAvailable(
            f"{pickle} was not loaded: it contains more than tensors, or is corrupt ({first_line(error)})"
        ) from error
    save_file(_tensors(loaded, pickle), target)


def _tensors(loaded: object, pickle: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a checkpoint, without the wrappers that training scripts add."""
    import torch

    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelNotAvailable(f"{pickle} contains no weights")
    return {
        name.removeprefix("module."): value.contiguous().clone()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def _copy_text_files(text: dict, folder: Path, new: Path) -> None:
    """Copy the tokenizer and the text tower's configuration, from beside the weights or from the hub's cache."""
    if wanted := text.get("hf_tokenizer_name"):
        source = folder if has_tokenizer(folder) else snapshot(wanted)
        for path in [source / name for name in TOKENIZER_FILES] if source else ():
            if path.is_file():
                shutil.copyfile(path, new / path.name)
    if wanted := text.get("hf_model_name"):
        places = (folder / "text_model" / TEXT_CONFIG, folder / TEXT_CONFIG, (snapshot(wanted) or folder) / TEXT_CONFIG)
        found = next((path for path in places if path.is_file()), None)
        if found:
            (new / "text_model").mkdir()
            shutil.copyfile(found, new / "text_model" / TEXT_CONFIG)


def _check(model_id: str, folder: Path) -> None:
    """Load the model once. Raises ModelNotAvailable if that fails."""
    files = files_in(model_id, folder)
    try:
        checkpoint.load_files(files, "cpu")
    except ModelNotAvailable:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, ImportError, TypeError) as error:
        raise ModelNotAvailable(
            f"{model_id} cannot be imported: its files cannot be loaded ({first_line(error)})"
        ) from error
