"""Load a diffusers pipeline, and choose its device and dtype; CPU offload where GPU memory is short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import decoder_files

if TYPE_CHECKING:
    import torch

USABLE_MEMORY = 0.9
"""Share of the free GPU memory that a decoder may fill; the rest is for activations."""


def weight_dtype(device: str) -> torch.dtype:
    """Return float16 on CUDA, else float32: half precision is slower on CPUs, and overflows on Metal."""
    import torch

    return torch.float16 if device == "cuda" else torch.float32


def must_offload(needed_gb: float, free_gb: float | None) -> bool:
    """Return whether a model is too large for the free GPU memory; False if that is unknown (None)."""
    return free_gb is not None and needed_gb > USABLE_MEMORY * free_gb


def free_gpu_memory(device: str) -> float | None:
    """Return the free memory of the CUDA device in GB, None on other devices."""
    import torch

    return torch.cuda.mem_get_info()[0] / 1e9 if device == "cuda" else None


def is_short_of_memory(needed_gb: float, device: str) -> bool:
    """Return whether the device has less memory free than needed."""
    return must_offload(needed_gb, free_gpu_memory(device))


def load_pipeline(pipeline_class: Any, folder: Path, device: str, **parts: Any) -> Any:
    """Load a diffusers pipeline from a folder in the device's dtype; `parts` replace those in the folder."""
    renamed = {name: part for name, part in _renamed_processors(folder).items() if name not in parts}
    return pipeline_class.from_pretrained(
        folder,
        dtype=weight_dtype(device),
        variant=decoder_files.weight_variant(folder, device),
        low_cpu_mem_usage=False,
        use_safetensors=True,
        **parts,
        **renamed,
    )


def _renamed_processors(folder: Path) -> dict[str, Any]:
    """Load the parts that a pipeline's index calls feature extractors as image processors, by name.

    transformers 5 removed the old classes, which Stable Diffusion checkpoints saved before 2023 refer to.
    """
    import transformers

    index = json.loads((folder / decoder_files.INDEX).read_text("utf-8"))
    found = {}
    for part, kind in index.items():
        library, name = map(str, kind) if isinstance(kind, list) and len(kind) == 2 else ("", "")
        if library != "transformers" or not name.endswith("FeatureExtractor") or hasattr(transformers, name):
            continue
        processor = getattr(transformers, name.replace("FeatureExtractor", "ImageProcessor"), None)
        if processor and (folder / part).is_dir():
            found[part] = processor.from_pretrained(folder / part)
    return found


def move_to_device(pipeline: Any, needed_gb: float, device: str, name: str, *, offload: bool | None = None) -> Any:
    """Move a diffusers pipeline to the device; where memory is short, use CPU offload and decode in tiles.

    `offload`: whether memory is short; None compares `needed_gb` with the free memory. Raises DecoderNotAvailable if
    offload needs a package that is not installed.
    """
    pipeline.set_progress_bar_config(disable=True)
    if not (is_short_of_memory(needed_gb, device) if offload is None else offload):
        return pipeline.to(device)
    try:
        pipeline.enable_model_cpu_offload(device=device)
    except ImportError as error:
        raise DecoderNotAvailable(
            f"the decoder {name} needs more GPU memory than the {free_gpu_memory(device) or 0:.1f} GB that are free: "
            "pip install 'clipkit[decoders]' to offload its parts to the CPU, or use --device cpu"
        ) from error
    enable_tiling(pipeline)
    return pipeline


def enable_tiling(pipeline: Any) -> None:
    """Decode in tiles, which takes less memory, if the pipeline's codec supports it; Kandinsky's does not."""
    for name in ("vae", "movq"):
        codec = getattr(pipeline, name, None)
        # Every codec has `enable_tiling`, but those without this attribute raise in it.
        if codec is not None and hasattr(codec, "use_tiling"):
            codec.enable_tiling()
