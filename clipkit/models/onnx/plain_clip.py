"""Preparing a plain CLIP model for ONNX Runtime from its checkpoint alone: in seconds, without torch and open_clip."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models import checkpoint
from clipkit.models.hub.locating import ModelFiles, config_of, locate
from clipkit.models.onnx import exports
from clipkit.models.onnx.clip_towers import ClipArchitecture, build_tower, weight_shapes
from clipkit.models.onnx.exports import Exported
from clipkit.models.onnx.graphs import Tower
from clipkit.models.reference import ModelRef
from clipkit.progress import Progress, ProgressCallback

_FLOATS = ("F16", "F32", "F64")


@dataclass(frozen=True)
class PlainClip:
    """A checkpoint of the architecture that `clip_towers` builds."""

    files: ModelFiles
    architecture: ClipArchitecture
    preprocessing: Preprocessing
    own: dict
    """What clipkit's training adds to the configuration: vocabulary, concepts, weights of the match decision."""

    def facts(self) -> dict:
        """Return what an `OnnxEncoder` needs to know, except the names of the towers' files."""
        return {
            "dimension": self.architecture.dimension,
            "preprocessing": asdict(self.preprocessing),
            "vocabulary": sorted(self.own.get("vocabulary", ())),
            "concepts": list(self.own.get("concepts", ())),
            "match": self.own.get("match") or {},
            "tokenizer": {
                "kind": "clip",
                "context_length": self.architecture.context_length,
                "cleaning": "lower",
            },
        }

    def write(self, tower: Tower, path: Path) -> None:
        """Write a tower's graph, with its weights in a file beside it. Raises OSError."""
        import onnx_ir as ir

        graph = build_tower(self.architecture, tower, _Checkpoint(self.files.weights))
        ir.save(graph, path, external_data=path.with_suffix(".weights").name)


def find_plain_clip(model: ModelRef) -> PlainClip | None:
    """Return a model's checkpoint if its configuration, weights and tokenizer are those of plain CLIP, else None."""
    try:
        files = locate(model)
        if files.tokenizer or files.text_model:
            return None
        model_cfg, preprocess, own = _configuration(model, files)
        architecture = ClipArchitecture.of(model_cfg, quick_gelu=bool(preprocess.get("quick_gelu")))
        if not architecture or not _has_weights(files.weights, weight_shapes(architecture)):
            return None
        preprocessing = checkpoint.preprocessing_of(architecture.image_size, preprocess, model.id)
    except ModelNotAvailable:
        return None
    return PlainClip(files, architecture, preprocessing, own)


def prepare(model: ModelRef, *, again: bool = False, progress: ProgressCallback | None = None) -> Exported | None:
    """Export a plain CLIP model, unless another process has just done so; None for any other model.

    again: export in any case. Raises OSError if the cache cannot be written or the disk is full.
    """
    plain = find_plain_clip(model)
    if not plain:
        return None
    towers: tuple[Tower, Tower] = ("image", "text")
    size = 4 * sum(math.prod(shape) for shape in weight_shapes(plain.architecture).values())
    with exports.new_export_folder(model.id, needed=int(1.1 * size), wait=True) as folder:
        assert folder is not None
        existing = exports.find_export(model.id)
        if existing and not again:
            return existing
        facts, weights = plain.facts(), _digest(plain.files.weights)
        for done, tower in enumerate(towers):
            if progress:
                progress(Progress("preparing the model, once", done, len(towers)))
            facts[tower] = f"{tower}-{weights[:8]}-{time.time_ns():x}.onnx"
            plain.write(tower, folder / facts[tower])
        exported = Exported(
            exports.folder_of(model.id),
            model.id,
            weights,
            facts,
            files={},
            source=exports.file_stamp(plain.files.weights),
            versions=exports.library_versions(),
        )
        return exports.publish(exported, folder)


def _configuration(model: ModelRef, files: ModelFiles) -> tuple[dict, dict, dict]:
    """Return open_clip's configurations of the model and of its preprocessing, and what clipkit's training adds."""
    if files.folder:
        config = config_of(files.folder)
        # As in `checkpoint.load_files`, only the configuration of the model says whether it needs QuickGELU.
        preprocess = {key: value for key, value in config.get("preprocess_cfg", {}).items() if key != "quick_gelu"}
        return config["model_cfg"], preprocess, config.get("clipkit", {})
    if model.entry and model.entry.plain_clip:  # preprocessed as OpenAI's models are
        return _open_clip_config(files.name), {"quick_gelu": model.entry.quick_gelu}, {}
    import open_clip

    return open_clip.get_model_config(files.name), open_clip.get_pretrained_cfg(files.name, files.tag), {}


def _open_clip_config(name: str) -> dict:
    """Return open_clip's configuration of an architecture, read from its files: importing it takes ten seconds."""
    package = importlib.util.find_spec("open_clip")  # which finds a package without importing it
    assert package and package.submodule_search_locations
    return json.loads(
        (Path(package.submodule_search_locations[0]) / "model_configs" / f"{name}.json").read_text("utf-8")
    )


def _has_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a checkpoint has the weights of these shapes, no others, in precisions that numpy can read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a dict
            return {name: tuple(part.get_shape()) for name, part in found.items()} == shapes and all(
                part.get_dtype() in _FLOATS for part in found.values()
            )
    except (SafetensorError, OSError):
        return False


def _digest(path: Path) -> str:
    """Hash a checkpoint's bytes."""
    import xxhash

    digest = xxhash.xxh3_128(str(exports.FORMAT).encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class _Checkpoint(Mapping[str, np.ndarray]):
    """The arrays of a safetensors file, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file = safe_open(path, "np")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())
