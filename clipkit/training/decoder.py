"""Train the diffusion decoder: from an image embedding and its sketch to an image, for KandinskyV22Pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler, KandinskyV22Pipeline
from diffusers.utils import logging as diffusers_logging

from clipkit.generation.codec import PatchCodec
from clipkit.generation.decoder import quiet_diffusers
from clipkit.generation.sketch import Sketch
from clipkit.generation.sketch_unet import NOISE_SCHEDULE, SketchUNet
from clipkit.training.conditioning_data import ConditioningEmbeddings, Standardiser, sampling_weights
from clipkit.training.loop import Schedule, fit
from clipkit.training.precomputed import take_rows
from clipkit.training.tensors import to_tensor


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(Schedule):
    """The hyperparameters.

    The sketch is frozen. The network predicts the error of the linear estimate around the sketch, scaled to unit
    variance (`SketchUNet`).
    `unconditional`: the share of images without an embedding, for classifier-free guidance (Ho & Salimans, 2022).
    `from_text`: the share of embeddings that the linear prior predicts from a caption.
    `noise`: the standard deviation of noise added to the embeddings, relative to theirs.
    `softened`: the share of sketches that are blurred, so that the network does not rely on all of their detail.
    `timestep_mean`, `timestep_spread`: the logit-normal distribution of timesteps (Esser et al., "Scaling rectified
    flow transformers", ICML 2024).
    `crowded`: the sampling weight of images of two things.
    """

    steps: int = 2100
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    ema: float = 0.998
    channels: tuple[int, ...] = (96, 160)
    layers_per_block: int = 1
    time_embedding_dim: int = 512
    latent_scale: float = 3.0
    unconditional: float = 0.08
    from_text: float = 0.5
    noise: float = 0.15
    softened: float = 0.15
    timestep_mean: float = -0.3
    timestep_spread: float = 1.2
    crowded: float = 1.5

    def build(self, sketch: Sketch, standardiser: Standardiser) -> SketchUNet:
        """Return an untrained UNet around a trained sketch; it standardises embeddings as `standardiser` does."""
        torch.manual_seed(self.seed)
        features, cells, _ = sketch.grid
        unet = SketchUNet(
            encoder_hid_dim=len(standardiser.mean),
            in_channels=3 * sketch.patch**2,
            sample_size=cells,
            latent_scale=self.latent_scale,
            block_out_channels=self.channels,
            layers_per_block=self.layers_per_block,
            time_embedding_dim=self.time_embedding_dim,
            sketch_groups=sketch.groups,
            sketch_width=sketch.body[0].out_features,
            sketch_details=sketch.details.out_features,
            sketch_features=features,
        )
        unet.sketch.load_state_dict(sketch.state_dict())
        unet.sketch.requires_grad_(False)
        unet.embedding_mean.copy_(standardiser.mean)
        unet.embedding_std.copy_(standardiser.std)
        return unet

    @property
    def sampler(self) -> DPMSolverMultistepScheduler:
        """The sampler that ships with the decoder: second-order DPM-Solver++ (Lu et al., 2022)."""
        return DPMSolverMultistepScheduler(**NOISE_SCHEDULE)


def build_codec(unet: SketchUNet) -> PatchCodec:
    """Return the codec for the UNet's latents."""
    codec = PatchCodec(latent_scale=unet.config.latent_scale, sample_size=unet.config.sample_size * unet.patch)
    codec.basis.copy_(unet.basis)
    return codec.to(unet.device)


def build_pipeline(unet: SketchUNet, recipe: DecoderRecipe) -> KandinskyV22Pipeline:
    """Return the stock pipeline with the UNet, its codec and the recipe's sampler."""
    diffusers_logging.set_verbosity_error()  # it warns that UNet and codec are not its own classes
    return KandinskyV22Pipeline(unet=unet, scheduler=recipe.sampler, movq=build_codec(unet))


def load_pipeline(folder: Path) -> KandinskyV22Pipeline:
    """Load a trained decoder from its folder, in float32 on the CPU."""
    with quiet_diffusers():
        return KandinskyV22Pipeline.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False)


@torch.no_grad()
def fit_residual(unet: SketchUNet, images: np.ndarray, embeddings: torch.Tensor) -> None:
    """Set the UNet's basis to the principal components of the sketch's residual, and its standard deviations.

    The residual is measured on the patches of images, uint8 (n, side, side, 3), with embeddings (n, d).
    """

    def patches(latents: torch.Tensor) -> torch.Tensor:
        return latents.permute(0, 2, 3, 1).flatten(0, 2).double()

    clean = build_codec(unet).encode(to_tensor(images), return_dict=False)[0]
    residual = patches(clean - unet.sketched(embeddings))
    _, directions = torch.linalg.eigh(residual.T @ residual / len(residual))
    directions = directions.flip(1)  # by descending variance
    unet.basis.copy_(directions.T.float() @ unet.basis)
    unet.deviation.copy_((residual @ directions).square().mean(0).sqrt().clamp_min(1e-2).float())
    unet.unconditional_deviation.copy_((patches(clean) @ directions).square().mean(0).sqrt().clamp_min(1e-2).float())


def train(
    recipe: DecoderRecipe,
    sketch: Sketch,
    images: np.ndarray,
    conditions: ConditioningEmbeddings,
    work: Path,
    *,
    parts: np.ndarray | None = None,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    evaluate: Callable[[SketchUNet], dict] | None = None,
    stop_at: int | None = None,
) -> SketchUNet:
    """Train on images, uint8 (n, side, side, 3), and their embeddings; resume from the checkpoint in `work`.

    `parts` (n, 3): part ids padded with -1, for the sampling weights; uniform sampling if None.
    """
    std = conditions.standardiser.std
    weights = torch.ones(len(images)) if parts is None else sampling_weights(parts, recipe.crowded)

    def sample_batch(count: int, rng: torch.Generator) -> tuple[np.ndarray, torch.Tensor]:
        """Return images and their embeddings with noise."""
        rows = torch.multinomial(weights, count, replacement=True, generator=rng)
        embeddings = conditions.sample(rows, recipe.from_text, rng)
        noise = torch.randn(embeddings.shape, generator=rng)
        return take_rows(images, rows), embeddings + recipe.noise * std * noise

    unet = recipe.build(sketch, conditions.standardiser)
    fit_residual(unet, *sample_batch(1024, torch.Generator().manual_seed(recipe.seed)))
    codec = build_codec(unet)
    # Weight errors by their size in pixels, not by its square, so that fine detail counts too.
    importance = (unet.deviation / unet.deviation.mean()).view(1, -1, 1, 1).to(device)

    def loss_of(model: SketchUNet, rng: torch.Generator) -> torch.Tensor:
        batch, embeddings = sample_batch(recipe.batch, rng)
        clean = codec.encode(to_tensor(batch), return_dict=False)[0].to(device)
        uniform = torch.rand(recipe.batch, 2, generator=rng).to(device)
        embeddings = torch.where(uniform[:, :1] < recipe.unconditional, 0.0, embeddings.to(device))
        logits = recipe.timestep_mean + recipe.timestep_spread * torch.randn(recipe.batch, generator=rng)
        t = (logits.sigmoid() * len(model.alphas_cumprod)).long().to(device)
        with torch.no_grad():
            mean, known, condition = model.condition(embeddings, clean.dtype)
            blurred = F.avg_pool2d(F.pad(mean, (1, 1, 1, 1), mode="replicate"), 3, 1)
            mean = torch.where((uniform[:, 1] < recipe.softened)[:, None, None, None], blurred, mean)
            signal, sigma = model.levels(t)
            noise = torch.randn(clean.shape, generator=rng).to(device)
            noisy, velocity = signal * clean + sigma * noise, signal * noise - sigma * clean
            residual, estimate, error = model.linear_estimate(noisy, t, mean, known)
            target = (velocity - estimate) / error
        error = model.correction(residual, mean, t, condition).float() - target
        return (importance * error.square()).mean()

    fit(
        unet,
        recipe,
        loss_of,
        work / "decoder.pt",
        device=device,
        report=report,
        evaluate=evaluate,
        evaluate_every_s=480,
        stop_at=stop_at,
    )
    return unet
