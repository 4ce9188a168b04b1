"""Train the diffusion decoder: from an image embedding and its sketch to a picture, for KandinskyV22Pipeline."""

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
from clipkit.training.cache import as_input, draw
from clipkit.training.conditioning import Conditions, Scale, chances
from clipkit.training.loop import Schedule, fit


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(Schedule):
    """The hyperparameters.

    The sketch is frozen. The network predicts, at unit variance, what the linear estimate around it misses
    (`SketchUNet`). `unconditional` of the pictures come without their embedding, for classifier-free guidance (Ho &
    Salimans, 2022); `from_text` come with the embedding that a linear prior makes of the caption; `noise` is added to
    embeddings as in the sketch's training, and the sketch of `softened` of the pictures is blurred, so that the network
    does not take all of the sketch's detail for granted.

    Timesteps are drawn logit-normally with mean `timestep_mean` and deviation `timestep_spread` (Esser et al., "Scaling
    rectified flow transformers", ICML 2024). Pictures of two things are drawn `crowded` times as often as others.
    """

    steps: int = 2000
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

    def build(self, sketch: Sketch, scale: Scale) -> SketchUNet:
        """Return an untrained UNet around a sketch of embeddings of that scale."""
        torch.manual_seed(self.seed)
        features, cells, _ = sketch.grid
        unet = SketchUNet(
            encoder_hid_dim=len(scale.mean),
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
        unet.embedding_mean.copy_(scale.mean)
        unet.embedding_std.copy_(scale.std)
        return unet

    @property
    def sampler(self) -> DPMSolverMultistepScheduler:
        """The sampler that ships with the decoder: DPM-Solver++ of second order (Lu et al., 2022)."""
        return DPMSolverMultistepScheduler(**NOISE_SCHEDULE)


def codec_of(unet: SketchUNet) -> PatchCodec:
    """The codec of the latents that the UNet takes."""
    codec = PatchCodec(latent_scale=unet.config.latent_scale, sample_size=unet.config.sample_size * unet.patch)
    codec.basis.copy_(unet.basis)
    return codec.to(unet.device)


def pipeline(unet: SketchUNet, recipe: DecoderRecipe) -> KandinskyV22Pipeline:
    """The stock pipeline around the parts."""
    diffusers_logging.set_verbosity_error()  # it remarks that UNet and codec are not its own classes
    return KandinskyV22Pipeline(unet=unet, scheduler=recipe.sampler, movq=codec_of(unet))


def load_pipeline(folder: Path) -> KandinskyV22Pipeline:
    """Load a trained decoder from its folder, in float32 on the CPU."""
    with quiet_diffusers():
        return KandinskyV22Pipeline.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False)


@torch.no_grad()
def fit_residual(unet: SketchUNet, squares: np.ndarray, embeddings: torch.Tensor) -> None:
    """Set the UNet's basis to the principal components of what the sketch leaves open of patches, and its deviations.

    `squares` are pictures, uint8 (n, side, side, 3), with their embeddings (n, d).
    """

    def patches(latents: torch.Tensor) -> torch.Tensor:
        return latents.permute(0, 2, 3, 1).flatten(0, 2).double()

    clean = codec_of(unet).encode(as_input(squares), return_dict=False)[0]
    open_part = patches(clean - unet.sketched(embeddings))
    _, directions = torch.linalg.eigh(open_part.T @ open_part / len(open_part))
    directions = directions.flip(1)  # the largest first
    unet.basis.copy_(directions.T.float() @ unet.basis)
    unet.deviation.copy_((open_part @ directions).square().mean(0).sqrt().clamp_min(1e-2).float())
    unet.unconditional_deviation.copy_((patches(clean) @ directions).square().mean(0).sqrt().clamp_min(1e-2).float())


def train(
    recipe: DecoderRecipe,
    sketch: Sketch,
    squares: np.ndarray,
    conditions: Conditions,
    work: Path,
    *,
    parts: np.ndarray | None = None,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    evaluate: Callable[[SketchUNet], dict] | None = None,
    stop_at: int | None = None,
) -> SketchUNet:
    """Train on pictures, uint8 (n, side, side, 3), with their conditions and `parts` (n, 3); resume from `work`."""
    scale = conditions.scale
    weights = torch.ones(len(squares)) if parts is None else chances(parts, recipe.crowded)

    def drawn(count: int, rng: torch.Generator) -> tuple[np.ndarray, torch.Tensor]:
        """Pictures, and their embeddings with noise."""
        rows = torch.multinomial(weights, count, replacement=True, generator=rng)
        embeddings = conditions.draw(rows, recipe.from_text, rng)
        return draw(squares, rows), embeddings + recipe.noise * scale.std * torch.randn(embeddings.shape, generator=rng)

    unet = recipe.build(sketch, scale)
    fit_residual(unet, *drawn(1024, torch.Generator().manual_seed(recipe.seed)))
    codec = codec_of(unet)
    # An error counts by its size in pixels, less steeply than its square: what is fine is seen, too.
    importance = (unet.deviation / unet.deviation.mean()).view(1, -1, 1, 1).to(device)

    def loss_of(model: SketchUNet, rng: torch.Generator) -> torch.Tensor:
        pictures, embeddings = drawn(recipe.batch, rng)
        clean = codec.encode(as_input(pictures), return_dict=False)[0].to(device)
        chance = torch.rand(recipe.batch, 2, generator=rng).to(device)
        embeddings = torch.where(chance[:, :1] < recipe.unconditional, 0.0, embeddings.to(device))
        place = recipe.timestep_mean + recipe.timestep_spread * torch.randn(recipe.batch, generator=rng)
        t = (place.sigmoid() * len(model.alphas_cumprod)).long().to(device)
        with torch.no_grad():
            mean, known, condition = model.condition(embeddings, clean.dtype)
            blurred = F.avg_pool2d(F.pad(mean, (1, 1, 1, 1), mode="replicate"), 3, 1)
            mean = torch.where((chance[:, 1] < recipe.softened)[:, None, None, None], blurred, mean)
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
