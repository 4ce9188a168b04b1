"""Torch or ONNX Runtime: which of them encodes for a space, here and now."""

from __future__ import annotations

from clipkit.errors import ModelNotAvailable
from clipkit.models.encoder import Encoder, OpenClipEncoder, choose_device, load_torch_encoder
from clipkit.models.onnx import exports, weightless
from clipkit.models.onnx.exports import Exported
from clipkit.models.onnx.session import OnnxEncoder, exported_encoder
from clipkit.models.registry import WEIGHTS, canonical_id, checkpoint_folder
from clipkit.progress import ProgressCallback

_KEPT = 2
_kept: dict[tuple, OnnxEncoder] = {}
"""Encoders in ONNX Runtime by space and state of its files, so that indexing and searching share one."""


def choose(space: str, device: str, *, search: bool, export: bool, progress: ProgressCallback | None) -> Encoder:
    """See `load_encoder`."""
    device = "cpu" if search and device == "auto" else choose_device(device)
    space = canonical_id(space)
    exported = exports.find(space)
    wanted = device == "cpu" and _is_better(exported, search)
    if wanted and (ready := _opened(space, exported, search)):
        return ready
    encoder = load_torch_encoder(space, device)
    encoder.note = ""
    if export and (wanted or not (exported or weightless.beside(space))):
        # An export that is there and did not open is torn, or for another version of ONNX Runtime.
        exported = _export(encoder, progress, again=bool(exported))
        better = device == "cpu" and exported and _is_better(exported, search)
        if better and (ready := _opened(space, exported, search)):
            load_torch_encoder.cache_clear()  # it would be a second copy of the model
            return ready
    if exported and exported.refused:
        encoder.note = f"{space} runs in torch, which starts slowly, and not in ONNX Runtime: {exported.refused}"
    return encoder


def forget() -> None:
    """Lets go of the encoders in ONNX Runtime that are kept."""
    _kept.clear()


def _is_better(exported: Exported | None, search: bool) -> bool:
    """Whether ONNX Runtime is the way on the CPU: always to search, else if it is faster, or no one has looked yet."""
    return not exported or (not exported.refused and (search or exported.faster))


def _opened(space: str, exported: Exported | None, search: bool) -> OnnxEncoder | None:
    """The encoder in ONNX Runtime, of the export or of graphs beside the checkpoint; None if none can be opened."""
    folder = checkpoint_folder(space)
    if not exported and not folder:
        return None
    key = (space, *exported.files) if exported else (space, exports.stamp(folder / WEIGHTS))  # type: ignore[operator]
    encoder = _kept.get(key) or (exported_encoder(exported) if exported else weightless.beside(space))
    if not encoder:
        return None
    try:
        encoder.open(search=search)
    except ModelNotAvailable:
        return None
    _kept[key] = encoder
    while len(_kept) > _KEPT:
        _kept.pop(next(iter(_kept)))
    return encoder


def _export(encoder: OpenClipEncoder, progress: ProgressCallback | None, *, again: bool) -> Exported | None:
    """The export of a loaded model; where it cannot be kept, or is just being made, None: torch serves meanwhile."""
    from clipkit.models.onnx.export import NoRoom, export

    try:
        return export(encoder, again=again, progress=progress)
    except OSError as error:
        reason = error.strerror or str(error)
        encoder.note = (
            f"{encoder.space} runs in torch, which starts slowly: {exports.cache()} cannot be used ({reason})"
        )
        return None
    except NoRoom as error:
        encoder.note = (
            f"{encoder.space} runs in torch, which starts slowly, and was not exported to ONNX: {error}; "
            f"`clipkit models export {encoder.space}` does it when there is more"
        )
        return None
