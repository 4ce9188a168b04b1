"""Loading a model's encoder, in torch or in ONNX Runtime, whichever suits the device and the task."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from clipkit.errors import ModelNotAvailable, first_line
from clipkit.models.devices import choose_device
from clipkit.models.encoder import Encoder
from clipkit.models.memory import translate_out_of_memory
from clipkit.models.onnx import exports, shipped
from clipkit.models.onnx.exports import Exported
from clipkit.models.onnx.session import OnnxEncoder, exported_encoder
from clipkit.models.reference import ModelRef
from clipkit.models.registry import WEIGHTS
from clipkit.progress import ProgressCallback

if TYPE_CHECKING:
    from clipkit.models.torch_encoder import OpenClipEncoder

_CACHED_ENCODERS = 2
"""Number of encoders that stay loaded in each runtime."""
_onnx_encoders: dict[tuple, OnnxEncoder] = {}
"""Loaded ONNX encoders by model and state of its files, so that indexing and searching share one."""


def load_encoder(
    model: ModelRef | str,
    device: str = "auto",
    *,
    search: bool = False,
    export: bool = True,
    progress: ProgressCallback | None = None,
) -> Encoder:
    """Load a model's encoder; encoders are cached.

    model: a reference or a canonical id; resolve what a user typed with `ModelRef.resolve` first.
    device: auto, cpu, cuda or mps. "auto" is the CPU for searching, otherwise the fastest device.
    search: whether texts are encoded for a search; on the CPU that always runs in ONNX Runtime if possible.
    export: whether to export a model to ONNX into the user's cache if that has not been done yet.

    Raises ModelNotAvailable if the model is unknown, not on this machine or cannot be loaded.
    """
    ref = ModelRef.of(model) if isinstance(model, str) else model
    device = "cpu" if search and device == "auto" else choose_device(device)
    exported = exports.find_export(ref.id)
    prefers_onnx = choose_runtime(exported, device, search) == "onnx"
    if prefers_onnx and (encoder := _open_onnx(ref, exported, search)):
        return encoder
    missing = not (exported or shipped.shipped_encoder(ref))
    if (
        export
        and (prefers_onnx or missing)
        and (prepared := _prepare_without_torch(ref, progress, again=bool(exported)))
    ):
        exported = prepared
        if choose_runtime(exported, device, search) == "onnx" and (encoder := _open_onnx(ref, exported, search)):
            return encoder
        missing = False
    in_torch = load_torch_encoder(ref.id, device)
    in_torch.note = ""
    if export and (prefers_onnx or missing):
        # An existing export that failed to open is corrupt, or was made for another version of ONNX Runtime.
        exported = _export(in_torch, progress, again=bool(exported))
        use_onnx = exported and choose_runtime(exported, device, search) == "onnx"
        if use_onnx and (encoder := _open_onnx(ref, exported, search)):
            load_torch_encoder.cache_clear()  # it would be a second copy of the model
            return encoder
    if exported and exported.refused:
        in_torch.note = f"{ref.id} runs in torch, which starts slowly, and not in ONNX Runtime: {exported.refused}"
    return in_torch


def known_encoder(model: ModelRef) -> OnnxEncoder | None:
    """Return the encoder of a model's export, or of the graphs shipped with it, before any graph is opened.

    None if there is neither, or the export was refused. It tells the dimension and the preprocessing of a model, which
    are the same in torch.
    """
    exported = exports.find_export(model.id)
    if exported:
        return None if exported.refused else exported_encoder(exported)
    return shipped.shipped_encoder(model)


def dimension_of(model: ModelRef) -> int:
    """Return the dimension of a model's vectors. Raises ModelNotAvailable if the model cannot be loaded.

    A model that has been exported, and a plain CLIP model, whose configuration and weights are checked, need not be
    loaded for that.
    """
    from clipkit.models.onnx.plain_clip import find_plain_clip

    if known := known_encoder(model):
        return known.dimension
    plain = None if exports.find_export(model.id) else find_plain_clip(model)
    return plain.architecture.dimension if plain else load_encoder(model, export=False).dimension


@lru_cache(maxsize=_CACHED_ENCODERS)
def load_torch_encoder(model_id: str, device: str) -> OpenClipEncoder:
    """Load the model of a canonical id in torch, on cpu, cuda or mps. Raises ModelNotAvailable."""
    from clipkit.models import checkpoint  # not needed by a search, which should not wait for it

    try:
        with translate_out_of_memory(model_id, device):
            return checkpoint.load(ModelRef.of(model_id), device)
    except ModelNotAvailable:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        raise ModelNotAvailable(
            f"the model {model_id} cannot be loaded ({first_line(error)}); "
            "name a folder with its open_clip_config.json and weights, or use --model tiny"
        ) from error


def forget_encoders() -> None:
    """Drop all cached encoders and free their memory."""
    load_torch_encoder.cache_clear()
    _onnx_encoders.clear()


def export_model(model_id: str, *, progress: ProgressCallback | None = None) -> Exported:
    """Export the model of a canonical id to ONNX, replacing any earlier export.

    Waits for another process that is exporting it. Raises ModelNotAvailable if the model cannot be loaded, the cache
    cannot be written, or there is too little memory.
    """
    from clipkit.models.onnx.export import NotEnoughMemory, export

    try:
        exported = export(load_torch_encoder(model_id, "cpu"), wait=True, again=True, progress=progress)
    except OSError as error:
        raise ModelNotAvailable(f"{exports.cache_folder()} cannot be written: {error.strerror or error}") from error
    except NotEnoughMemory as error:
        raise ModelNotAvailable(f"{model_id} cannot be exported to ONNX now: {error}") from error
    assert exported is not None
    return exported


def choose_runtime(exported: Exported | None, device: str, search: bool) -> Literal["torch", "onnx"]:
    """Choose the runtime, given the model's current export if there is one.

    ONNX Runtime is used on the CPU only: always for searching, for indexing unless torch was measured to be faster.
    """
    if device != "cpu":
        return "torch"
    if exported and (exported.refused or not (search or exported.faster)):
        return "torch"
    return "onnx"


def _open_onnx(model: ModelRef, exported: Exported | None, search: bool) -> OnnxEncoder | None:
    """Open the export, or else the graphs shipped with the checkpoint; return None if neither can be opened."""
    if exported:
        key: tuple = (model.id, *exported.files)
    elif model.folder:
        key = (model.id, exports.file_stamp(model.folder / WEIGHTS))
    else:
        return None
    encoder = _onnx_encoders.get(key) or (exported_encoder(exported) if exported else shipped.shipped_encoder(model))
    if not encoder:
        return None
    try:
        encoder.open(search=search)
    except ModelNotAvailable:
        return None
    _onnx_encoders[key] = encoder
    while len(_onnx_encoders) > _CACHED_ENCODERS:
        _onnx_encoders.pop(next(iter(_onnx_encoders)))
    return encoder


def _prepare_without_torch(model: ModelRef, progress: ProgressCallback | None, *, again: bool) -> Exported | None:
    """Export a plain CLIP model; None if it is another, or the cache cannot be written, of which `_export` tells."""
    from clipkit.models.onnx.plain_clip import prepare

    try:
        return prepare(model, again=again, progress=progress)
    except OSError:
        return None


def _export(encoder: OpenClipEncoder, progress: ProgressCallback | None, *, again: bool) -> Exported | None:
    """Export a loaded model. Return None, with a note on the encoder where it helps, if it has to stay in torch for
    now: the cache cannot be written, memory is short, or another process is exporting it."""
    from clipkit.models.onnx.export import NotEnoughMemory, export

    try:
        return export(encoder, again=again, progress=progress)
    except OSError as error:
        reason = error.strerror or str(error)
        encoder.note = (
            f"{encoder.space} runs in torch, which starts slowly: {exports.cache_folder()} cannot be used ({reason})"
        )
        return None
    except NotEnoughMemory as error:
        encoder.note = (
            f"{encoder.space} runs in torch, which starts slowly, and was not exported to ONNX: {error}; "
            f"run `clipkit models export {encoder.space}` when more memory is free"
        )
        return None
