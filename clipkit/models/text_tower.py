"""Texts through a text tower at the length they have, and not at that of the longest text it could read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def looks_back_only(model: Any) -> bool:
    """Whether what stands after the end of a text cannot change its vector in this open_clip model, as in OpenAI's
    CLIP and most since: every token sees those before it alone, and the vector is read where the text ends."""
    from open_clip.model import CLIP

    return isinstance(model, CLIP) and model.attn_mask is not None and model.text_pool_type in ("argmax", "eos")


def without_padding(tokens: np.ndarray) -> np.ndarray:
    """Token ids (n, length), padded with 0, cut where the longest text ends: of a few words a tenth is left."""
    used = np.flatnonzero(tokens.any(axis=0))
    return tokens[:, : used[-1] + 1] if len(used) else tokens[:, :1]


def encode_tokens(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The model's own `encode_text`; if it `looks_back_only`, for tokens int64 (n, any length up to its own).

    The model has shorter positions and mask meanwhile, so that one batch at a time may go through it.
    """
    import torch

    if not looks_back_only(model):
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
