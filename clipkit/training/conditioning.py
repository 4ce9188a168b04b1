"""What the decoder's parts are conditioned on while they train: embeddings of pictures, and guesses from captions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from clipkit.training.cache import draw


@dataclass(frozen=True)
class Scale:
    """Per-dimension mean and standard deviation (d,) of embeddings, by which networks see them."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Scale:
        """Measure them on embeddings (n, d)."""
        x = torch.from_numpy(embeddings[:20000].astype(np.float32))
        return cls(x.mean(0), x.std(0).clamp_min(1e-6))

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings - self.mean) / self.std


@dataclass(frozen=True)
class Conditions:
    """The embeddings of n pictures, (n, d), and those that a prior guesses from their captions, (n, variants, d)."""

    own: np.ndarray
    guessed: np.ndarray

    def __len__(self) -> int:
        return len(self.own)

    @cached_property
    def scale(self) -> Scale:
        """The scale of the pictures' embeddings."""
        return Scale.of(self.own)

    def draw(self, rows: torch.Tensor, from_text: float, rng: torch.Generator) -> torch.Tensor:
        """Return an embedding for each row, float32 (n, d): guessed from a caption in a share of `from_text`."""
        own = torch.from_numpy(draw(self.own, rows)).float()
        guessed = torch.from_numpy(draw(self.guessed, rows)).float()
        variant = torch.randint(guessed.shape[1], (len(rows),), generator=rng)
        chosen = guessed[torch.arange(len(rows)), variant]
        return torch.where(torch.rand(len(rows), 1, generator=rng) < from_text, chosen, own)


def chances(parts: np.ndarray, crowded: float) -> torch.Tensor:
    """Return how often to draw each picture (n,): those that show two things `crowded` times as often as others.

    `parts` (n, 3) as `cache.parts` gives them: two things and a setting, or fewer.
    """
    return torch.where(torch.from_numpy(parts[:, 2] >= 0), crowded, 1.0)
