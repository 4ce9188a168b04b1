"""Train the codec: 64 px to latents of 8 x 8 and back, from the principal components of patches onward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from clipkit.generation.codec import PATCH, PatchCodec
from clipkit.training.cache import as_input, draw
from clipkit.training.loop import Schedule, fit


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(Schedule):
    """The hyperparameters. The loss is the mean squared error of pixels: what PSNR measures."""

    steps: int = 2500
    batch: int = 32
    learning_rate: float = 1e-3
    decay: float = 0.6
    ema: float = 0.99
    size: int = 64
    latent_channels: int = 32
    widths: tuple[int, int] = (64, 128)
    encoder_blocks: int = 1
    decoder_blocks: int = 2

    def build(self) -> PatchCodec:
        """An untrained codec."""
        torch.manual_seed(self.seed)
        return PatchCodec(
            self.latent_channels, (0, 0, *self.widths), self.encoder_blocks, self.decoder_blocks, self.size
        )


def train(
    recipe: CodecRecipe,
    squares: np.ndarray,
    unseen: np.ndarray,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> PatchCodec:
    """Trains on `squares`, uint8 (n, size, size, 3); scores are of `unseen`. Resumes from `work`."""
    codec = recipe.build()
    start_at_principal_components(codec, squares[:3000])

    def loss_of(model: torch.nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(squares), (recipe.batch,), generator=rng)
        x = as_input(draw(squares, rows)).to(device)
        return F.mse_loss(model(x), x)

    fit(
        codec,
        recipe,
        loss_of,
        work / "codec.pt",
        device=device,
        report=report,
        evaluate=lambda model: {"psnr": psnr(model, unseen[:500], device)},
        stop_at=stop_at,
    )
    scale_latents(codec, squares[:3000], device)
    return codec


@torch.no_grad()
def start_at_principal_components(codec: PatchCodec, squares: np.ndarray) -> None:
    """Sets the linear half to the principal components of the patches, so that training starts from their error."""
    patches = F.pixel_unshuffle(as_input(squares), PATCH).permute(0, 2, 3, 1).flatten(0, 2).double()
    mean = patches.mean(0)
    _, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    components = vectors.flip(1)[:, : codec.config.latent_channels].float()
    codec.patch_mean.copy_(mean.float())
    codec.to_latents.weight.copy_(components.T[:, :, None, None])
    codec.to_patches.weight.copy_(components[:, :, None, None])


@torch.no_grad()
def scale_latents(codec: PatchCodec, squares: np.ndarray, device: str = "cpu") -> None:
    """Centres the latents and brings them to a mean square of 1, half-way to equal variances.

    Equal variances would have the decoder spend most of its capacity on the finest details; the raw ones spread over a
    factor of twenty, and noise would cover the coarse structure last.
    """
    z = torch.cat(
        [
            codec.encode(as_input(squares[i : i + 250]).to(device), return_dict=False)[0]
            for i in range(0, len(squares), 250)
        ]
    )
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    scale = std.clamp_min(1e-3).rsqrt()
    codec.latent_mean.copy_(mean)
    codec.latent_scale.copy_(scale / ((std * scale) ** 2).mean().sqrt())


@torch.inference_mode()
def psnr(codec: torch.nn.Module, squares: np.ndarray, device: str = "cpu") -> float:
    """Mean peak signal-to-noise ratio in dB of pictures through the codec, uint8 (n, size, size, 3)."""
    values = []
    for i in range(0, len(squares), 250):
        x = as_input(squares[i : i + 250]).to(device)
        error = ((codec(x).clamp(-1, 1) - x) / 2).square().mean((1, 2, 3))
        values.append(-10 * error.log10())
    return float(torch.cat(values).mean())
