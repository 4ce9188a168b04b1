"""Running a text tower at the length of the texts instead of its full context length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def is_causal(model: Any) -> bool:
    """Return whether the padding after a text cannot change its vector in this open_clip model.

    That holds for OpenAI's CLIP and most later models: every token attends only to those before it, and the vector is
    read at the end of the text.
    """
    from open_clip.model import CLIP

    return isinstance(model, CLIP) and model.attn_mask is not None and model.text_pool_type in ("argmax", "eos")


def trim_padding(tokens: np.ndarray) -> np.ndarray:
    """Cut token ids (n, length), padded with 0, to the longest text: a tenth of the length for a few words."""
    used = np.flatnonzero(tokens.any(axis=0))
    return tokens[:, : used[-1] + 1] if len(used) else tokens[:, :1]


def encode_tokens(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Run the model's `encode_text`, for a causal model on tokens int64 (n, any length up to the context length).

    The model's positions and mask are shortened meanwhile, so only one batch may run at a time.
    """
    import torch

    if not is_causal(model):
        return model.encode_text(tokens)

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.model.encode_text(tokens)

    length = tokens.shape[1]
    shortened = {
        "model.positional_embedding": model.positional_embedding[:length],
        "model.attn_mask": model.attn_mask[:length, :length],
    }
    return torch.func.functional_call(Tower(), shortened, (tokens,))
