"""Where a decoder computes, and in what precision: chosen for the machine, and moved in parts where memory is short."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import files

if TYPE_CHECKING:
    import torch

ROOM = 0.9
"""The share of the free GPU memory that a decoder may fill: the rest is for the activations of others."""


def precision(device: str) -> torch.dtype:
    """float16 on CUDA, float32 elsewhere: it is slower in half precision on CPUs, and overflows on Metal."""
    import torch

    return torch.float16 if device == "cuda" else torch.float32


def must_offload(needed_gb: float, free_gb: float | None) -> bool:
    """Whether a model is too large for the free memory of the GPU; never without a GPU that can tell (None)."""
    return free_gb is not None and needed_gb > ROOM * free_gb


def free_gpu_memory(device: str) -> float | None:
    """Free memory of the CUDA device in GB, None on others."""
    import torch

    return torch.cuda.mem_get_info()[0] / 1e9 if device == "cuda" else None


def load(pipeline_class, folder: Path, device: str, **parts: Any) -> Any:
    """A pipeline of diffusers from a folder on disk, in the device's precision; `parts` replace those of the folder."""
    return pipeline_class.from_pretrained(
        folder,
        dtype=precision(device),
        variant=files.variant(folder, device),
        low_cpu_mem_usage=False,
        use_safetensors=True,
        **parts,
    )


def place(pipeline, needed_gb: float, device: str, name: str):
    """Puts a diffusers pipeline on the device; where memory is short, its models take turns there (CPU offload) and
    its codec works in tiles. Raises DecoderNotAvailable if that needs a package that is not here."""
    pipeline.set_progress_bar_config(disable=True)
    free = free_gpu_memory(device)
    if not must_offload(needed_gb, free):
        return pipeline.to(device)
    try:
        pipeline.enable_model_cpu_offload(device=device)
    except ImportError as error:
        raise DecoderNotAvailable(
            f"the decoder {name} wants {needed_gb:g} GB of GPU memory and {free:.1f} GB are free: "
            "pip install 'clipkit[decoders]' lets its parts take turns, or use --device cpu"
        ) from error
    work_in_tiles(pipeline)
    return pipeline


def work_in_tiles(pipeline) -> None:
    """Has a pipeline's codec decode in tiles, which takes less memory, if it can: Kandinsky's cannot."""
    for name in ("vae", "movq"):
        codec = getattr(pipeline, name, None)
        # All of diffusers' codecs have `enable_tiling`; those that cannot do it raise there, and lack this switch.
        if codec is not None and hasattr(codec, "use_tiling"):
            codec.enable_tiling()
