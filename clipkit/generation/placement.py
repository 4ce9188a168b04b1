"""Where a decoder computes, and in what precision: chosen for the machine, and moved in parts where memory is short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import decoder_files

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


def is_crowded(needed_gb: float, device: str) -> bool:
    """Whether the device has too little memory free for what is needed."""
    return must_offload(needed_gb, free_gpu_memory(device))


def load(pipeline_class, folder: Path, device: str, **parts: Any) -> Any:
    """A pipeline of diffusers from a folder on disk, in the device's precision; `parts` replace those of the folder."""
    with_old_names = {name: part for name, part in _renamed(folder).items() if name not in parts}
    return pipeline_class.from_pretrained(
        folder,
        dtype=precision(device),
        variant=decoder_files.variant(folder, device),
        low_cpu_mem_usage=False,
        use_safetensors=True,
        **parts,
        **with_old_names,
    )


def _renamed(folder: Path) -> dict[str, Any]:
    """The parts of a pipeline that its list calls feature extractors, by name, as the image processors they became.

    transformers 5 has the old classes no more, which folders of Stable Diffusion name up to 2023.
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


def place(pipeline, needed_gb: float, device: str, name: str, *, offload: bool | None = None):
    """Puts a diffusers pipeline on the device; where memory is short, its models take turns there (CPU offload) and
    its codec works in tiles.

    `offload` says whether it is short, None that it is to be judged by what the pipeline needs. Raises
    DecoderNotAvailable if that takes a package that is not here.
    """
    pipeline.set_progress_bar_config(disable=True)
    if not (is_crowded(needed_gb, device) if offload is None else offload):
        return pipeline.to(device)
    try:
        pipeline.enable_model_cpu_offload(device=device)
    except ImportError as error:
        raise DecoderNotAvailable(
            f"the decoder {name} wants more GPU memory than the {free_gpu_memory(device) or 0:.1f} GB that are free: "
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
