"""The sketch: a small picture that a perceptron draws from an image embedding, to guide a diffusion decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SHARPNESS = 3.0
"""Inverse temperature of the softmax over the parts of a group."""
ABSENT = -1.25
"""Log odds below which no part of a group is drawn; negative, because a doubtful part is better than none."""

UNCHANGED, OPAQUE = 0.12, 0.29
"""Changes of pixels in [-1, 1] at which a thing is transparent, and opaque; see `Sketch.matted`."""


class Sketch(nn.Module):
    """A perceptron from embeddings to pictures, composed of a background, a foreground, and a mask.

    A bottleneck names what the picture shows. `groups`: sizes of groups of parts, with at most one part of each group
    in a picture; in the sample world, the things on the left, the things on the right, ..., and the settings. Drawing
    only the likeliest part avoids blending two candidates. `details` more numbers hold what the parts leave open;
    without groups, they are all there is.

    Each patch of `patch` x `patch` pixels gets `features` numbers, which a network shared by all patches turns into
    pixels. Trained by regression, the sketch is sharp where the embedding determines the pixels, and blurred elsewhere.
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
        """Draw pictures (n, 3, side, side), about [-1, 1], from embeddings (n, d) of mean 0 and variance 1."""
        hidden = self.body(embeddings)
        parts = hidden[:, :0] if self.names is None else self.decided(self.names(hidden))
        return self.drawn(parts, self.details(hidden))

    def matted(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw pictures as `forward` does, and return them with the opacity of their things, (n, 1, side, side).

        A thing is where the picture changes if all groups but the last, the settings, are left out.
        """
        hidden = self.body(embeddings)
        if self.names is None:
            pictures = self.drawn(hidden[:, :0], self.details(hidden))
            return pictures, torch.ones_like(pictures[:, :1])
        parts, details = self.decided(self.names(hidden)), self.details(hidden)
        pictures = self.drawn(parts, details)
        things = sum(self.groups[:-1])
        without = self.drawn(torch.cat([torch.zeros_like(parts[:, :things]), parts[:, things:]], 1), details)
        change = (pictures - without).abs().amax(1, keepdim=True)
        change = F.avg_pool2d(F.pad(change, (2, 2, 2, 2), mode="replicate"), 5, 1)
        return pictures, ((change - UNCHANGED) / (OPAQUE - UNCHANGED)).clamp(0, 1)

    def decided(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the opacity in [0, 1] of each part from logits (n, parts): nearly one part of each group, or none."""
        chosen = [
            (SHARPNESS * group).softmax(1) * (SHARPNESS * (group.logsumexp(1, keepdim=True) - ABSENT)).sigmoid()
            for group in logits.split(self.groups, 1)
        ]
        return torch.cat(chosen, 1)

    def drawn(self, parts: torch.Tensor, details: torch.Tensor) -> torch.Tensor:
        """Draw pictures (n, 3, side, side) from parts (n, parts) in [0, 1] and details (n, details)."""
        cells = self.cells(torch.cat([parts, details], 1)).view(len(parts), *self.grid)
        background, foreground, mask = F.pixel_shuffle(self.draw(cells), self.patch).split([3, 3, 1], 1)
        return torch.lerp(background, foreground, mask.sigmoid())
