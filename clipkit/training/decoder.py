"""Train the diffusion decoder: from a CLIP image embedding to latents, for diffusers' KandinskyV22Pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, KandinskyV22Pipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import nn

from clipkit.generation.codec import PatchCodec
from clipkit.training.cache import draw
from clipkit.training.loop import Schedule, fit


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(Schedule):
    """The hyperparameters.

    The UNet predicts v (Salimans & Ho, "Progressive distillation", ICLR 2022) under the cosine schedule; the weight of
    a step is that of its SNR + 1, clipped at `snr_clip` (Hang et al., "Min-SNR", ICCV 2023, but never below 1: what a
    picture shows is decided where the noise is strong). `unconditional` of the pictures come without their embedding,
    for classifier-free guidance (Ho & Salimans, 2022). `from_text` come with the embedding that a linear prior makes
    of the caption instead of the picture's own, so that the decoder knows what priors give.

    `condition_dim` is the width in which time and embedding meet: which thing is on which side is not a linear function
    of a CLIP embedding (a linear probe reads both things of a pair from 56% of embeddings, a perceptron from 89%).

    Pictures of several things are drawn `crowded` times as often as others: one thing is learned long before two.

    Timesteps are drawn logit-normally with the deviation `timestep_spread` (Esser et al., "Scaling rectified flow
    transformers", ICML 2024): shapes are decided at medium noise, where uniform ones spend half of the training.
    """

    steps: int = 12000
    batch: int = 64
    learning_rate: float = 6e-4
    warmup: int = 200
    decay: float = 0.25
    weight_decay: float = 0.01
    ema: float = 0.999
    channels: tuple[int, ...] = (96, 192)
    layers_per_block: int = 1
    cross_attention_dim: int = 96
    condition_dim: int = 1024
    head_dim: int = 32
    unconditional: float = 0.1
    from_text: float = 0.35
    snr_clip: float = 5.0
    timesteps: int = 1000
    timestep_spread: float = 1.2
    crowded: float = 3.0

    def build(self, embedding_dim: int, latents: tuple[int, int, int]) -> UNet2DConditionModel:
        """An untrained UNet for latents (channels, height, width). Half of its output is the variance that the
        pipeline expects and that no sampler here reads."""
        torch.manual_seed(self.seed)
        channels, side, _ = latents
        return UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=2 * channels,
            down_block_types=("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * (len(self.channels) - 1),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D",) * (len(self.channels) - 1) + ("ResnetUpsampleBlock2D",),
            block_out_channels=self.channels,
            layers_per_block=self.layers_per_block,
            cross_attention_dim=self.cross_attention_dim,
            attention_head_dim=self.head_dim,
            resnet_time_scale_shift="scale_shift",
            time_embedding_dim=self.condition_dim,
            encoder_hid_dim=embedding_dim,
            encoder_hid_dim_type="image_proj",
            addition_embed_type="image",
        )

    @property
    def noise(self) -> DDPMScheduler:
        """The noise schedule that training adds noise by."""
        return DDPMScheduler(self.timesteps, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")

    @property
    def sampler(self) -> DPMSolverMultistepScheduler:
        """The sampler that ships with the decoder: DPM-Solver++ of second order (Lu et al., 2022)."""
        return DPMSolverMultistepScheduler.from_config(self.noise.config)


@dataclass(frozen=True)
class Scale:
    """Per-dimension mean and standard deviation of embeddings, by which the UNet sees them while it trains."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, embeddings: np.ndarray) -> Scale:
        x = torch.from_numpy(embeddings[:20000].astype(np.float32))
        return cls(x.mean(0), x.std(0).clamp_min(1e-6))

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        return (embeddings - self.mean) / self.std

    @torch.no_grad()
    def folded(self, unet: UNet2DConditionModel) -> UNet2DConditionModel:
        """The same UNet for embeddings as they are: the scale goes into the two layers that read them."""
        for layer in (unet.encoder_hid_proj.image_embeds, unet.add_embedding.image_proj):
            layer.bias.sub_(layer.weight @ (self.mean / self.std))
            layer.weight.div_(self.std)
        return unet

    @torch.no_grad()
    def unfolded(self, unet: UNet2DConditionModel) -> UNet2DConditionModel:
        """Undoes `folded`, so that a shipped UNet can be trained further."""
        for layer in (unet.encoder_hid_proj.image_embeds, unet.add_embedding.image_proj):
            layer.weight.mul_(self.std)
            layer.bias.add_(layer.weight @ (self.mean / self.std))
        return unet


def pipeline(unet: UNet2DConditionModel, recipe: DecoderRecipe, codec: PatchCodec) -> KandinskyV22Pipeline:
    """The stock pipeline around the parts."""
    diffusers_logging.set_verbosity_error()  # it remarks that the codec is not its own VQModel
    return KandinskyV22Pipeline(unet=unet, scheduler=recipe.sampler, movq=codec)


def train(
    recipe: DecoderRecipe,
    latents: np.ndarray,
    image_embeddings: np.ndarray,
    text_guesses: np.ndarray,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    evaluate: Callable[[UNet2DConditionModel], dict] | None = None,
    start: UNet2DConditionModel | None = None,
    compiled: bool = False,
    stop_at: int | None = None,
    things: np.ndarray | None = None,
) -> UNet2DConditionModel:
    """Trains on latents (n, c, h, w) and embeddings (n, d), of pictures and guessed from their captions; `things` (n,)
    is how many things each shows.

    Resumes from `work`, or begins with the weights of `start`, a shipped UNet. `evaluate` gets the UNet with averaged
    weights, ready for embeddings as they are.
    """
    unet = recipe.build(image_embeddings.shape[1], latents.shape[1:])
    noise, scale = recipe.noise, Scale.of(image_embeddings)
    if start is not None:
        unet.load_state_dict(scale.unfolded(start.float()).state_dict())
    alphas = noise.alphas_cumprod
    weights = ((1 / (1 - alphas)).clamp_max(recipe.snr_clip) * (1 - alphas)).to(device)
    zero = scale(torch.zeros(1, image_embeddings.shape[1]))
    forward = torch.compile(unet) if compiled else None
    chances = torch.ones(len(latents))
    if things is not None:
        chances[torch.from_numpy(things > 1)] = recipe.crowded

    def loss_of(model: nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.multinomial(chances, recipe.batch, replacement=True, generator=rng)
        clean = torch.from_numpy(draw(latents, rows)).float()
        own, guessed = (torch.from_numpy(draw(e, rows)).float() for e in (image_embeddings, text_guesses))
        chance = torch.rand(recipe.batch, 2, generator=rng)
        condition = scale(torch.where(chance[:, :1] < recipe.from_text, guessed, own))
        condition = torch.where(chance[:, 1:] < recipe.unconditional, zero, condition)
        eps = torch.randn(clean.shape, generator=rng)
        place = (recipe.timestep_spread * torch.randn(recipe.batch, generator=rng)).sigmoid()
        t = (place * recipe.timesteps).long()
        noisy, target = noise.add_noise(clean, eps, t), noise.get_velocity(clean, eps, t)
        x = noisy.to(device).contiguous(memory_format=torch.channels_last)
        out = (model if forward is None else forward)(
            x, t.to(device), None, added_cond_kwargs={"image_embeds": condition.to(device)}, return_dict=False
        )[0]
        error = (out[:, : clean.shape[1]].float() - target.to(device)).square().mean((1, 2, 3))
        return (error * weights[t.to(device)]).mean()

    def evaluate_folded(model: nn.Module) -> dict:
        copy = recipe.build(image_embeddings.shape[1], latents.shape[1:])
        copy.load_state_dict(model.state_dict())
        return evaluate(scale.folded(copy.eval())) if evaluate else {}

    fit(
        unet,
        recipe,
        loss_of,
        work / "decoder.pt",
        device=device,
        report=report,
        evaluate=evaluate_folded if evaluate else None,
        evaluate_every_s=480,
        stop_at=stop_at,
    )
    return scale.folded(unet)
