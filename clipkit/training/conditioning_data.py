"""The decoder's conditioning during training: embeddings of images and embeddings predicted from their captions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from clipkit.training.precomputed import take_rows


@dataclass(frozen=True)
class Standardiser:
    """Scales embeddings to mean 0 and variance 1 in each dimension, as networks take them."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def fit(cls, embeddings: np.ndarray) -> Standardiser:
        """Estimate mean and standard deviation, (d,) each, from the first 20,000 embeddings of (n, d)."""
        x = torch.from_numpy(embeddings[:20000].astype(np.float32))
        return cls(x.mean(0), x.std(0).clamp_min(1e-6))

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings - self.mean) / self.std


@dataclass(frozen=True)
class ConditioningEmbeddings:
    """The embeddings of n images (n, d), and those that a prior predicts from their captions (n, variants, d)."""

    of_images: np.ndarray
    from_captions: np.ndarray

    def __len__(self) -> int:
        return len(self.of_images)

    @cached_property
    def standardiser(self) -> Standardiser:
        """The standardiser fitted on the images' embeddings."""
        return Standardiser.fit(self.of_images)

    def sample(self, rows: torch.Tensor, from_text: float, rng: torch.Generator) -> torch.Tensor:
        """Return one embedding per row, float32 (n, d): predicted from a caption with probability `from_text`."""
        of_images = torch.from_numpy(take_rows(self.of_images, rows)).float()
        from_captions = torch.from_numpy(take_rows(self.from_captions, rows)).float()
        variant = torch.randint(from_captions.shape[1], (len(rows),), generator=rng)
        chosen = from_captions[torch.arange(len(rows)), variant]
        return torch.where(torch.rand(len(rows), 1, generator=rng) < from_text, chosen, of_images)


def sampling_weights(parts: np.ndarray, pair_weight: float) -> torch.Tensor:
    """Return the sampling weight of each image (n,): `pair_weight` for scenes of two things, 1 for all others.

    `parts` (n, 3) as `precomputed.parts` returns it: two things and a setting, or fewer, padded with -1.
    """
    return torch.where(torch.from_numpy(parts[:, 2] >= 0), pair_weight, 1.0)
