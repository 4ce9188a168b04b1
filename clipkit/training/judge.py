"""Classify generated scenes by shape: which things an image shows, where, and in which setting, or nothing at all.

The judge shares nothing with the CLIP model that conditions the decoder. It sees things in grey, through random
mixtures of the colour channels, inverted and at random contrast, so that it cannot rely on colour. About half of its
training sprites have their shape destroyed (`scrambling.py`) and are negatives, so that it cannot rely on texture.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from clipkit.samples.painting import paint, sprite_of
from clipkit.samples.world import Scene, random_scene, settings, things
from clipkit.training.loop import Schedule, fit
from clipkit.training.poses import in_canonical_poses
from clipkit.training.scrambling import scramble
from clipkit.training.tensors import to_tensor

LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class JudgeRecipe(Schedule):
    """The hyperparameters. Every training image is freshly painted and seen once.

    `scrambled`: the share of scenes with scrambled sprites; in half of these scenes all sprites are, in the others each
    with probability one half.
    `canonical`: the share of scenes in canonical poses.
    `undertrained`: how many images of a batch are replaced by outputs of an undertrained decoder, if there are any.
    """

    steps: int = 2600
    batch: int = 64
    learning_rate: float = 2e-3
    decay: float = 0.7
    weight_decay: float = 0.05
    ema: float = 0.99
    size: int = 64
    scrambled: float = 0.6
    canonical: float = 0.3
    undertrained: int = 6
    seed: int = 7777


@dataclass(frozen=True)
class Verdict:
    """The judge's predictions for n images, float32.

    `things` (n, number of things): the probability that each is recognisably present.
    `places` (n, number of things, 2): where it would be, x and y as fractions of the side.
    `settings` (n, number of settings): logits.
    `features` (n, d): the pooled features of both trunks, for Frechet distances.
    """

    things: np.ndarray
    places: np.ndarray
    settings: np.ndarray
    features: np.ndarray

    THRESHOLD = 0.3
    """The probability above which a thing counts as recognised."""

    @property
    def nothing(self) -> np.ndarray:
        """Whether each image shows nothing recognisable, bool (n,)."""
        return self.things.max(1) < self.THRESHOLD


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Judge(nn.Module):
    """Two plain convolutional networks: one recognises shapes in grey, the other the setting in colour.

    The last feature map of the first, 8 x 8 cells, localises each thing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shape = nn.Sequential(
            nn.Conv2d(1, 24, 5, 2, 2, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            _block(24, 48, 1),
            _block(48, 80, 2),
            _block(80, 80, 1),
            _block(80, 128, 2),
            _block(128, 128, 1),
            _block(128, 128, 1),
        )
        self.cells = nn.Conv2d(128, len(things()), 1)
        self.surroundings = nn.Sequential(nn.AvgPool2d(2), _block(3, 24, 2), _block(24, 48, 1), _block(48, 64, 2))
        self.setting = nn.Linear(64, len(settings()))

    def forward(
        self, grey: torch.Tensor, colour: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits of things, places, logits of settings and features, shaped as in `Verdict`.

        `grey` (n, 1, 64, 64) has mean 0 and standard deviation 1 per image; `colour` (n, 3, 64, 64) is in [-1, 1].
        """
        features = self.shape(grey)
        cells = self.cells(features)
        n, _, h, w = cells.shape
        where = cells.flatten(2).softmax(-1).view(n, -1, h, w)
        ys, xs = ((torch.arange(k, device=grey.device) + 0.5) / k for k in (h, w))
        places = torch.stack([(where.sum(2) * xs).sum(-1), (where.sum(3) * ys).sum(-1)], -1)
        around = self.surroundings(colour).mean((2, 3))
        pooled = torch.cat([features.mean((2, 3)), around], 1)
        return cells.flatten(2).logsumexp(-1), places, self.setting(around), pooled

    @torch.inference_mode()
    def predict(self, images: np.ndarray) -> Verdict:
        """Classify images, uint8 (n, 64, 64, 3)."""
        device = self.setting.weight.device
        parts = []
        for i in range(0, len(images), 250):
            x = to_tensor(images[i : i + 250]).to(device)
            grey = standardise((x * torch.tensor(LUMINANCE, device=device).view(1, 3, 1, 1)).sum(1, keepdim=True))
            logits, places, setting, features = self(grey, x)
            parts.append([out.cpu().numpy() for out in (logits.sigmoid(), places, setting, features)])
        return Verdict(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def train(
    recipe: JudgeRecipe,
    work: Path,
    *,
    undertrained: np.ndarray | None = None,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> Judge:
    """Train on freshly painted scenes; resume from the checkpoint in `work`.

    `undertrained`: images that show nothing recognisable, uint8 (n, 64, 64, 3).
    """
    torch.manual_seed(recipe.seed)
    judge = Judge()
    # Each thing is rarely present: a low initial bias saves the first hundreds of steps.
    assert judge.cells.bias is not None
    nn.init.constant_(judge.cells.bias, -8.0)

    def loss_of(model: nn.Module, rng: torch.Generator) -> torch.Tensor:
        scenes_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
        batch = [training_example(scenes_rng, recipe) for _ in range(recipe.batch)]
        x = to_tensor(np.stack([image for image, _, _ in batch]))
        present, places, setting = (t.to(device) for t in targets([(scene, intact) for _, scene, intact in batch]))
        known = torch.ones(len(batch), device=device)
        if undertrained is not None and len(undertrained):
            rows = torch.randint(len(undertrained), (recipe.undertrained,), generator=rng)
            x[: len(rows)] = to_tensor(undertrained[rows.numpy()])
            present[: len(rows)], known[: len(rows)] = 0, 0
        logits, predicted, setting_logits, _ = model(augment_grey(x, rng).to(device), augment_colour(x, rng).to(device))
        presence_loss = F.binary_cross_entropy_with_logits(logits, present, reduction="none").sum(1).mean()
        place_loss = ((predicted - places).abs().sum(-1) * present).sum() / present.sum()
        setting_loss = F.cross_entropy(setting_logits, setting, reduction="none")
        return presence_loss + 2 * place_loss + (setting_loss * known).sum() / known.sum()

    fit(judge, recipe, loss_of, work / "judge.pt", device=device, report=report, stop_at=stop_at)
    return judge


def training_example(rng: random.Random, recipe: JudgeRecipe) -> tuple[np.ndarray, Scene, list[bool]]:
    """Return an image, uint8 (size, size, 3), its scene, and which of its things are intact."""
    scene = random_scene(rng)
    if rng.random() < recipe.canonical:
        scene = in_canonical_poses(scene)
    probability = 0.0
    if rng.random() < recipe.scrambled:
        probability = rng.choice((0.5, 1.0))
    intact = [rng.random() >= probability for _ in scene.placed]

    def alter(number: int, sprite: Image.Image) -> Image.Image:
        if intact[number]:
            return sprite
        other = sprite_of(rng.randrange(len(things())), sprite.width)
        return scramble(sprite, other, rng)

    return np.asarray(paint(scene, recipe.size, alter)), scene, intact


def targets(batch: list[tuple[Scene, list[bool]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the labels of scenes: intact things, 0 or 1 (n, t), their places (n, t, 2), and settings (n,)."""
    present, places = torch.zeros(len(batch), len(things())), torch.zeros(len(batch), len(things()), 2)
    for i, (scene, intact) in enumerate(batch):
        for placed, is_intact in zip(scene.placed, intact, strict=True):
            present[i, placed.thing.index] = float(is_intact)
            places[i, placed.thing.index] = torch.tensor([placed.x, placed.y])
    return present, places, torch.tensor([scene.setting.index for scene, _ in batch])


def standardise(grey: torch.Tensor) -> torch.Tensor:
    """Scale each image of (n, 1, h, w) to mean 0 and standard deviation 1."""
    mean, std = grey.mean((1, 2, 3), keepdim=True), grey.std((1, 2, 3), keepdim=True)
    return (grey - mean) / std.clamp_min(0.02)


def augment_grey(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Convert images (n, 3, h, w) in [-1, 1] to augmented grey (n, 1, h, w).

    Luminance or a random mixture of the channels; random gamma, inversion, blur and noise.
    """
    n = len(x)
    mix = torch.rand(n, 3, 1, 1, generator=rng)
    mix = mix / mix.sum(1, keepdim=True)
    luminance = torch.tensor(LUMINANCE).view(1, 3, 1, 1)
    grey = (x * torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 0.5, luminance, mix)).sum(1, keepdim=True)
    gamma = (0.5 * torch.randn(n, 1, 1, 1, generator=rng)).exp()
    grey = ((grey + 1) / 2).clamp(1e-4, 1) ** gamma * 2 - 1
    grey = torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 0.25, -grey, grey)
    grey = standardise(_blur_some(grey, rng))
    return grey + torch.randn(grey.shape, generator=rng) * 0.3 * torch.rand(n, 1, 1, 1, generator=rng)


def augment_colour(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Augment images (n, 3, h, w) in [-1, 1] with random contrast, tint, blur and noise."""
    n = len(x)
    contrast = 1 + 0.3 * (torch.rand(n, 1, 1, 1, generator=rng) - 0.5)
    tint = 0.2 * (torch.rand(n, 3, 1, 1, generator=rng) - 0.5)
    noise = torch.randn(x.shape, generator=rng) * 0.12 * torch.rand(n, 1, 1, 1, generator=rng)
    return (_blur_some(x, rng) * contrast + tint + noise).clamp(-1, 1)


def _blur_some(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Blend 60% of the images with their 3 x 3 mean, by a random amount."""
    n = len(x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(n, 1, 1, 1, generator=rng) * (torch.rand(n, 1, 1, 1, generator=rng) < 0.6)
    return torch.lerp(x, blurred, share)


def save(judge: Judge, path: Path) -> None:
    """Write the weights as fp16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, path)


def load(path: Path) -> Judge:
    """Load a judge from its weights, in evaluation mode."""
    judge = Judge()
    judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return judge.eval()
