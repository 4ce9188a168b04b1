"""Train the sketch: an MLP from an image embedding to a small image.

Most of what it has to learn is which thing is where, and a pixel loss teaches that slowly. Where the parts of the
images are annotated, its body is trained to classify them, and its drawing layers to draw the annotated parts.
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
from clipkit.training.conditioning_data import ConditioningEmbeddings, sampling_weights
from clipkit.training.loop import Schedule, fit
from clipkit.training.precomputed import take_rows
from clipkit.training.tensors import to_tensor


@dataclass(frozen=True, kw_only=True)
class SketchRecipe(Schedule):
    """The hyperparameters.

    The drawing loss is computed on `batch` images; the classification loss on these and on `named` more embeddings,
    half of them predicted from captions without an image.
    `from_text`: the share of embeddings that are predicted from a caption.
    `crowded`: the sampling weight of images of two things.
    `noise`: the standard deviation of noise added to the standardised embeddings, against overfitting.
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
        """Return an untrained sketch whose foreground starts mostly transparent and whose parts start improbable."""
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
    images: np.ndarray,
    conditions: ConditioningEmbeddings,
    parts: np.ndarray,
    groups: tuple[int, ...],
    work: Path,
    *,
    extra: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> Sketch:
    """Train on images, uint8 (n, side, side, 3), and their embeddings; resume from the checkpoint in `work`.

    `parts` (n, 3): the part ids of each image, padded with -1.
    `groups`: the sizes of the groups of parts; empty if parts are not annotated.
    `extra`: embeddings (m, d) predicted from captions without images, and their part ids (m, 3).
    The sketch takes embeddings standardised by `conditions.standardiser`.
    """
    sketch = recipe.build(conditions.of_images.shape[1], images.shape[1], groups)
    standardise, part_count = conditions.standardiser, sum(groups)
    weights = sampling_weights(parts, recipe.crowded)

    def sample_images(count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows and their standardised embeddings."""
        rows = torch.multinomial(weights, count, replacement=True, generator=rng)
        return rows, standardise(conditions.sample(rows, recipe.from_text, rng))

    def sample_labelled(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings and their labels for the classification loss alone."""
        rows, x = sample_images(recipe.named if extra is None else recipe.named // 2, rng)
        labels = multi_hot(parts[rows.numpy()], part_count)
        if extra is None:
            return x, labels
        picked = torch.randint(len(extra[0]), (recipe.named // 2,), generator=rng)
        x = torch.cat([x, standardise(torch.from_numpy(take_rows(extra[0], picked)).float())])
        return x, torch.cat([labels, multi_hot(take_rows(extra[1], picked), part_count)])

    def loss_of(model: Sketch, rng: torch.Generator) -> torch.Tensor:
        rows, x = sample_images(recipe.batch, rng)
        labels = multi_hot(parts[rows.numpy()], part_count)
        if groups:
            more_x, more_labels = sample_labelled(rng)
            x, labels = torch.cat([x, more_x]), torch.cat([labels, more_labels])
        labels = labels.to(device)
        hidden = model.body((x + recipe.noise * torch.randn(x.shape, generator=rng)).to(device))
        # Draw the true parts: drawing the predicted ones would teach misclassified parts to look like others.
        drawn = model.drawn(labels[: len(rows)], model.details(hidden[: len(rows)]))
        error = F.mse_loss(drawn, to_tensor(take_rows(images, rows)).to(device))
        if model.names is None:
            return error
        classification = F.binary_cross_entropy_with_logits(model.names(hidden), labels, reduction="none")
        return 10 * error + 0.3 * classification.sum(1).mean()

    classifier = [*sketch.body.parameters(), *sketch.names.parameters()] if sketch.names is not None else []
    fit(
        sketch,
        recipe,
        loss_of,
        work / "sketch.pt",
        device=device,
        report=report,
        stop_at=stop_at,
        slow_parameters=classifier,
    )
    return sketch


def multi_hot(parts: np.ndarray, part_count: int) -> torch.Tensor:
    """Convert part ids (n, k), padded with -1, to multi-hot float32 (n, part_count)."""
    out = torch.zeros(len(parts), part_count + 1)
    out.scatter_(1, torch.from_numpy(np.where(parts < 0, part_count, parts).astype(np.int64)), 1.0)
    return out[:, :-1]
