"""Train the upsampler on 64 px outputs of the decoder, with the true images at 256 px as targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import KandinskyV22Pipeline
from PIL import Image

from clipkit.generation.upsampler import Upsampler
from clipkit.training.loop import Schedule, fit
from clipkit.training.precomputed import take_rows
from clipkit.training.tensors import to_images, to_tensor


@dataclass(frozen=True, kw_only=True)
class UpsamplerRecipe(Schedule):
    """The hyperparameters.

    The loss is the L1 error on random crops of `cut` x `cut` pixels of the small image. Half of the inputs are decoder
    outputs, the others true images with random blur and noise of a standard deviation up to `degraded`. A share of
    `unknown` embeddings are zeroed.
    """

    steps: int = 1500
    batch: int = 12
    learning_rate: float = 1.5e-3
    decay: float = 0.6
    ema: float = 0.99
    width: int = 48
    middle: int = 96
    blocks: int = 3
    factor: int = 4
    cut: int = 32
    degraded: float = 0.06
    unknown: float = 0.1


def train(
    recipe: UpsamplerRecipe,
    small: np.ndarray,
    decoded: np.ndarray,
    large: np.ndarray,
    embeddings: np.ndarray,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> Upsampler:
    """Train on images and their embeddings (n, d); resume from the checkpoint in `work`.

    `small`: the true images, uint8 (n, s, s, 3).
    `decoded`: the same images as the decoder renders them (`sdedit`).
    `large`: the true images, uint8 (n, factor * s, factor * s, 3).
    """
    torch.manual_seed(recipe.seed)
    model = Upsampler(embeddings.shape[1], recipe.width, recipe.middle, recipe.blocks, recipe.factor)
    x = torch.from_numpy(embeddings.astype(np.float32))
    model.embedding_mean.copy_(x.mean(0))
    model.embedding_std.copy_(x.std(0).clamp_min(1e-6))
    side, factor = recipe.cut, recipe.factor

    def loss_of(model: torch.nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(small), (recipe.batch,), generator=rng)
        y, x = (2 * torch.randint((small.shape[1] - side) // 2 + 1, (2,), generator=rng)).tolist()
        true, output = (to_tensor(take_rows(a, rows)[:, y : y + side, x : x + side]) for a in (small, decoded))
        uniform = torch.rand(len(rows), 2, generator=rng)
        crop = torch.where((uniform[:, 0] < 0.5)[:, None, None, None], output, _degrade(true, recipe.degraded, rng))
        condition = torch.from_numpy(take_rows(embeddings, rows)).float()
        condition = torch.where(uniform[:, 1:] < recipe.unknown, 0.0, condition)
        y, x, large_side = y * factor, x * factor, side * factor
        target = to_tensor(take_rows(large, rows)[:, y : y + large_side, x : x + large_side])
        return F.l1_loss(model(crop.to(device), condition.to(device)), target.to(device))

    fit(model, recipe, loss_of, work / "upsampler.pt", device=device, report=report, stop_at=stop_at)
    return model


def _degrade(x: torch.Tensor, max_noise: float, rng: torch.Generator) -> torch.Tensor:
    n = len(x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, blurred, 0.7 * torch.rand(n, 1, 1, 1, generator=rng))
    return x + max_noise * torch.rand(n, 1, 1, 1, generator=rng) * torch.randn(x.shape, generator=rng)


@torch.inference_mode()
def sdedit(
    pipeline: KandinskyV22Pipeline, images: np.ndarray, embeddings: np.ndarray, *, steps: int = 20, last: int = 6
) -> np.ndarray:
    """Return images, uint8 (n, s, s, 3), as the decoder would render them.

    They are noised part of the way and denoised by the last `last` of `steps` steps (Meng et al., "SDEdit", ICLR 2022).
    """
    scheduler, unet, codec = pipeline.scheduler, pipeline.unet, pipeline.movq
    rng, out = torch.Generator().manual_seed(0), []
    for i in range(0, len(images), 50):
        clean = codec.encode(to_tensor(images[i : i + 50]).to(pipeline.device), return_dict=False)[0]
        condition = torch.from_numpy(embeddings[i : i + 50].astype(np.float32)).to(pipeline.device)
        scheduler.set_timesteps(steps)
        scheduler.set_begin_index(steps - last)
        first = scheduler.timesteps[steps - last]
        latents = scheduler.add_noise(clean, torch.randn(clean.shape, generator=rng).to(clean), first[None])
        for t in scheduler.timesteps[steps - last :]:
            latents = scheduler.step(unet.velocity(latents, t, condition), t, latents).prev_sample
        out.append(to_images(codec.decode(latents, return_dict=False)[0]))
    return np.concatenate(out)


@torch.inference_mode()
def upsample(model: Upsampler, images: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Upsample uint8 (n, s, s, 3) with embeddings (n, d) to uint8 (n, factor * s, factor * s, 3)."""
    parts = []
    for i in range(0, len(images), 25):
        condition = torch.from_numpy(embeddings[i : i + 25].astype(np.float32))
        parts.append(to_images(model(to_tensor(images[i : i + 25]), condition)))
    return np.concatenate(parts)


def upsample_lanczos(images: np.ndarray, factor: int = 4) -> np.ndarray:
    """Upsample by Lanczos resampling, the baseline for the upsampler."""
    size = images.shape[1] * factor
    return np.stack([np.asarray(Image.fromarray(s).resize((size, size), Image.Resampling.LANCZOS)) for s in images])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean peak signal-to-noise ratio in dB of images, uint8 (n, h, w, 3)."""
    error = ((a.astype(np.float32) - b.astype(np.float32)) / 255) ** 2
    return float((-10 * np.log10(error.mean((1, 2, 3)).clip(1e-10))).mean())
