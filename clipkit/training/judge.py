"""The judge of generated scenes: which things a picture shows, where, and in what setting.

It shares nothing with the conditioning CLIP: another architecture, other scenes (all combinations, held-out ones too),
another objective, and augmentation that blurs, tints and adds noise, so that it forgives what a person forgives.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from clipkit.training.cache import as_input
from clipkit.training.loop import Schedule, fit
from clipkit.training.painting import paint
from clipkit.training.world import Scene, random_scene, settings, things


@dataclass(frozen=True, kw_only=True)
class JudgeRecipe(Schedule):
    """The hyperparameters; every picture is painted for its step and seen once."""

    steps: int = 2500
    batch: int = 64
    learning_rate: float = 2e-3
    decay: float = 0.6
    weight_decay: float = 0.05
    ema: float = 0.99
    size: int = 64
    seed: int = 7777


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in n pictures.

    `things` float32 (n, number of things): logits that each is there. `places` float32 (n, number of things, 2): where
    it would be, x and y as fractions of the side. `settings` float32 (n, number of settings): logits. `features`
    float32 (n, 128): the pooled features, for Frechet distances.
    """

    things: np.ndarray
    places: np.ndarray
    settings: np.ndarray
    features: np.ndarray


class Judge(nn.Module):
    """A plain convolutional network whose last map of 8 x 8 cells says of each thing where it is."""

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
            )

        self.body = nn.Sequential(
            block(3, 32, 2), block(32, 64, 2), block(64, 96, 1), block(96, 128, 2), block(128, 128, 1),
            block(128, 128, 1),
        )  # fmt: skip
        self.cells = nn.Conv2d(128, len(things()), 1)
        self.setting = nn.Linear(128, len(settings()))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels in [-1, 1], (n, 3, 64, 64), to (things, places, settings, features) as in `Verdict`."""
        features = self.body(x)
        cells = self.cells(features)
        n, _, h, w = cells.shape
        where = cells.flatten(2).softmax(-1).view(n, -1, h, w)
        ys, xs = ((torch.arange(k, device=x.device) + 0.5) / k for k in (h, w))
        places = torch.stack([(where.sum(2) * xs).sum(-1), (where.sum(3) * ys).sum(-1)], -1)
        pooled = features.mean((2, 3))
        return cells.flatten(2).logsumexp(-1), places, self.setting(pooled), pooled

    @torch.inference_mode()
    def look(self, squares: np.ndarray) -> Verdict:
        """uint8 (n, 64, 64, 3) to what they show."""
        device = self.setting.weight.device
        parts = [
            [out.cpu().numpy() for out in self(as_input(squares[i : i + 250]).to(device))]
            for i in range(0, len(squares), 250)
        ]
        return Verdict(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def train(
    recipe: JudgeRecipe,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> Judge:
    """Trains on freshly painted scenes; resumes from `work`."""
    torch.manual_seed(recipe.seed)
    judge = Judge()
    # A thing is rarely there: starting from that saves the first hundreds of steps.
    assert judge.cells.bias is not None
    nn.init.constant_(judge.cells.bias, -8.0)

    def loss_of(model: nn.Module, rng: torch.Generator) -> torch.Tensor:
        scenes_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
        batch = [random_scene(scenes_rng) for _ in range(recipe.batch)]
        x = as_input(np.stack([np.asarray(paint(scene, recipe.size)) for scene in batch]))
        present, places, setting = (target.to(device) for target in targets(batch))
        logits, found, setting_logits, _ = model(degraded(x, rng).to(device))
        seen = F.binary_cross_entropy_with_logits(logits, present, reduction="none").sum(1).mean()
        distance = ((found - places).abs().sum(-1) * present).sum() / present.sum()
        return seen + 2 * distance + F.cross_entropy(setting_logits, setting)

    fit(judge, recipe, loss_of, work / "judge.pt", device=device, report=report, stop_at=stop_at)
    return judge


def targets(batch: list[Scene]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is true of scenes: things (n, t) 0 or 1, their places (n, t, 2), settings (n,)."""
    present, places = torch.zeros(len(batch), len(things())), torch.zeros(len(batch), len(things()), 2)
    for i, scene in enumerate(batch):
        for placed in scene.placed:
            present[i, placed.thing.index] = 1
            places[i, placed.thing.index] = torch.tensor([placed.x, placed.y])
    return present, places, torch.tensor([scene.setting.index for scene in batch])


def degraded(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Pictures tinted, some blurred, some noisy: (n, 3, h, w) in [-1, 1]."""
    n = len(x)
    contrast = 1 + 0.3 * (torch.rand(n, 1, 1, 1, generator=rng) - 0.5)
    tint = 0.2 * (torch.rand(n, 3, 1, 1, generator=rng) - 0.5)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, blurred, torch.rand(n, 1, 1, 1, generator=rng) * (torch.rand(n, 1, 1, 1, generator=rng) < 0.6))
    noise = torch.randn(x.shape, generator=rng) * 0.12 * torch.rand(n, 1, 1, 1, generator=rng)
    return (x * contrast + tint + noise).clamp(-1, 1)


def save(judge: Judge, path: Path) -> None:
    """Writes the weights as fp16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, path)


def load(path: Path) -> Judge:
    """The judge from its weights, in evaluation mode."""
    judge = Judge()
    judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return judge.eval()
