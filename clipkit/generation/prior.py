"""Priors: from a text embedding to an image embedding for a decoder."""

from __future__ import annotations

from typing import Protocol

import torch
from diffusers import DDIMScheduler, PriorTransformer
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from clipkit.generation.initialising import start_at_zero


class Prior(Protocol):
    """Maps text embeddings to image embeddings, both float32 (n, d), not normalised."""

    def predict(self, text_embeddings: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return image embeddings. `generator`: the source of noise; priors that predict the mean ignore it."""
        ...


class MlpPrior(ModelMixin, ConfigMixin):
    """A linear map plus a multilayer perceptron with `layers` hidden layers; the map alone if there are none.

    Predicts the mean of the image embeddings that match a text. Inputs are scaled to norm sqrt(d) first.
    """

    @register_to_config
    def __init__(self, embedding_dim: int = 256, width: int = 512, layers: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding_dim, embedding_dim)
        self.mlp = nn.Sequential(nn.Linear(embedding_dim, width), nn.SiLU())
        for _ in range(layers - 1):
            self.mlp.extend((nn.Linear(width, width), nn.SiLU()))
        self.mlp.append(nn.Linear(width, embedding_dim))
        start_at_zero(self.mlp[-1])
        if not layers:
            self.mlp = nn.Sequential()

    def forward(self, text_embeddings: torch.Tensor) -> torch.Tensor:
        x = nn.functional.normalize(text_embeddings, dim=-1) * text_embeddings.shape[-1] ** 0.5
        return self.linear(x) + self.mlp(x) if len(self.mlp) else self.linear(x)

    @torch.inference_mode()
    def predict(self, text_embeddings: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return self(text_embeddings.float())


class DiffusionPrior:
    """Sampling from diffusers' `PriorTransformer`: the diffusion prior of DALL-E 2 (Ramesh et al., 2022, section 2.2).

    It predicts the clean embedding; embeddings are normalised with the model's `clip_mean` and `clip_std`.
    """

    def __init__(self, model: PriorTransformer, *, steps: int = 20, guidance: float = 1.0) -> None:
        self.model, self.steps, self.guidance = model, steps, guidance

    @staticmethod
    def noise() -> DDIMScheduler:
        """Return the noise schedule: cosine, predicting the clean embedding."""
        return DDIMScheduler(
            1000,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="trailing",
        )

    @torch.inference_mode()
    def predict(self, text_embeddings: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        text = nn.functional.normalize(text_embeddings.float(), dim=-1) * text_embeddings.shape[-1] ** 0.5
        scheduler = self.noise()
        scheduler.set_timesteps(self.steps)
        x = torch.randn(text.shape, generator=generator)
        for t in scheduler.timesteps:
            clean = self.model(x, t, proj_embedding=text).predicted_image_embedding
            if self.guidance != 1.0:
                free = self.model(x, t, proj_embedding=torch.zeros_like(text)).predicted_image_embedding
                clean = free + self.guidance * (clean - free)
            x = scheduler.step(clean, t, x).prev_sample
        return self.model.post_process_latents(x)
