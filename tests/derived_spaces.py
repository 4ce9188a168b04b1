"""Checkpoints whose embeddings are a known function of another's: its output projections, multiplied by a matrix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np


def random_space(folder: Path, *, dimension: int = 32, seed: int = 0) -> Path:
    """A small plain CLIP of random weights, as open_clip's checkpoint folder; it is ready for ONNX Runtime at once."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    model_cfg = {
        "embed_dim": dimension,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "layers": 1, "width": 64, "head_width": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
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
    # A ResNet's projection is a linear layer, and a vision transformer's a matrix that is multiplied from the left.
    projections = ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias", "visual.proj")
    for name in (name for name in projections if name in state):
        projected = state[name].float() @ by if name == "visual.proj" else by.T @ state[name].float()
        jitter = torch.randn(projected.shape, generator=rng) * projected.std()
        state[name] = (projected + noise * jitter).contiguous()
    state["text_projection"] = (state["text_projection"].float() @ by).contiguous()
    save_file(state, path, metadata={"format": "pt"})
    return folder


def rotation(dimension: int, seed: int = 0) -> np.ndarray:
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))
    return q * np.sign(np.diag(r))
