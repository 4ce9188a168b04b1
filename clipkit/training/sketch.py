"""Train the sketch: a perceptron from an image embedding to a small picture.

Which thing is where is most of what it has to learn, and pixels teach that slowly. Where the parts of the pictures are
known, its body learns to name them, and its drawing layers learn to draw what is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from clipkit.generation.sketch import Sketch
from clipkit.training.cache import as_input, draw
from clipkit.training.conditioning import Conditions, chances
from clipkit.training.loop import Schedule, fit


@dataclass(frozen=True, kw_only=True)
class SketchRecipe(Schedule):
    """The hyperparameters.

    Of each batch, `batch` pictures are drawn, and they and `named` more embeddings are named, half of these guesses
    from captions without a picture. `crowded`: how often pictures of two things are drawn. `noise`: the deviation of
    the noise added to embeddings, in units of theirs, against learning them by heart.
    """

    steps: int = 4500
    batch: int = 128
    learning_rate: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.02
    named: int = 320
    from_text: float = 0.6
    crowded: float = 2.5
    noise: float = 0.15
    width: int = 1024
    details: int = 64
    features: int = 32

    def build(self, embedding_dim: int, side: int, groups: tuple[int, ...]) -> Sketch:
        """Return an untrained sketch; its foreground starts mostly transparent, and its parts unlikely."""
        torch.manual_seed(self.seed)
        details = self.details if groups else self.width
        sketch = Sketch(embedding_dim, side, groups=groups, width=self.width, details=details, features=self.features)
        with torch.no_grad():
            mask = sketch.draw[-1]
            assert isinstance(mask, nn.Conv2d) and mask.bias is not None
            mask.bias[6 * sketch.patch**2 :].fill_(-1.0)
            if sketch.names is not None:
                sketch.names.bias.fill_(-5.0)
        return sketch


def train(
    recipe: SketchRecipe,
    squares: np.ndarray,
    conditions: Conditions,
    parts: np.ndarray,
    groups: tuple[int, ...],
    work: Path,
    *,
    more: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> Sketch:
    """Train on pictures, uint8 (n, side, side, 3), with their conditions; resume from `work`.

    `parts` (n, 3): what each shows, numbers filled up with -1; `groups`: the sizes of their groups, none for unknown.
    `more`: guessed embeddings (m, d) of captions without pictures, and their parts (m, 3). The sketch takes embeddings
    that are scaled by `conditions.scale`.
    """
    sketch = recipe.build(conditions.own.shape[1], squares.shape[1], groups)
    scale, weights, part_count = conditions.scale, chances(parts, recipe.crowded), sum(groups)

    def pictured(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows, and their embeddings."""
        rows = torch.multinomial(weights, count, replacement=True, generator=rng)
        return rows, scale(conditions.draw(rows, recipe.from_text, rng))

    def to_name(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and their parts: of pictures, and of captions without pictures where there are any."""
        rows, x = pictured(recipe.named if more is None else recipe.named // 2, rng)
        there = multi_hot(parts[rows.numpy()], part_count)
        if more is None:
            return x, there
        picked = torch.randint(len(more[0]), (recipe.named // 2,), generator=rng)
        x = torch.cat([x, scale(torch.from_numpy(draw(more[0], picked)).float())])
        return x, torch.cat([there, multi_hot(draw(more[1], picked), part_count)])

    def loss_of(model: Sketch, rng: torch.Generator) -> torch.Tensor:
        rows, x = pictured(recipe.batch, rng)
        there = multi_hot(parts[rows.numpy()], part_count)
        if groups:
            more_x, more_there = to_name(rng)
            x, there = torch.cat([x, more_x]), torch.cat([there, more_there])
        there = there.to(device)
        hidden = model.body((x + recipe.noise * torch.randn(x.shape, generator=rng)).to(device))
        # The true parts are drawn: what is named wrongly must not be drawn as something else.
        drawn = model.drawn(there[: len(rows)], model.details(hidden[: len(rows)]))
        error = F.mse_loss(drawn, as_input(draw(squares, rows)).to(device))
        if model.names is None:
            return error
        naming = F.binary_cross_entropy_with_logits(model.names(hidden), there, reduction="none").sum(1).mean()
        return 10 * error + 0.3 * naming

    naming_layers = [*sketch.body.parameters(), *sketch.names.parameters()] if sketch.names is not None else []
    fit(
        sketch,
        recipe,
        loss_of,
        work / "sketch.pt",
        device=device,
        report=report,
        stop_at=stop_at,
        slow=naming_layers,
    )
    return sketch


def multi_hot(parts: np.ndarray, part_count: int) -> torch.Tensor:
    """Return parts (n, k), filled up with -1, as zeros and ones (n, part_count)."""
    out = torch.zeros(len(parts), part_count + 1)
    out.scatter_(1, torch.from_numpy(np.where(parts < 0, part_count, parts).astype(np.int64)), 1.0)
    return out[:, :-1]
