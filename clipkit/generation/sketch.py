"""The sketch: a small picture that a perceptron makes of an image embedding, for a diffusion decoder to go by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SHARPNESS = 3.0
"""The inverse temperature at which the sketch decides between the parts of a group."""
ABSENT = -1.25
"""The log odds below which none of a group's parts is drawn: in doubt, something rather than nothing."""


class Sketch(nn.Module):
    """A perceptron from embeddings to pictures in two layers: a background, a foreground, and the mask between them.

    In its middle it names what the picture shows. `groups` are the sizes of groups of parts, at most one of each group
    in a picture: in the sample world, the things that may be on the left, those that may be on the right, ..., and the
    settings. It draws the likeliest of each group, so that a doubt between two things gives one of them and not their
    mean, and `details` more numbers tell what the parts leave open. Without groups it draws from these alone.

    Each patch of `patch` x `patch` pixels gets `features` numbers, which a network that all patches share turns into
    pixels. Trained by regression, the sketch is sharp where the embedding decides and blurred where it does not.
    """

    def __init__(
        self,
        embedding_dim: int,
        side: int,
        *,
        groups: tuple[int, ...] = (),
        patch: int = 4,
        width: int = 1024,
        details: int = 64,
        features: int = 32,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.groups, self.patch, self.grid = tuple(groups), patch, (features, side // patch, side // patch)
        self.body = nn.Sequential(
            nn.Linear(embedding_dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.names = nn.Linear(width, sum(groups)) if groups else None
        self.details = nn.Linear(width, details)
        self.cells = nn.Linear(sum(groups) + details, features * (side // patch) ** 2)
        self.draw = nn.Sequential(nn.Conv2d(features, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, 7 * patch**2, 1))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, d), of mean 0 and variance 1, to pictures (n, 3, side, side), about [-1, 1]."""
        hidden = self.body(embeddings)
        parts = hidden[:, :0] if self.names is None else self.decided(self.names(hidden))
        return self.drawn(parts, self.details(hidden))

    def decided(self, logits: torch.Tensor) -> torch.Tensor:
        """Turn logits of the parts (n, parts) into how much of each to draw, in [0, 1]: in each group nearly one part,
        or none."""
        chosen = [
            (SHARPNESS * group).softmax(1) * (SHARPNESS * (group.logsumexp(1, keepdim=True) - ABSENT)).sigmoid()
            for group in logits.split(self.groups, 1)
        ]
        return torch.cat(chosen, 1)

    def drawn(self, parts: torch.Tensor, details: torch.Tensor) -> torch.Tensor:
        """Draw parts (n, parts) in [0, 1] and details (n, details): pictures (n, 3, side, side)."""
        cells = self.cells(torch.cat([parts, details], 1)).view(len(parts), *self.grid)
        background, foreground, mask = F.pixel_shuffle(self.draw(cells), self.patch).split([3, 3, 1], 1)
        return torch.lerp(background, foreground, mask.sigmoid())
