"""Torch or ONNX Runtime: which of them encodes for a space, here and now."""

from __future__ import annotations

from clipkit.errors import SpaceNotAvailable
from clipkit.progress import ProgressCallback
from clipkit.spaces import onnx_files, onnx_weightless
from clipkit.spaces.encoder import Encoder, OpenClipEncoder, choose_device, load_torch_encoder
from clipkit.spaces.onnx_encoder import OnnxEncoder, exported_encoder
from clipkit.spaces.onnx_files import Exported
from clipkit.spaces.registry import canonical_id

_KEPT = 2
_kept: dict[tuple, OnnxEncoder] = {}
"""Encoders in ONNX Runtime by space and state of its files, so that indexing and searching share one."""


def choose(space: str, device: str, *, search: bool, export: bool, progress: ProgressCallback | None) -> Encoder:
    """See `load_encoder`."""
    device = "cpu" if search and device == "auto" else choose_device(device)
    space = canonical_id(space)
    exported = onnx_files.find(space)
    if device == "cpu" and (ready := _in_onnx(space, exported, search)):
        return ready
    encoder = load_torch_encoder(space, device)
    encoder.note = ""
    if export and not (exported and exported.refused) and not onnx_weightless.beside(space):
        exported = _export(encoder, progress)
        if exported and device == "cpu" and (ready := _in_onnx(space, exported, search)):
            load_torch_encoder.cache_clear()  # it would be a second copy of the model
            return ready
    if exported and exported.refused:
        encoder.note = f"{space} runs in torch, which starts slowly, and not in ONNX Runtime: {exported.refused}"
    return encoder


def _in_onnx(space: str, exported: Exported | None, search: bool) -> OnnxEncoder | None:
    """The encoder in ONNX Runtime, if there is one that works and that, unless to `search`, is the faster way."""
    if exported and (exported.refused or not (search or exported.faster)):
        return None
    key = (space, *exported.files) if exported else (space, onnx_files.source_stamp(space))
    encoder = _kept.get(key) or (exported_encoder(exported) if exported else onnx_weightless.beside(space))
    try:
        ready = encoder.ready(search=search) if encoder else None
    except SpaceNotAvailable:  # torn in a way that sizes do not show, or not for this version of ONNX Runtime
        return None
    if ready:
        _kept[key] = ready
        while len(_kept) > _KEPT:
            _kept.pop(next(iter(_kept)))
    return ready


def _export(encoder: OpenClipEncoder, progress: ProgressCallback | None) -> Exported | None:
    """The export of a loaded model; where it cannot be kept, or is just being made, None: torch serves meanwhile."""
    from clipkit.spaces.onnx_export import export

    try:
        return export(encoder, progress=progress)
    except OSError as error:
        reason = error.strerror or str(error)
        encoder.note = (
            f"{encoder.space} runs in torch, which starts slowly: {onnx_files.cache()} cannot be used ({reason})"
        )
        return None
