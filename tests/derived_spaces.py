"""Checkpoints whose embeddings are a known function of another's: its output projections, multiplied by a matrix."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np


def random_space(folder: Path, *, dimension: int = 32, seed: int = 0) -> Path:
    """A small CLIP of random weights, as open_clip's checkpoint folder."""
    from clipkit.training.clip import ClipRecipe, build
    from clipkit.training.clip_export import export

    recipe = ClipRecipe(embed_dim=dimension, image_size=32, vision_width=16, text_width=64, text_layers=1, seed=seed)
    export(build(recipe), recipe, folder)
    return folder


def derive(source: Path, folder: Path, matrix: np.ndarray, *, noise: float = 0.0) -> Path:
    """A copy of a checkpoint whose embeddings, of pictures and of words, are `x @ matrix`; `noise` is what is added to
    the image tower's projection, as a share of its size."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    path = folder / "open_clip_model.safetensors"
    state = load_file(path)
    by = torch.from_numpy(np.asarray(matrix, np.float32))
    rng = torch.Generator().manual_seed(0)
    for name in ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias"):
        projected = by.T @ state[name].float()
        jitter = torch.randn(projected.shape, generator=rng) * projected.std()
        state[name] = (projected + noise * jitter).contiguous()
    state["text_projection"] = (state["text_projection"].float() @ by).contiguous()
    save_file(state, path, metadata={"format": "pt"})
    return folder


def rotation(dimension: int, seed: int = 0) -> np.ndarray:
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))
    return q * np.sign(np.diag(r))
